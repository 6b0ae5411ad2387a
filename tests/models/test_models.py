from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_cases import CASES, Case, classes, numbers, split_for, text

from hpcfsl.errors import ConfigError
from hpcfsl.models import Model, models
from hpcfsl.models.model import KINDS
from hpcfsl.models.split import cut_points, split


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_size_and_outputs(case):
    module = case.module()
    assert sum(parameter.numel() for parameter in module.parameters()) == case.size
    outputs = module(case.batch()[0])
    samples = case.samples
    wanted = samples.target_shape if samples.predicts == "numbers" else (*samples.target_shape, samples.num_outputs)
    assert outputs.shape == (3, *wanted)


def test_default_cut_is_a_cut_point(case):
    module, cut = case.module(), case.settings.cut
    assert cut in cut_points(module)
    assert case.split(cut, module).layout.size == case.size


def test_halves_compute_the_whole_at_every_cut(case):
    module, inputs = case.module().eval(), case.batch()[0]  # dropout without a mask passes everything on
    for cut in [*cut_points(module), "none"]:
        model = case.split(cut, module)
        weights = model.layout.unflatten(model.initial_weights(3))
        whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
        expected = torch.func.functional_call(module, whole, (inputs,))
        smashed = model.client_forward(weights, inputs)
        assert smashed.shape == (3, *model.smashed_shape)
        assert torch.equal(model.server_forward(weights, smashed), expected)
        assert torch.equal(model.forward(weights, inputs), expected)


def test_initial_weights_do_not_depend_on_the_cut(case):
    module = case.module()
    whole = case.split("none", module).initial_weights(11)
    for cut in cut_points(module):
        # A chain's parameters come in the order of its layers, so the vectors are the same as well.
        assert torch.equal(case.split(cut, module).initial_weights(11), whole)


def test_every_cut_point_is_explained(case):
    for cut in cut_points(case.module()):
        assert case.settings.explain_cut(cut), cut


@pytest.mark.parametrize("name", models.names())
def test_every_explained_cut_is_a_cut_point(name):
    found = [cut for case in CASES.values() if case.tree["name"] == name for cut in cut_points(case.module())]
    found += [cut for cut in cut_points(models.get(name)().make(models.get(name).example))]
    patterns = {re.sub(r"\d+$", "<k>", cut) for cut in found} | set(found)
    assert set(models.get(name).cuts) <= patterns
    for sentence in models.get(name).cuts.values():
        assert sentence.endswith(".")
        assert sentence[0].isupper()


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_a_kind_and_builds_for_its_example(name):
    model = models.get(name)()
    assert model.kind in KINDS[:-1]
    assert model.example is not None
    assert model.example.title
    module = model.make(model.example)
    assert split_for(module, model.cut, model.example).cut == model.cut
    told = re.search(r"([\d,]+) parameters", model.build.__doc__)
    assert told is None or told[1] == f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def test_models_are_of_four_kinds():
    assert {models.get(name).kind for name in models.names()} == set(KINDS[:-1])


