"""Each stacked layer against the layer itself, client after client: outputs and all gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hpcfsl.models.recurrent import Gru, Lstm
from hpcfsl.models.transformer import Positions
from hpcfsl.training.stacked.layers import stacked_layer

CLIENTS, BATCH = 3, 2
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear-without-bias": (lambda: nn.Linear(4, 3, bias=False), (4,)),
    "linear-at-positions": (lambda: nn.Linear(4, 3), (5, 2, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), (2, 7)),
    "conv1d-of-all-options": (
        lambda: nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2, bias=False, padding_mode="reflect"),
        (2, 9),
    ),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "conv2d-of-all-options": (lambda: nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 1), (2, 1), 2), (4, 6, 7)),
    "conv2d-same": (lambda: nn.Conv2d(1, 2, 3, padding="same"), (1, 6, 6)),
    "group-norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
    "group-norm-without-scale": (lambda: nn.GroupNorm(2, 4, affine=False), (4, 3)),
    "instance-norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 4)),
    "layer-norm": (lambda: nn.LayerNorm(4), (5, 4)),
    "layer-norm-of-two": (lambda: nn.LayerNorm((3, 4), bias=False), (2, 3, 4)),
    "rms-norm": (lambda: nn.RMSNorm(4), (5, 4)),
    "gru": (lambda: Gru(3, 4), (6, 3)),
    "lstm": (lambda: Lstm(3, 4), (6, 3)),
    "positions": (lambda: Positions(5, 4), (5, 4)),
    "torch-gru": (lambda: nn.GRU(3, 4, num_layers=2, bias=False, batch_first=True), (6, 3)),
}


def perturb(layer: nn.Module) -> dict[str, Tensor]:
    """Return parameters of three clients, [clients, ...] by name, that are neither ones nor zeros."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn((CLIENTS, *parameter.shape), generator=generator)
        for name, parameter in layer.named_parameters()
    }


def first_of(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def check(layer: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> None:
    """Compare outputs and gradients; `inputs` are [clients, batch, ...]."""
    function = stacked_layer(layer)
    assert function is not None
    weights = {name: each.requires_grad_() for name, each in perturb(layer).items()}
    wanted_leaves = {name: each.detach().clone().requires_grad_() for name, each in weights.items()}
    folds = {id(each): each.detach().flatten(0, 1).requires_grad_(each.is_floating_point()) for each in inputs}
    folded = [folds[id(each)] for each in inputs]  # what is one tensor stays one
    found = first_of(function(layer, weights, *folded, **options)).unflatten(0, (CLIENTS, BATCH))
    wanted = torch.stack(
        [
            first_of(
                functional_call(
                    layer,
                    {name: each[row] for name, each in wanted_leaves.items()},
                    tuple(x[row] for x in inputs),
                    options,
                )
            )
            for row in range(CLIENTS)
        ]
    )
    np.testing.assert_allclose(found.detach(), wanted.detach(), rtol=1e-4, atol=1e-5)
    seeds = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    leaves = [each for each in folds.values() if each.requires_grad]
    found_gradients = torch.autograd.grad((found * seeds).sum(), [*weights.values(), *leaves])
    sources = [each for each in {id(each): each for each in inputs}.values() if each.requires_grad]
    wanted_gradients = torch.autograd.grad((wanted * seeds).sum(), [*wanted_leaves.values(), *sources])
    for one, other in zip(found_gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(one, other.reshape(one.shape), rtol=1e-3, atol=2e-5)


def numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn((CLIENTS, BATCH, *shape), generator=generator).requires_grad_()


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers_of_numbers(name: str) -> None:
    build, shape = LAYERS[name]
    layer = build()
    if next(layer.parameters(), None) is None:
        function = stacked_layer(layer)
        assert function is not None
        inputs = numbers(*shape).flatten(0, 1)
        assert torch.equal(function(layer, {}, inputs), layer(inputs))
    else:
        check(layer, (numbers(*shape),))


def test_embedding() -> None:
    check(nn.Embedding(7, 3), (torch.randint(0, 7, (CLIENTS, BATCH, 4)),))


def test_the_last_states_of_a_gru() -> None:
    layer = nn.GRU(3, 4, num_layers=2, batch_first=True)
    function = stacked_layer(layer)
    assert function is not None
    one = {name: parameter[None] for name, parameter in layer.named_parameters()}
    inputs = numbers(6, 3).flatten(0, 1)
    np.testing.assert_allclose(
        function(layer, one, inputs)[1].detach(), layer(inputs)[1].detach(), rtol=1e-4, atol=1e-6
    )


class TestAttention:
    def layer(self, **options: Any) -> nn.MultiheadAttention:
        return nn.MultiheadAttention(6, 2, batch_first=True, **options)

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("need_weights", [True, False])
    def test_self_attention_with_masks(self, bias: bool, need_weights: bool) -> None:
        inputs = numbers(4, 6)
        causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
        check(self.layer(bias=bias), (inputs, inputs, inputs), attn_mask=causal, need_weights=need_weights)

    def test_attention_to_something_else(self) -> None:
        check(self.layer(), (numbers(4, 6), numbers(5, 6), numbers(5, 6)))

    def test_absent_positions_and_shares(self) -> None:
        layer = self.layer()
        function = stacked_layer(layer)
        assert function is not None
        one = {name: parameter[None] for name, parameter in layer.named_parameters()}
        inputs = numbers(4, 6).flatten(0, 1)
        options: dict[str, Any] = {
            "key_padding_mask": torch.arange(4).expand(6, 4) >= torch.tensor([4, 3, 2, 1, 4, 3])[:, None],
            "attn_mask": torch.randn(6 * 2, 4, 4),
            "average_attn_weights": False,
        }
        # torch wants both masks of one kind.
        padding = torch.zeros(6, 4).masked_fill(options["key_padding_mask"], float("-inf"))
        found = function(layer, one, inputs, inputs, inputs, **options)
        wanted = layer(inputs, inputs, inputs, **{**options, "key_padding_mask": padding})
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine.detach(), theirs.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(5, 2, padding_idx=0),
        nn.GRU(3, 4),
        nn.GRU(3, 4, batch_first=True, bidirectional=True),
        nn.MultiheadAttention(6, 2),
        nn.MultiheadAttention(6, 2, batch_first=True, kdim=4),
        nn.LSTM(3, 4),
    ],
)
def test_what_no_stacked_layer_computes_is_left_to_others(layer: nn.Module) -> None:
    assert stacked_layer(layer) is None


def test_a_subclass_is_not_taken_for_its_base() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    assert stacked_layer(Doubled(2, 2)) is None
