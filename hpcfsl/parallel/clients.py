"""What is remembered of each client from round to round: a few numbers, for the clients seen so far.

The table is replicated: every rank hears every participating client's new values in the round's metadata exchange, so a
client's state follows it to whichever rank hosts it next, and its size follows the clients seen, not the population.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# credit: the last credit score. weight: the aggregation weight. first_round: when the client was first seen.
COLUMNS = ("credit", "weight", "first_round")


class ClientTable:
    """Per-client float64 columns, keyed by client id; NaN where nothing is known."""

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> None:
        given = arrays or {}
        self._ids: NDArray[np.int64] = np.asarray(given.get("clients", np.zeros(0, np.int64)), np.int64)
        self._columns: dict[str, NDArray[np.float64]] = {
            name: np.asarray(given.get(name, np.full(len(self._ids), np.nan)), np.float64) for name in COLUMNS
        }

    def __len__(self) -> int:
        """Return the number of clients seen."""
        return len(self._ids)

    def look_up(self, column: str, clients: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a column's values for `clients` (any order), NaN for unknown ones, float64 [clients]."""
        place, known = self._find(clients)
        values = np.full(len(clients), np.nan)
        values[known] = self._columns[column][place[known]]
        return values

    def update(self, clients: NDArray[np.int64], **values: NDArray[np.float64]) -> None:
        """Store values of columns for `clients` (ascending); NaN leaves what is known."""
        self._admit(clients)
        place, _ = self._find(clients)
        for column, new in values.items():
            given = ~np.isnan(new)
            self._columns[column][place[given]] = new[given]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a checkpoint stores; the constructor takes it back."""
        return {"clients": self._ids, **self._columns}

    def _find(self, clients: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        place = np.searchsorted(self._ids, clients)
        inside = place < len(self._ids)
        known = inside.copy()
        known[inside] = self._ids[place[inside]] == clients[inside]
        return place, known

    def _admit(self, clients: NDArray[np.int64]) -> None:
        new = np.setdiff1d(clients, self._ids)
        if not len(new):
            return
        ids = np.concatenate([self._ids, new])
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        fill = np.full(len(new), np.nan)
        self._columns = {name: np.concatenate([column, fill])[order] for name, column in self._columns.items()}
