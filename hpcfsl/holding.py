"""Holds the uploads of a rank's groups until all groups are scored, within a budget of memory.

Layer 4. A pooled threshold can judge nobody before everybody has a score, so a rank would hold the uploads of all its
clients. What goes beyond `run.hold_mib` waits in a scratch file. Uploads come back bit for bit, so no result depends on
the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from hpcfsl.group import ScoredGroup
from hpcfsl.parallel.scratch import ScratchFile
from hpcfsl.training.updates import empty_updates

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class HeldGroup:
    """A scored group that waits.

    Attributes:
        scored: The group, without its uploads where they are in the scratch file.
        place: First byte of its uploads in the scratch file; None where they are in memory.
        shape: Shape of its uploads.
    """

    scored: ScoredGroup
    place: int | None
    shape: tuple[int, int]


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
        uploads = scored.uploads
        rows, size = uploads.shape
        held = uploads.nbytes
        if held <= self._left:
            self._left -= held
            return HeldGroup(scored=scored, place=None, shape=(rows, size))
        place, self._end = self._end, self._end + held
        self._file.write(uploads.cpu().contiguous().numpy(), place)
        return HeldGroup(scored=replace(scored, uploads=uploads.new_zeros(0)), place=place, shape=(rows, size))

    def get(self, held: HeldGroup) -> ScoredGroup:
        """Return a group with its uploads.

        Raises:
            UserError: The scratch file cannot be read, or has become shorter.
        """
        if held.place is None:
            return held.scored
        uploads = empty_updates(*held.shape)
        self._file.read(uploads.numpy(), held.place)
        return replace(held.scored, uploads=uploads.to(held.scored.uploads.device))
