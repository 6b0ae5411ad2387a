"""Some of a model's parameters as a vector of their own, and the others as another: what is personal, what is shared.

Layer 1. Both keep the order of the layout. Everything works on the last dimension, so a vector and a stack of vectors
are the same to it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hpcfsl.models.layout import Layout


class Part:
    """The parameters of a layout that have certain names.

    Args:
        layout: The layout.
        names: Names that are in it.

    Attributes:
        names: The names, in the order of the layout.
        size: How many numbers they hold.
        rest_size: How many numbers the others hold.
    """

    def __init__(self, layout: Layout, names: Iterable[str]) -> None:
        chosen = set(names)
        assert chosen <= set(layout.names), "every name is in the layout"
        self.names = tuple(name for name in layout.names if name in chosen)
        self._layout = layout
        self._own, self._others = (_runs(layout, kept) for kept in (chosen, set(layout.names) - chosen))
        self.size, self.rest_size = _length(self._own), _length(self._others)

    def take(self, vectors: Tensor) -> Tensor:
        """Return the part [..., size] of vectors [..., params], a copy."""
        return _cut(vectors, self._own)

    def take_rest(self, vectors: Tensor) -> Tensor:
        """Return the rest [..., rest_size] of vectors [..., params], a copy."""
        return _cut(vectors, self._others)

    def put(self, vectors: Tensor, part: Tensor | float) -> None:
        """Write the part [..., size], or one number, into vectors [..., params], in place."""
        _paste(vectors, part, self._own)

    def put_rest(self, vectors: Tensor, rest: Tensor) -> None:
        """Write the rest [..., rest_size] into vectors [..., params], in place."""
        _paste(vectors, rest, self._others)


def _runs(layout: Layout, chosen: set[str]) -> list[slice]:
    """Return the slices of the chosen parameters, those that touch as one."""
    runs: list[slice] = []
    for name, where in layout.slices.items():
        if name not in chosen:
            continue
        if runs and runs[-1].stop == where.start:
            runs[-1] = slice(runs[-1].start, where.stop)
        else:
            runs.append(where)
    return runs


def _length(runs: list[slice]) -> int:
    return sum(run.stop - run.start for run in runs)


def _cut(vectors: Tensor, runs: list[slice]) -> Tensor:
    pieces = [vectors[..., run] for run in runs]
    return torch.cat(pieces, dim=-1) if pieces else vectors[..., :0].clone()


def _paste(vectors: Tensor, values: Tensor | float, runs: list[slice]) -> None:
    done = 0
    for run in runs:
        stop = done + run.stop - run.start
        vectors[..., run] = values if isinstance(values, float) else values[..., done:stop]
        done = stop
