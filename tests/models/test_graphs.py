from __future__ import annotations

import pytest
import torch
from torch import nn

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import cut_points, split


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.relu(inputs + self.conv2(self.relu(self.norm(self.conv1(inputs)))))


class Residual(nn.Module):
    """A small residual network; layers are registered in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Sequential(Block(4), Block(4))
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.body(self.stem(inputs)).mean(dim=(2, 3))
        return self.head(hidden.reshape(hidden.shape[0], -1))


class Scaled(nn.Module):
    """Parameters and constants of its own."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.scale = nn.Parameter(torch.empty(4))
        self.register_buffer("shift", torch.arange(4.0))
        self.layer1 = nn.Linear(4, 4)
        self.layer2 = nn.Linear(4, 4)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale, 0.5, 1.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.layer1(inputs * self.scale + self.shift)
        return self.layer2(hidden * self.scale + self.shift if self.shared else hidden + self.shift)


class Branching(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer1, self.layer2, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
        self.spare = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.kind == "skip":
            return self.layer2(self.act(self.layer1(inputs))) + inputs
        if self.kind == "values":
            return self.layer2(self.layer1(inputs)) if inputs.sum() > 0 else self.layer2(inputs)
        if self.kind == "twice":
            return self.act(self.layer2(self.act(self.layer1(inputs))))
        hidden = self.layer1(inputs)
        hidden.add_(1)
        return self.layer2(hidden)


class TwoArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.layer2(self.layer1(inputs) * scale)


class Prompted(nn.Module):
    """A constant made in forward, and a layer that never sees the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt, self.layer1, self.layer2 = nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.layer1(inputs) + self.prompt(torch.tensor([2.0])))


class Counting(nn.Sequential):
    """A Sequential with a forward of its own is traced."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) * 2


def error_of(module: nn.Module, cut: str, shape: tuple[int, ...] = (4,)) -> str:
    with pytest.raises(ConfigError) as caught:
        split(module, cut, shape)
    text = str(caught.value)
    assert text.startswith(f"model.cut = {cut!r}: ")
    assert "\n" not in text
    return text


def test_cut_points_of_a_residual_network():
    # Inside a block the shortcut crosses too, and the block's own relu is called twice.
    assert cut_points(Residual()) == ["stem", "body.0", "body.1", "body"]


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Residual(), (1, 6, 6)),
        (Scaled(shared=False), (4,)),
        (Branching("twice"), (4,)),
        (Prompted(), (4,)),
        (Counting(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_halves_compute_the_whole_at_every_cut(module, shape):
    inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(4))
    cuts = cut_points(module)
    assert cuts
    reference = split(module, "none", shape)
    weights = reference.layout.unflatten(reference.initial_weights(9))
    whole = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    expected = reference.forward(weights, inputs)
    assert torch.equal(expected, torch.func.functional_call(module, whole, (inputs,)))
    for cut in cuts:
        model = split(module, cut, shape)
        cut_weights = model.layout.unflatten(model.initial_weights(9))
        for name, tensor in cut_weights.items():
            assert torch.equal(tensor, whole[name.partition(".")[2]])
        assert torch.equal(model.forward(cut_weights, inputs), expected)
        assert model.client_forward(cut_weights, inputs).shape == (3, *model.smashed_shape)


def test_layout_keeps_the_order_of_the_module_and_drops_what_never_runs():
    model = split(Residual(), "body.0", (1, 6, 6))
    client = [name for name in model.layout.names if name.startswith("client.")]
    server = [name for name in model.layout.names if name.startswith("server.")]
    assert list(model.layout.names) == client + server
    assert client[:3] == ["client.stem.weight", "client.stem.bias", "client.body.0.conv1.weight"]
    assert server[:3] == ["server.head.weight", "server.head.bias", "server.body.1.conv1.weight"]
    assert not any("unused" in name for name in model.layout.names)
    assert model.layout.client_size == sum(
        torch.Size(shape).numel()
        for name, shape in zip(model.layout.names, model.layout.shapes, strict=True)
        if name in client
    )


def test_gradients_of_a_traced_model_for_many_clients():
    model = split(Residual(), "body.0", (1, 6, 6))
    vectors = torch.stack([model.initial_weights(seed) for seed in (1, 2)])
    inputs = torch.randn(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(1))

    def loss(vector: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        return model.forward(model.layout.unflatten(vector), samples).square().mean()

    together = torch.func.vmap(torch.func.grad(loss))(vectors, inputs)
    alone = torch.stack([torch.func.grad(loss)(v, x) for v, x in zip(vectors, inputs, strict=True)])
    torch.testing.assert_close(together, alone)


def test_own_parameters_stay_on_their_side_and_constants_go_to_both():
    model = split(Scaled(shared=False), "layer1", (4,))
    assert model.layout.names[0] == "client.scale"
    assert dict(model.server_half.named_buffers())["shift"].tolist() == [0, 1, 2, 3]


def test_parameters_on_both_sides_are_refused():
    module = Scaled(shared=True)
    assert cut_points(module) == []
    assert "parameter 'scale' would be on both sides; choose one of none" in error_of(module, "layer1")


def test_more_than_one_tensor_across_the_cut_is_refused():
    text = error_of(Branching("skip"), "layer1")
    assert "more than one tensor would cross the cut (inputs too); choose one of none" in text
    assert "more than one tensor would cross the cut" in error_of(Residual(), "body.0.conv1", (1, 6, 6))


def test_layers_not_called_exactly_once_are_refused():
    assert "is called 2 times, not once; choose one of layer1, none" in error_of(Branching("twice"), "act")
    assert "is called 0 times" in error_of(Branching("twice"), "spare")


def test_layers_that_never_see_the_samples_are_refused():
    module = Prompted()
    before = set(vars(module))
    assert cut_points(module) == ["layer1"]
    assert set(vars(module)) == before
    assert "does not depend on the samples; choose one of layer1, none" in error_of(module, "prompt")


def test_unknown_layers_are_refused():
    text = error_of(Branching("twice"), "layer3")
    assert "unknown; did you mean 'layer1'? choose one of layer1, none" in text
    assert "unknown; choose one of" in error_of(Branching("twice"), "")


def test_modules_that_cannot_be_traced_are_refused_and_may_stay_whole():
    module = Branching("values")
    assert cut_points(module) == []
    assert "torch.fx cannot trace Branching (symbolically traced variables" in error_of(module, "layer1")
    assert split(module, "none", (4,)).smashed_shape == (4,)


def test_modules_with_two_arguments_are_refused():
    assert "forward of TwoArguments takes more than one argument" in error_of(TwoArguments(), "layer1")


def test_changes_that_tracing_loses_are_refused():
    assert "forward changes tensors in place" in error_of(Branching("in place"), "layer1")


def test_last_layer_leaves_the_server_nothing():
    assert "leaves the server nothing to train" in error_of(Residual(), "head", (1, 6, 6))
