from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hpcfsl.errors import ConfigError
from hpcfsl.models import models
from hpcfsl.models.split import cut_points, split

DIGITS = models.parse({"name": "digits-cnn"})


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers, start=1)))


def error_of(module: nn.Module, cut: str, shape: tuple[int, ...] = (4,)) -> str:
    with pytest.raises(ConfigError) as caught:
        split(module, cut, shape)
    text = str(caught.value)
    assert "\n" not in text
    return text


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_any_chain_at_any_cut_computes_the_whole(widths, seed, batch):
    layers: list[nn.Module] = []
    for inward, outward in pairwise(widths):
        layers += [nn.Linear(inward, outward), nn.Tanh()]
    module = chain(*layers)
    inputs = torch.randn(batch, widths[0], generator=torch.Generator().manual_seed(1))
    for cut in [*cut_points(module), "none"]:
        model = split(module, cut, (widths[0],))
        weights = model.layout.unflatten(model.initial_weights(seed))
        whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
        assert torch.equal(model.forward(weights, inputs), torch.func.functional_call(module, whole, (inputs,)))


@given(seed=st.integers(0, 2**32 - 1), noise=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_initial_weights_are_keyed_and_leave_the_random_state_alone(seed, noise):
    torch.manual_seed(noise)
    module = DIGITS.build((1, 8, 8), 10)
    before = torch.get_rng_state()
    model = split(module, "relu1", (1, 8, 8))
    weights = model.initial_weights(seed)
    assert torch.equal(before, torch.get_rng_state())
    assert weights.dtype == torch.float32
    assert weights.shape == (model.layout.size,)
    assert not weights.requires_grad
    torch.manual_seed(noise + 1)
    other = split(DIGITS.build((1, 8, 8), 10), "pool", (1, 8, 8))
    assert torch.equal(weights, other.initial_weights(seed))
    assert not torch.equal(weights, other.initial_weights((seed + 1) % 2**32))


def test_split_leaves_the_given_module_alone():
    module = chain(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = split(module, "layer1", (4,))
    model.initial_weights(5)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert module.layer2.inplace
    assert not module.training


def test_inplace_layers_keep_the_smashed_data():
    model = split(chain(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)), "layer1", (4,))
    weights = model.layout.unflatten(model.initial_weights(5))
    smashed = model.client_forward(weights, torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))
    kept = smashed.clone()
    model.server_forward(weights, smashed)
    assert (kept < 0).any()
    assert torch.equal(kept, smashed)


def test_each_half_needs_its_own_weights_only():
    model = split(DIGITS.build((1, 8, 8), 10), "pool", (1, 8, 8))
    weights = model.layout.unflatten(model.initial_weights(0))
    client = {name: tensor for name, tensor in weights.items() if name.startswith("client.")}
    server = {name: tensor for name, tensor in weights.items() if name.startswith("server.")}
    inputs = torch.ones(2, 1, 8, 8)
    smashed = model.client_forward(client, inputs)
    assert torch.equal(model.server_forward(server, smashed), model.forward(weights, inputs))
    with pytest.raises(KeyError, match="server"):
        model.server_forward(client, smashed)


def test_many_clients_at_once_and_gradients_reach_the_flat_vector():
    model = split(DIGITS.build((1, 8, 8), 10), "relu1", (1, 8, 8))
    vectors = torch.stack([model.initial_weights(seed) for seed in (1, 2)])
    inputs = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    def loss(vector: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        return model.forward(model.layout.unflatten(vector), samples).square().mean()

    together = torch.func.vmap(torch.func.grad(loss))(vectors, inputs)
    alone = torch.stack([torch.func.grad(loss)(v, x) for v, x in zip(vectors, inputs, strict=True)])
    torch.testing.assert_close(together, alone)
    assert (model.layout.client_half(together) != 0).any(dim=-1).all()


def test_nested_chains_are_cut_inside():
    features = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6))
    module = nn.Sequential(OrderedDict(features=features, head=nn.Linear(6, 2)))
    assert cut_points(module) == ["features.0", "features.1", "features.2", "features"]
    model = split(module, "features.1", (4,))
    assert model.layout.names == (
        "client.features.0.weight",
        "client.features.0.bias",
        "server.features.2.weight",
        "server.features.2.bias",
        "server.head.weight",
        "server.head.bias",
    )
    assert torch.equal(model.initial_weights(2), split(module, "none", (4,)).initial_weights(2))
    ends = [split(module, cut, (4,)) for cut in ("features.2", "features")]
    assert ends[0].layout == ends[1].layout


def test_weights_tied_within_a_half_are_one_parameter():
    first = nn.Linear(4, 4)
    module = chain(first, nn.ReLU(), first, nn.Linear(4, 2))
    model = split(module, "layer3", (4,))
    assert model.layout.names == (
        "client.layer1.weight",
        "client.layer1.bias",
        "server.layer4.weight",
        "server.layer4.bias",
    )
    weights = model.layout.unflatten(model.initial_weights(1))
    inputs = torch.ones(2, 4)
    hidden = inputs
    for _ in range(2):
        hidden = nn.functional.linear(hidden.relu(), weights["client.layer1.weight"], weights["client.layer1.bias"])
    assert torch.equal(model.client_forward(weights, inputs), hidden)
    assert (
        "model.cut = 'layer1': parameter 'layer1.weight' would be on both sides; choose one of layer3, none"
        in error_of(module, "layer1")
    )


