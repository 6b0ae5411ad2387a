"""Holds the uploads of a rank's groups until all groups are scored, within a budget of memory.

Layer 4. A pooled threshold can judge nobody before everybody has a score, so a rank would hold the uploads of all its
clients, and what a shared server half has recorded for its replay. What goes beyond `run.hold_mib` waits in a scratch
file. It comes back bit for bit, so no result depends on the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.group import ScoredGroup
from hpcfsl.parallel.scratch import ScratchFile
from hpcfsl.training.updates import empty_updates

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a tensor in the scratch file is."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class HeldGroup:
    """A scored group that waits.

    Attributes:
        scored: The group, without its tensors where they are in the scratch file.
        place: First byte of its tensors in the scratch file; None where they are in memory.
        forms: What they are, one after the other.
    """

    scored: ScoredGroup
    place: int | None
    forms: tuple[Form, ...]


class Holding:
    """The waiting groups of one round; a context manager that gives the scratch file back.

    Args:
        budget_bytes: Uploads that may wait in memory.
        folder: Where the scratch file goes once it is needed.
    """

    def __init__(self, budget_bytes: int, folder: Path) -> None:
        self._left, self._end = budget_bytes, 0
        self._file = ScratchFile(folder, setting="run.hold_mib", content="uploads")

    def __enter__(self) -> Holding:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk space back."""
        self._file.close()

    def put(self, scored: ScoredGroup) -> HeldGroup:
        """Take over a group; its uploads go into the scratch file where the budget is spent.

        Raises:
            UserError: The scratch file cannot be made or written.
        """
        tensors = _tensors(scored)
        forms = tuple(Form(shape=tuple(each.shape), dtype=each.dtype, device=each.device) for each in tensors)
        held = sum(form.nbytes for form in forms)
        if held <= self._left:
            self._left -= held
            return HeldGroup(scored=scored, place=None, forms=forms)
        place, self._end = self._end, self._end + held
        for tensor, first in zip(tensors, _places(place, forms), strict=True):
            self._file.write(_bytes_of(tensor.cpu().contiguous()), first)
        empty = [tensor.new_zeros(0) for tensor in tensors]
        return HeldGroup(scored=_with_tensors(scored, empty), place=place, forms=forms)

    def get(self, held: HeldGroup) -> ScoredGroup:
        """Return a group with its tensors.

        Raises:
            UserError: The scratch file cannot be read, or has become shorter.
        """
        if held.place is None:
            return held.scored
        tensors = [_room(form) for form in held.forms]
        for tensor, first in zip(tensors, _places(held.place, held.forms), strict=True):
            self._file.read(_bytes_of(tensor), first)
        back = [tensor.to(form.device) for tensor, form in zip(tensors, held.forms, strict=True)]
        return _with_tensors(held.scored, back)


def _tensors(scored: ScoredGroup) -> list[torch.Tensor]:
    """Return what takes much memory of a group: its uploads first."""
    return [scored.uploads, *([] if scored.session is None else scored.session.tensors())]


def _with_tensors(scored: ScoredGroup, tensors: list[torch.Tensor]) -> ScoredGroup:
    """Return a group with other tensors in the places of those that `_tensors` lists."""
    uploads, *others = tensors
    session = None if scored.session is None else scored.session.with_tensors(others)
    return replace(scored, uploads=uploads, session=session)


def _places(place: int, forms: tuple[Form, ...]) -> list[int]:
    return [place + before for before in accumulate((form.nbytes for form in forms[:-1]), initial=0)]


def _room(form: Form) -> torch.Tensor:
    if len(form.shape) == 2 and form.dtype == torch.float32:
        return empty_updates(*form.shape)
    return torch.empty(form.shape, dtype=form.dtype)


def _bytes_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """Return the memory of a contiguous tensor as bytes, [nbytes]."""
    return tensor.reshape(-1).view(torch.uint8).numpy()
