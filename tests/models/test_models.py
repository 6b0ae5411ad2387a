from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hpcfsl.errors import ConfigError
from hpcfsl.models import Model, models
from hpcfsl.models.split import cut_points, split

CASES = {
    "digits-cnn": ({"name": "digits-cnn"}, (1, 8, 8), 38282),
    "mlp": ({"name": "mlp"}, (20,), 3754),
    "mlp-image": ({"name": "mlp", "hidden": [5]}, (3, 4, 4), 305),
    "lenet5-28": ({"name": "lenet5"}, (1, 28, 28), 61706),
    "lenet5-32": ({"name": "lenet5"}, (3, 32, 32), 62006),
    "cifar-cnn": ({"name": "cifar-cnn"}, (3, 32, 32), 1626442),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    tree, shape, size = request.param
    model = models.parse(tree)
    return model, model.build(shape, 10), shape, size


def batch_of(shape: tuple[int, ...], size: int = 3) -> torch.Tensor:
    return torch.randn(size, *shape, generator=torch.Generator().manual_seed(4))


def test_size_and_logits(case):
    _, module, shape, size = case
    assert sum(parameter.numel() for parameter in module.parameters()) == size
    assert module(batch_of(shape)).shape == (3, 10)


def test_default_cut_is_a_cut_point(case):
    model, module, shape, size = case
    assert model.cut in cut_points(module)
    assert split(module, model.cut, shape).layout.size == size


def test_halves_compute_the_whole_at_every_cut(case):
    _, module, shape, _ = case
    inputs = batch_of(shape)
    for cut in [*cut_points(module), "none"]:
        model = split(module, cut, shape)
        weights = model.layout.unflatten(model.initial_weights(3))
        whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
        expected = torch.func.functional_call(module, whole, (inputs,))
        smashed = model.client_forward(weights, inputs)
        assert smashed.shape == (3, *model.smashed_shape)
        assert torch.equal(model.server_forward(weights, smashed), expected)
        assert torch.equal(model.forward(weights, inputs), expected)


def test_initial_weights_do_not_depend_on_the_cut(case):
    _, module, shape, _ = case
    whole = split(module, "none", shape).initial_weights(11)
    for cut in cut_points(module):
        # A chain's parameters come in the order of its layers, so the vectors are the same as well.
        assert torch.equal(split(module, cut, shape).initial_weights(11), whole)


def test_every_model_is_covered_and_documented():
    assert {tree["name"] for tree, _, _ in CASES.values()} == set(models.names())
    assert models.default in models.names()
    for name in models.names():
        for key, field in models.get(name).model_fields.items():
            assert field.description, (name, key)


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
