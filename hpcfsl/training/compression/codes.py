"""Carrying a code over the cut, there and back.

The way up: the server's half gets what it would decode. The way down: the rounding has no useful derivative, so the cut
gradient passes it as if it were not there (the straight-through estimator: Bengio, Leonard and Courville, "Estimating
or propagating gradients through stochastic neurons for conditional computation", arXiv:1308.3432, 2013), coded on its
way if asked. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from hpcfsl.models.link import NUMBER_BYTES, Link


class Code(Protocol):
    """A code for the numbers of one sample."""

    def decoded(self, values: Tensor) -> Tensor:
        """Return what the other side makes of float32 [samples, features]; each sample depends on itself alone."""
        ...

    def bytes(self, features: int) -> int:
        """Return what one sample takes on the wire."""
        ...


class CodedLink(Link):
    """Codes the smashed data, and the cut gradients too if asked.

    Args:
        code: Of both.
        gradients: Whether cut gradients are coded; they cross as they are otherwise.
    """

    def __init__(self, code: Code, *, gradients: bool) -> None:
        super().__init__()
        self.code, self.gradients = code, gradients

    def forward(self, smashed: Tensor) -> Tensor:
        """Return what the server decodes of smashed data [samples, *features]."""
        coded: Tensor = _StraightThrough.apply(smashed, self.code.decoded, self.gradients)
        return coded

    def up_bytes(self, features: int) -> int:
        """Return the bytes of one sample's code."""
        return self.code.bytes(features)

    def down_bytes(self, features: int) -> int:
        """Return the bytes of one sample's coded gradient, or of the gradient as it is."""
        return self.code.bytes(features) if self.gradients else NUMBER_BYTES * features


class _StraightThrough(torch.autograd.Function):
    """Codes on the way up, and on the way down if asked; vmap takes it for the plain function of tensors it is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, decoded: Callable[[Tensor], Tensor], both_ways: bool) -> Tensor:
        return by_sample(decoded, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.decoded, ctx.both_ways = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        return by_sample(ctx.decoded, gradient) if ctx.both_ways else gradient, None, None


def by_sample(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Return a function of float32 [samples, features], for values [samples, ...] of any float type and shape."""
    rows = values.reshape(values.shape[0], -1).float()
    return function(rows).reshape(values.shape).to(values.dtype)