def test_every_model_is_covered_and_documented():
    assert {case.tree["name"] for case in CASES.values()} == set(models.names())
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
        ({"name": "lstm-lm"}, (3, 4), "'lstm-lm': needs sequences of symbols [positions], the samples are [3, 4]"),
        ({"name": "transformer-lm"}, (3, 4), "'transformer-lm': needs sequences of symbols"),
        ({"name": "sentence-classifier"}, (3, 4), "'sentence-classifier': needs sequences of symbols"),
        ({"name": "resnet18"}, (3, 7, 9), "'resnet18': needs images [channels, height, width] of at least 8 x 8"),
        ({"name": "resnet18"}, (20,), "'resnet18': needs images"),
        ({"name": "resnet18", "groups": 5}, (3, 8, 8), "model.groups = 5: must divide model.width = 64; use a divisor"),
        ({"name": "speech-cnn1d"}, (9,), "'speech-cnn1d': needs sound, a wave [1, numbers] or frames [1, rows, steps]"),
        ({"name": "speech-cnn1d"}, (3, 8, 99), "needs sound, a wave [1, numbers] or frames"),
        ({"name": "speech-cnn1d"}, (1, 1099), "needs sound of 1100 steps or more, the samples are [1, 1099]; make"),
        ({"name": "speech-cnn1d"}, (1, 40, 15), "needs sound of 16 steps or more, the samples are [1, 40, 15]; make"),
        ({"name": "speech-cnn1d", "groups": 3}, (1, 40, 16), "model.groups = 3: must divide model.channels = 32"),
        ({"name": "speech-cnn2d"}, (1, 7, 40), "'speech-cnn2d': needs images [channels, height, width] of at least"),
        ({"name": "speech-gru"}, (1, 800), "needs the frames of a spectrum [1, rows, steps], the samples are [1, 800]"),
        ({"name": "speech-gru"}, (5,), "'speech-gru': needs sound, a wave"),
        (
            {"name": "gru-forecast"},
            (5,),
            "'gru-forecast': needs windows of a series [positions, features], the samples",
        ),
        (
            {"name": "tcn"},
            (1, 2, 3),
            "'tcn': needs windows of a series [positions, features], the samples are [1, 2, 3]",
        ),
        ({"name": "transformer-lm", "heads": 3}, (5,), "model.heads = 3: must divide model.width = 64; use a divisor"),
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


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("gru-lm", classes(7), "reads symbols, and the samples are numbers; choose text, or another model"),
        ("sentence-classifier", classes(7), "reads symbols, and the samples are numbers"),
        ("lstm-lm", text(7, 5, 3, each=False), "and the data have one a text; choose 'sentence-classifier'"),
        ("sentence-classifier", text(7, 5, 5), "the data have one at each position; choose 'gru-lm', 'lstm-lm' or"),
        ("mlp", text(7, 5, 5), "takes numbers, and the samples are symbols; choose 'sentence-classifier', 'gru-lm' or"),
        ("tcn", text(7, 5, 5), "takes numbers, and the samples are symbols"),
    ],
)
def test_data_of_another_kind_are_refused(name, samples, message):
    with pytest.raises(ConfigError) as caught:
        models.parse({"name": name}).make(samples)
    assert str(caught.value).startswith(f"model.name = '{name}': ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@st.composite
def any_case(draw):
    """A model of any kind, of any small size, for samples of any small shape."""

    def size(low, high):
        return draw(st.integers(low, high))

    count = size(1, 5)
    told = draw(st.sampled_from([classes, numbers]))
    kinds = {
        "digits-cnn": lambda: ({}, told(size(1, 3), size(2, 9), size(2, 9), count=count)),
        "cifar-cnn": lambda: ({}, told(size(1, 3), size(6, 9), size(6, 9), count=count)),
        "resnet18": lambda: (
            {"width": 2 * size(1, 2), "groups": 2},
            told(size(1, 3), size(8, 20), size(8, 20), count=count),
        ),
        "speech-cnn1d": lambda: (
            {"channels": 2 * size(1, 3), "groups": 2},
            told(1, size(1100, 1300), count=count) if size(0, 1) else told(1, size(1, 6), size(16, 40), count=count),
        ),
        "speech-cnn2d": lambda: (
            {"channels": size(1, 3), "hidden": size(1, 5)},
            told(1, size(8, 20), size(8, 20), count=count),
        ),
        "speech-gru": lambda: (
            {"hidden": size(1, 6), "layers": size(1, 2), "pool": draw(st.sampled_from(["mean", "last"]))},
            told(1, size(1, 6), size(1, 9), count=count),
        ),
        "gru-forecast": lambda: (
            {"hidden": size(1, 6), "layers": size(1, 2)},
            told(size(1, 9), size(1, 5), count=count),
        ),
        "tcn": lambda: (
            {"channels": size(1, 5), "blocks": size(1, 3), "kernel": size(2, 4)},
            told(size(1, 12), size(1, 5), count=count),
        ),
        "transformer-lm": lambda: (
            {"width": 2 * size(1, 4), "heads": 2, "hidden": size(1, 6), "layers": size(1, 3)},
            text(size(1, 8), size(2, 9), count),
        ),
        "lstm-lm": lambda: ({"hidden": size(1, 5), "layers": size(1, 3)}, text(size(1, 8), size(2, 9), count)),
        "sentence-classifier": lambda: (
            {"embedding": size(1, 6), "padding": size(-1, 3)},
            text(size(1, 8), size(2, 9), count, each=False),
        ),
    }
    name = draw(st.sampled_from(sorted(kinds)))
    tree, samples = kinds[name]()
    return Case(tree={"name": name, **tree}, samples=samples, size=0), size(0, 100)


@given(drawn=any_case())
@settings(max_examples=40, deadline=None)
def test_any_size_at_any_cut_computes_the_whole(drawn):
    case, place = drawn
    module = case.module()
    points = [*cut_points(module), "none"]
    model = case.split(points[place % len(points)], module)
    weights = model.layout.unflatten(model.initial_weights(3))
    inputs = case.batch()[0]
    whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    assert torch.equal(model.forward(weights, inputs), torch.func.functional_call(module, whole, (inputs,)))


def test_the_mean_of_a_text_leaves_its_padding_out():
    model = models.parse({"name": "sentence-classifier", "embedding": 3, "padding": 2}).build((4,), 2, 5)
    layer = model.mean
    rows = layer.embedding.weight
    found = layer(torch.tensor([[2, 2, 1, 4], [2, 2, 2, 2], [0, 1, 3, 4]]))
    torch.testing.assert_close(found[0], (rows[1] + rows[4]) / 2)
    assert torch.equal(found[1], torch.zeros(3))
    torch.testing.assert_close(found[2], rows[[0, 1, 3, 4]].mean(dim=0))


@pytest.mark.parametrize("name", ["transformer-lm", "tcn-causal", "gru-lm", "lstm-lm"])
def test_a_position_sees_none_after_it(name):
    if name == "tcn-causal":
        from hpcfsl.models.residual import CausalBlock

        module, inputs = CausalBlock(2, 64, 3, 2, 0.0), torch.arange(18.0).view(1, 2, 9)
        changed = inputs.clone()
        changed[..., 5:] += 1
        first, second = module(inputs).transpose(1, 2), module(changed).transpose(1, 2)
    else:
        module, inputs = models.parse({"name": name}).build((9,), 7), torch.arange(9)[None] % 7
        changed = inputs.clone()
        changed[:, 5:] = 1
        first, second = module(inputs), module(changed)
    torch.testing.assert_close(first[:, :5], second[:, :5])
    assert (first[:, 5:] != second[:, 5:]).any(dim=2).all()


def test_settings_need_no_torch():
    code = "import sys, hpcfsl.models as m; m.models.json_schema(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_must_say_how_it_is_built():
    with pytest.raises(AssertionError, match="every model defines build"):
        Model(cut="none").build((4,), 2)
