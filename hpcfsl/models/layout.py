"""The update layout: all parameters of a model as one flat vector with named slices, client half first.

Layer 1. Updates, scores, perturbation and aggregation work on the flat vector, the model on named tensors; both are
views of the same memory. The order is part of a run's bits, so it is fixed by the model and its cut alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each parameter lies in the flat update vector.

    Attributes:
        names: Parameter names, "client." ones, "tail." ones, then "server." ones.
        shapes: Their shapes.
        client_size: How many numbers at the front are the client's: its half, and its tail where it has one.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    client_size: int

    def __post_init__(self) -> None:
        """Check that names are unique and that the client half ends where a tensor ends."""
        assert len(self.names) == len(self.shapes) == len(set(self.names)), "one shape for each of the unique names"
        assert self.client_size in (*self.offsets, self.size), "the client half ends where a tensor ends"

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each tensor holds."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts in the vector."""
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    @cached_property
    def size(self) -> int:
        """The length of the vector."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The slice of the vector for each name, in vector order."""
        return {
            name: slice(start, start + size)
            for name, start, size in zip(self.names, self.offsets, self.sizes, strict=True)
        }

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views [..., *shape] of `vector` [..., size] by name.

        Raises:
            ValueError: The last dimension is not `size`.
        """
        if vector.shape[-1] != self.size:
            raise ValueError(f"the layout holds {self.size} numbers, the vector {vector.shape[-1]}")
        lead = vector.shape[:-1]
        return {
            name: vector[..., where].view((*lead, *shape))
            for (name, where), shape in zip(self.slices.items(), self.shapes, strict=True)
        }

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the vector [..., size] of tensors [..., *shape] by name, a copy; further names are ignored."""
        rows = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            tensor = tensors[name]
            lead = tensor.shape[: tensor.ndim - len(shape)]
            if tensor.shape[len(lead) :] != shape:
                raise ValueError(f"{name} has shape {list(tensor.shape)}, the layout wants [..., {list(shape)}]")
            rows.append(tensor.reshape((*lead, math.prod(shape))))
        return torch.cat(rows, dim=-1)

    def client_half(self, vector: Tensor) -> Tensor:
        """Return the view [..., client_size] of the client half of `vector` [..., size]."""
        return vector[..., : self.client_size]

    def server_half(self, vector: Tensor) -> Tensor:
        """Return the view [..., size - client_size] of the server half of `vector` [..., size]."""
        return vector[..., self.client_size :]
