from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from hpcfsl.errors import ConfigError
from hpcfsl.models import Model, models
from hpcfsl.models.gru_lm import GruLm
from hpcfsl.models.split import cut_points, split

CASES = {
    "gru-lm": ({"name": "gru-lm", "hidden": 12}, (7,), 10 * 8 + 3 * 12 * (8 + 12 + 2) + 10 * 12 + 10),
    "digits-cnn": ({"name": "digits-cnn"}, (1, 8, 8), 38282),
    "mlp": ({"name": "mlp"}, (20,), 3754),
    "mlp-image": ({"name": "mlp", "hidden": [5]}, (3, 4, 4), 305),
    "lenet5-28": ({"name": "lenet5"}, (1, 28, 28), 61706),
    "lenet5-32": ({"name": "lenet5"}, (3, 32, 32), 62006),
    "cifar-cnn": ({"name": "cifar-cnn"}, (3, 32, 32), 1626442),
    "cifar-cnn-dropout": ({"name": "cifar-cnn", "dropout1": 0.25, "dropout2": 0.5}, (3, 10, 10), 94538),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    tree, shape, size = request.param
    model = models.parse(tree)
    return model, model.build(shape, 10), shape, size


def kind_of(model: Model, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what `split` is told of data of 10 classes: a language model has one at each position."""
    return {"target_shape": shape, "vocabulary": 10} if isinstance(model, GruLm) else {}


def batch_of(model: Model, shape: tuple[int, ...], size: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    if isinstance(model, GruLm):
        return torch.randint(10, (size, *shape), generator=generator)
    return torch.randn(size, *shape, generator=generator)


def test_size_and_logits(case):
    model, module, shape, size = case
    assert sum(parameter.numel() for parameter in module.parameters()) == size
    assert module(batch_of(model, shape)).shape == (3, *kind_of(model, shape).get("target_shape", ()), 10)


def test_default_cut_is_a_cut_point(case):
    model, module, shape, size = case
    assert model.cut in cut_points(module)
    assert split(module, model.cut, shape, **kind_of(model, shape)).layout.size == size


def test_halves_compute_the_whole_at_every_cut(case):
    settings, module, shape, _ = case
    inputs = batch_of(settings, shape)
    module.eval()  # dropout without a mask passes everything on
    for cut in [*cut_points(module), "none"]:
        model = split(module, cut, shape, **kind_of(settings, shape))
        weights = model.layout.unflatten(model.initial_weights(3))
        whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
        expected = torch.func.functional_call(module, whole, (inputs,))
        smashed = model.client_forward(weights, inputs)
        assert smashed.shape == (3, *model.smashed_shape)
        assert torch.equal(model.server_forward(weights, smashed), expected)
        assert torch.equal(model.forward(weights, inputs), expected)


def test_initial_weights_do_not_depend_on_the_cut(case):
    settings, module, shape, _ = case
    kind = kind_of(settings, shape)
    whole = split(module, "none", shape, **kind).initial_weights(11)
    for cut in cut_points(module):
        # A chain's parameters come in the order of its layers, so the vectors are the same as well.
        assert torch.equal(split(module, cut, shape, **kind).initial_weights(11), whole)


def test_every_model_is_covered_and_documented():
    assert {tree["name"] for tree, _, _ in CASES.values()} == set(models.names())
    assert models.default in models.names()
    for name in models.names():
        for key, field in models.get(name).model_fields.items():
            assert field.description, (name, key)


@pytest.mark.parametrize(
    ("tree", "dropouts"),
    [({}, {}), ({"dropout2": 0.5}, {"dropout2": 0.5}), ({"dropout1": 0.25}, {"dropout1": 0.25})],
)
def test_dropout_of_the_cifar_cnn_is_a_layer_only_where_it_drops(tree, dropouts):
    layers = dict(models.parse({"name": "cifar-cnn", **tree}).build((3, 8, 8), 10).named_children())
    assert {name: layer.p for name, layer in layers.items() if "dropout" in name} == dropouts
    assert len(layers) == 9 + len(dropouts)


@pytest.mark.parametrize(
    ("shape", "kind", "text"),
    [
        ((7,), {}, "model = 'Sequential': cannot take numbers of shape [7] (Expected tensor for argument #1"),
        ((7,), {"vocabulary": 11, "target_shape": (7,)}, "cannot take samples of shape [7] (index out of range"),
        ((7,), {"vocabulary": 10}, "returns a tensor [2, 7, 10] for 2 samples; return logits [2, classes]"),
        ((7,), {"vocabulary": 10, "target_shape": (6,)}, "return logits [2, 6, classes]"),
    ],
)
def test_a_language_model_is_refused_for_other_data(shape, kind, text):
    with pytest.raises(ConfigError) as caught:
        split(models.parse({"name": "gru-lm"}).build((7,), 10), "gru", shape, **kind)
    assert text in str(caught.value)


def test_cut_none_keeps_everything_on_the_client():
    model = split(models.parse({}).build((1, 8, 8), 10), "none", (1, 8, 8))
    assert model.layout.client_size == model.layout.size
    assert model.smashed_shape == (10,)
    assert all(name.startswith("client.") for name in model.layout.names)


def test_mlp_without_hidden_layers_is_logistic_regression():
    model = models.parse({"name": "mlp", "hidden": [], "cut": "none"})
    module = model.build((6,), 3)
    assert cut_points(module) == []
    assert split(module, model.cut, (6,)).layout.shapes == ((3, 6), (3,))


@pytest.mark.parametrize(
    ("tree", "shape", "text"),
    [
        (
            {"name": "digits-cnn"},
            (20,),
            "model.name = 'digits-cnn': needs images [channels, height, width] of at least",
        ),
        ({"name": "digits-cnn"}, (1, 8, 1), "of at least 2 x 2, the samples are [1, 8, 1]; choose 'mlp' or other data"),
        ({"name": "cifar-cnn"}, (3, 5, 32), "of at least 6 x 6"),
        ({"name": "lenet5"}, (1, 8, 8), "of at least 28 x 28, the samples are [1, 8, 8]; choose"),
        (
            {"name": "gru-lm"},
            (3, 4),
            "model.name = 'gru-lm': needs sequences of symbols [positions], the samples are [3",
        ),
        ({"name": "lenet5"}, (1, 28, 32), "needs images of 28 x 28 or 32 x 32, the samples are 28 x 32; choose"),
    ],
)
def test_samples_of_the_wrong_shape_are_refused(tree, shape, text):
    with pytest.raises(ConfigError) as caught:
        models.parse(tree).build(shape, 10)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"name": "mpl"}, "model.name = 'mpl'"),
        ({"name": "mlp", "hidden": [0]}, "model.hidden.0 = 0"),
        ({"name": "mlp", "cut": ""}, "model.cut = ''"),
        ({"name": "mlp", "width": 3}, "model.width = 3"),
    ],
)
def test_bad_settings_are_refused(tree, key):
    with pytest.raises(ConfigError) as caught:
        models.parse(tree)
    assert str(caught.value).startswith(key)


def test_settings_need_no_torch():
    code = "import sys, hpcfsl.models as m; m.models.json_schema(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_must_say_how_it_is_built():
    with pytest.raises(NotImplementedError):
        Model(cut="none").build((4,), 2)
