"""Vectors that stay with clients from round to round, such as a personal part of the model: at the client's home rank.

Like the numbers of `hpcfsl.parallel.clients`, a client's vector lives at its home (`hpcfsl.parallel.homes`), visits the
rank that hosts the client in a round, and goes home after it; only vectors that exist and that changed travel, in
messages of a few MiB. A rank holds as much of them in memory as it is told to; the rest lies in a scratch file. Vectors
are copied, never computed with, so no result depends on ranks, messages or memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.homes import home_of
from hpcfsl.parallel.scratch import ScratchFile

MESSAGE_BYTES = 32 << 20
"""Bytes that a rank sends to all others together at a time; more only where a single vector is longer."""
_BLOCK_BYTES = 4 << 20

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]


class VectorTable:
    """Per-client float32 vectors of one length, keyed by client id.

    Args:
        width: Length of each vector, at least 1.
        budget_bytes: Vectors that are held in memory.
        folder: Where the scratch file for the others goes.
    """

    def __init__(self, width: int, budget_bytes: int, folder: Path) -> None:
        self.width, self.budget_bytes, self.folder = width, budget_bytes, folder
        self._row_bytes = 4 * width
        self._room = budget_bytes // self._row_bytes
        self._each = max(1, _BLOCK_BYTES // self._row_bytes)
        self._slots: dict[int, int] = {}
        # Blocks, because one array would be copied whenever it grows.
        self._blocks: list[Rows] = []
        self._file = ScratchFile(folder, setting="run.client_state_mib", content="clients' vectors")

    def __len__(self) -> int:
        """Return the number of clients with a vector."""
        return len(self._slots)

    @property
    def clients(self) -> Ids:
        """Ids of the clients with a vector, int64 [clients], ascending."""
        return np.sort(np.fromiter(self._slots, np.int64, len(self._slots)))

    @property
    def bytes(self) -> int:
        """Memory that its vectors take."""
        return sum(block.nbytes for block in self._blocks)

    def known(self, clients: Ids) -> NDArray[np.bool_]:
        """Return which clients have a vector, bool [clients]."""
        return np.fromiter((client in self._slots for client in clients.tolist()), np.bool_, len(clients))

    def rows(self, clients: Ids) -> Rows:
        """Return the vectors of clients that have one (any order), float32 [clients, width], a copy.

        Raises:
            UserError: The scratch file cannot be read.
        """
        found = np.empty((len(clients), self.width), np.float32)
        for row, client in zip(found, clients.tolist(), strict=True):
            slot = self._slots[client]
            if slot < self._room:
                row[:] = self._blocks[slot // self._each][slot % self._each]
            else:
                self._file.read(row, (slot - self._room) * self._row_bytes)
        return found

    def store(self, clients: Ids, rows: Rows) -> None:
        """Take over the vectors of some clients, float32 [clients, width], in the place of those they have.

        Raises:
            UserError: The scratch file cannot be made or written.
        """
        for client, row in zip(clients.tolist(), np.ascontiguousarray(rows, np.float32), strict=True):
            slot = self._slots.setdefault(client, len(self._slots))
            if slot >= self._room:
                self._file.write(row, (slot - self._room) * self._row_bytes)
                continue
            if slot // self._each == len(self._blocks):
                each = min(self._each, self._room - len(self._blocks) * self._each)
                self._blocks.append(np.empty((each, self.width), np.float32))
            self._blocks[slot // self._each][slot % self._each] = row

    def pieces(self, most_bytes: int) -> Iterator[tuple[Ids, Rows]]:
        """Yield all clients, ids ascending, with their vectors, as many at a time as fit into `most_bytes`."""
        clients, each = self.clients, max(1, most_bytes // self._row_bytes)
        for first in range(0, len(clients), each):
            some = clients[first : first + each]
            yield some, self.rows(some)

    def another(self) -> VectorTable:
        """Return an empty table of the same kind."""
        return VectorTable(self.width, self.budget_bytes, self.folder)

    def close(self) -> None:
        """Forget all vectors; give memory and disk space back."""
        self._slots.clear()
        self._blocks.clear()
        self._file.close()


class HostedVectors:
    """The vectors of the clients that a rank hosts: own ones where they live, others as guests.

    Args:
        home: The vectors of the clients whose home this rank is; changed by `store`.
        communicator: The ranks.
    """

    def __init__(self, home: VectorTable, communicator: Communicator) -> None:
        self._home, self._guests = home, home.another()
        self._communicator = communicator
        self._changed: set[int] = set()

    @property
    def width(self) -> int:
        """Length of each vector."""
        return self._home.width

    def known(self, clients: Ids) -> NDArray[np.bool_]:
        """Return which clients that are hosted here have a vector, bool [clients]."""
        return np.where(self._is_own(clients), self._home.known(clients), self._guests.known(clients))

    def rows(self, clients: Ids) -> Rows:
        """Return the vectors of clients that have one, float32 [clients, width]."""
        own, found = self._is_own(clients), np.empty((len(clients), self.width), np.float32)
        found[own] = self._home.rows(clients[own])
        found[~own] = self._guests.rows(clients[~own])
        return found

    def store(self, clients: Ids, rows: Rows) -> None:
        """Take over new vectors of clients that are hosted here, float32 [clients, width]."""
        own = self._is_own(clients)
        self._home.store(clients[own], rows[own])
        self._guests.store(clients[~own], rows[~own])
        self._changed.update(clients[~own].tolist())

    def fetch(self, hosted: Sequence[Ids]) -> None:
        """Collective. Receive the vectors of guests from their homes.

        Args:
            hosted: For each rank the clients that it hosts, ids ascending.
        """
        rank = self._communicator.rank
        asked = [clients[self._is_own(clients)] for clients in hosted]
        asked[rank] = asked[rank][:0]
        leaving = [clients[self._home.known(clients)] for clients in asked]
        _move(leaving, self._home.rows, self._guests.store, self.width, self._communicator)

    def send_home(self) -> None:
        """Collective. Send the guests whose vectors changed home, and forget them all."""
        size = self._communicator.size
        changed = np.sort(np.fromiter(self._changed, np.int64, len(self._changed)))
        homes = home_of(changed, size)
        leaving = [changed[homes == home] for home in range(size)]
        _move(leaving, self._guests.rows, self._home.store, self.width, self._communicator)
        self.close()

    def close(self) -> None:
        """Forget the guests."""
        self._guests.close()
        self._changed.clear()

    def _is_own(self, clients: Ids) -> NDArray[np.bool_]:
        own: NDArray[np.bool_] = home_of(clients, self._communicator.size) == self._communicator.rank
        return own


def _move(
    leaving: Sequence[Ids],
    read: Callable[[Ids], Rows],
    store: Callable[[Ids, Rows], None],
    width: int,
    communicator: Communicator,
) -> None:
    """Collective. Send the vectors of `leaving[rank]` to each rank, as `read` gives them; `store` what arrives."""
    if communicator.size == 1:
        return
    each = max(1, MESSAGE_BYTES // (4 * width * communicator.size))
    longest = np.array([max(map(len, leaving))], np.int64)
    communicator.max_in_place(longest)
    for first in range(0, int(longest[0]), each):
        some = [clients[first : first + each] for clients in leaving]
        arrived = communicator.exchange(some)
        rows = communicator.exchange([read(clients) for clients in some])
        for clients, vectors in zip(arrived, rows, strict=True):
            store(clients, vectors)
