"""A package outside the tree, found through its entry points, that makes one rank fail on demand.

HPCFSL_FAULT names what happens, and on which rank and in which round: `raise:1:2`, `mistake:1:2`, `kill:1:2`,
`stop:0:2`, `sleep:1:2`. HPCFSL_PACE names a file that holds how many seconds the training of a group takes longer; a
test rewrites it while the run goes on.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

import torch

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.synthetic import Synthetic
from hpcfsl.errors import DataError
from hpcfsl.threats import Threat, View


def my_rank() -> int:
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))


class Fault(Threat):
    """Clients that behave, on a rank that may not."""

    attack: Literal["fault"] = "fault"

    def forge(self, view: View) -> torch.Tensor:
        """Fail if this is the rank and the round; else return the honest updates."""
        if pace := os.environ.get("HPCFSL_PACE"):
            time.sleep(float(Path(pace).read_text()))
        kind, rank, round = os.environ.get("HPCFSL_FAULT", "none:-1:-1").split(":")
        if (int(rank), int(round)) == (my_rank(), view.round):
            fail(kind)
        return view.own


def fail(kind: str) -> None:
    if kind == "raise":
        raise RuntimeError("the planned fault\nin two lines")
    if kind == "mistake":
        raise DataError("shard 7 is torn: fetch it again")
    if kind == "sleep":
        time.sleep(60)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGTERM}[kind])


class Torn(Synthetic):
    """Data that one rank cannot read: the one that HPCFSL_TORN names."""

    source: Literal["torn"] = "torn"  # type: ignore[assignment]  # its own name

    def load(self, seed: int) -> Dataset:
        """Return the data, except on that rank."""
        if my_rank() == int(os.environ["HPCFSL_TORN"]):
            raise DataError("/scratch/part.npz: cannot be read on this node: copy it there")
        return super().load(seed)