def test_unknown_cut_lists_the_choices():
    module = DIGITS.build((1, 8, 8), 10)
    assert error_of(module, "relu9", (1, 8, 8)) == (
        "model.cut = 'relu9': unknown; did you mean 'relu3'? choose one of conv1, relu1, conv2, relu2, pool, flatten, "
        "linear1, relu3, none"
    )


def test_cuts_with_nothing_to_train_on_one_side_are_refused():
    module = chain(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert cut_points(module) == ["layer2", "layer3"]
    assert "leaves the client nothing to train; choose one of layer2, layer3, none" in error_of(module, "layer1")
    assert "leaves the server nothing to train" in error_of(module, "layer4")


class Ticker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ticks", torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.ticks += 1
        return inputs


class Noisy(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + torch.rand_like(inputs)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.scale


class InPlace(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.add_(1)


class Pair(nn.Module):
    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs, inputs


class First(nn.Module):
    def forward(self, inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return inputs[0]


FROZEN = nn.Linear(4, 4)
FROZEN.weight.requires_grad = False


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm1d(4), "model = 'layer2 (BatchNorm1d)': normalises by statistics of the batch"),
        (nn.BatchNorm1d(4, track_running_stats=False), "use GroupNorm"),
        (nn.InstanceNorm1d(4, track_running_stats=True), "keeps running statistics; use GroupNorm"),
        (nn.Dropout(1.0), "model = 'layer2 (Dropout)': drops everything; set p below 1"),
        (
            nn.AlphaDropout(0.5),
            "model = 'layer2 (AlphaDropout)': draws random numbers that no key decides; use nn.Dropout, leave it out",
        ),
        (
            nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1),
            "model = 'layer2.self_attn (MultiheadAttention)': drops by random numbers that no key decides; set",
        ),
        (nn.RReLU(), "model = 'Sequential': draws random numbers that no key decides"),
        (Noisy(), "draws random numbers that no key decides"),
        (Ticker(), "model = 'layer2.ticks': is a buffer that forward changes"),
        (Bare(), "model = 'layer2.scale': is not set by the seed; set it in its layer's reset_parameters method"),
        (FROZEN, "model = 'layer2.weight': is frozen"),
        (
            nn.Linear(4, 4, dtype=torch.float64),
            "model = 'layer2.weight': is torch.float64; build the model in torch.float32",
        ),
        (nn.LazyLinear(4), "model = 'layer2.weight': has no shape yet"),
        (nn.Linear(5, 4), "model = 'Sequential': cannot take samples of shape [4] (mat1 and mat2 shapes"),
        (InPlace(), "model.cut = 'layer1': forward changes tensors in place"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_layers_that_cannot_be_used_are_refused(layer, text):
    assert text in error_of(chain(nn.Linear(4, 4), layer, nn.Linear(4, 2)), "layer1")


def test_inputs_changed_in_place_are_refused():
    assert "forward changes tensors in place" in error_of(chain(InPlace(), nn.Linear(4, 2)), "none")


def test_harmless_norms_and_dropout_are_taken():
    layers = [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Dropout(0.0), nn.Linear(4, 2)]
    assert split(chain(nn.Linear(4, 4), *layers), "layer3", (4,)).smashed_shape == (4,)
    module = chain(nn.Conv1d(4, 4, 1), nn.InstanceNorm1d(4, affine=True), nn.Flatten(), nn.Linear(12, 2))
    assert split(module, "layer2", (4, 3)).smashed_shape == (4, 3)


def test_outputs_that_are_no_logits_are_refused():
    assert "returns a tensor [2, 4, 2] for 2 samples; return logits [2, classes]" in error_of(
        chain(nn.Linear(4, 2)), "none", (4, 4)
    )
    assert "returns a tuple" in error_of(chain(nn.Linear(4, 2), Pair()), "none")


def test_cuts_that_pass_on_no_tensor_are_refused():
    module = chain(nn.Linear(4, 3), Pair(), First(), nn.Linear(3, 2))
    assert "model.cut = 'layer2': passes on a tuple for 2 samples" in error_of(module, "layer2")
    module = chain(nn.Linear(4, 3), nn.Flatten(0), nn.Unflatten(0, (-1, 3)), nn.Linear(3, 2))
    assert "passes on a tensor [6] for 2 samples" in error_of(module, "layer2")


def test_models_without_parameters_are_refused():
    assert "model = 'Flatten': has no parameters to train" in error_of(nn.Flatten(), "none")


def test_errors_name_the_given_key():
    with pytest.raises(ConfigError, match=r"^net\.place = 'x': unknown"):
        split(chain(nn.Linear(4, 3), nn.Linear(3, 2)), "x", (4,), key="net.place")
    with pytest.raises(ConfigError, match=r"^net = 'Flatten'"):
        split(nn.Flatten(), "none", (4,), key="net")


def test_not_a_number_is_equal_to_itself_in_the_trial():
    class Root(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return (-1 - inputs).sqrt()

    assert split(chain(Root(), nn.Linear(4, 3), nn.Linear(3, 2)), "layer2", (4,)).smashed_shape == (3,)
