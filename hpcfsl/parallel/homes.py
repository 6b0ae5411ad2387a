"""Where what is remembered of a client lives between rounds: at its home rank, which follows from its id.

A home keeps its clients' rows in a `ClientTable`. Before a round each home sends the rows that other ranks will need to
the ranks that host those clients in the round, and takes the news back after it, so that no rank ever holds more than
its homes' share of the clients seen and the clients of its own groups. A checkpoint keeps each home's table in a file
of its own; `homes_before` says which of them a rank reads when a run goes on with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpcfsl.parallel.clients import COLUMNS, ClientTable
from hpcfsl.parallel.communicator import Communicator

# Clients move between homes shard by shard when the number of ranks changes. More ranks than shards have no clients.
SHARDS = 4096


def home_of(clients: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """Return the home rank of each client, int64 [clients]."""
    return np.asarray(clients % SHARDS % ranks, np.int64)


def homes_before(rank: int, ranks: int, ranks_before: int) -> list[int]:
    """Return the ranks that were the homes of this rank's clients when there were `ranks_before`, ascending."""
    return sorted({shard % ranks_before for shard in range(SHARDS) if shard % ranks == rank})


def fetch_clients(table: ClientTable, hosted: Sequence[NDArray[np.int64]], communicator: Communicator) -> ClientTable:
    """Collective. Return what is remembered of the clients that this rank hosts.

    Args:
        table: The clients whose home this rank is.
        hosted: For each rank the clients that it hosts in this round, ids ascending.
        communicator: The ranks.
    """
    rank, size = communicator.rank, communicator.size
    asked = [clients[home_of(clients, size) == rank] for clients in hosted]
    received = communicator.exchange([_rows(table, clients) for clients in asked])
    found, own = ClientTable(), home_of(hosted[rank], size)
    for home, rows in enumerate(received):
        _store(found, hosted[rank][own == home], rows)
    return found


def send_home(
    table: ClientTable,
    hosted: Sequence[NDArray[np.int64]],
    news: Mapping[str, NDArray[np.float64]],
    communicator: Communicator,
) -> None:
    """Collective. Store the news of all ranks' clients at their homes.

    Args:
        table: The clients whose home this rank is; it is changed.
        hosted: As for `fetch_clients`.
        news: Columns for the clients that this rank hosts, in their order; NaN leaves what is known.
        communicator: The ranks.
    """
    rank, size = communicator.rank, communicator.size
    own, columns = home_of(hosted[rank], size), np.stack([news[name] for name in COLUMNS], axis=1)
    received = communicator.exchange([columns[own == home] for home in range(size)])
    for clients, rows in zip(hosted, received, strict=True):
        _store(table, clients[home_of(clients, size) == rank], rows)


def _rows(table: ClientTable, clients: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return all columns of some clients, float64 [clients, columns]."""
    return np.stack([table.look_up(name, clients) for name in COLUMNS], axis=1)


def _store(table: ClientTable, clients: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
    if len(clients):
        table.update(clients, **dict(zip(COLUMNS, rows.T, strict=True)))
