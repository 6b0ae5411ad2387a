"""Local training of a group whose clients share one server half, and how it is undone for those who are excluded.

`trainer` trains a group: all its clients step by step together, or one after the other. A step runs through `loop` (one
client after the other) or `stacked` (all at once). `session` is what the server remembers of a round, and `replay`
trains its half again without some of the clients. `reference` is the slow, obvious version that tests hold these to.
"""

from __future__ import annotations

from hpcfsl.training.shared.replay import Replayed
from hpcfsl.training.shared.session import Conditions, Session
from hpcfsl.training.shared.trainer import SharedTrainer, make_shared

__all__ = ["Conditions", "Replayed", "Session", "SharedTrainer", "make_shared"]
