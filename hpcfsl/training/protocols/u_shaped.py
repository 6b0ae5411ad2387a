"""The server holds the middle of the model: head, tail and labels stay with the client.

The U-shaped configuration of Vepakomma et al., "Split learning for health" (arXiv:1812.00564), with a middle that the
clients of a group train together. Choose it where labels are private too; it sends two more tensors a sample.

Screening is its default, not replay: without labels the server can only repeat the gradients it was sent, and those
answer to all that moved the middle meanwhile, excluded clients too.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.training.protocols.personal import PersonalLayers
from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.shared import SharedServer, Undo


@protocols.register
class UShaped(PersonalLayers, SharedServer):
    """The middle of the model at the server, one a group; head and tail averaged; labels with the client."""

    name: Literal["u-shaped"] = "u-shaped"
    tail: str = Field("", max_length=1000)
    """The layer after which the tail begins; empty for the last one that leaves the tail something to train."""
    undo: Undo = "screen"
    """How what an attacker taught the shared server half is undone. `screen` lets `[screening]` judge the clients'
    smashed data before the server's first step, by `rule` "distance" where no other is chosen, and trains on those it
    lets through. `replay` trains the server half of the round's start again on the recorded smashed data of the clients
    that remain, with their scaled steps; without labels it repeats recorded gradients, answers to what excluded clients
    did to the server half, and can end a round far off. `none` keeps everything: only for `run.preset` "literal", and
    for "averaging", where it is the default."""

    @property
    def second_cut(self) -> str | None:
        """`tail`."""
        return self.tail

    @property
    def labels_at_server(self) -> bool:
        """False."""
        return False
