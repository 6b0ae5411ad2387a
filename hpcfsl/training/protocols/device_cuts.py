"""Cuts that depend on the client's device: a weak one keeps fewer layers."""

from __future__ import annotations

from pydantic import Field, field_validator

from hpcfsl.settings import Settings
from hpcfsl.training.protocols.protocol import Protocol


class DeviceCut(Settings):
    """Where the clients with devices of one class are cut (an entry of `protocol.device_cuts`)."""

    device_class: str = Field(min_length=1, max_length=32)
    """The class, by its name in `clock.classes`."""
    cut: str = Field(min_length=1, max_length=1000)
    """The layer after which the model is cut for these clients."""

    @field_validator("cut")
    @classmethod
    def _cuts(cls, cut: str) -> str:
        if cut == "none":
            raise ValueError("every client needs a server half; name a layer")
        return cut


class DeviceCuts(Protocol):
    """A protocol whose arithmetic is the same at every cut, so that each client can have its own.

    What changes with a client's cut is what it sends and computes, that is its bytes and its virtual time.
    """

    device_cuts: tuple[DeviceCut, ...] = Field((), max_length=32)
    """Cuts of clients with devices of a class of `[clock]`; all others are cut at `model.cut`.
    `[[protocol.device_cuts]]` opens each. Not together with what needs the two halves to be the same for everybody:
    `[compression]`, `score.half`, a server half's own learning rate, personal layers and attacks on smashed data."""

    @field_validator("device_cuts")
    @classmethod
    def _once_each(cls, cuts: tuple[DeviceCut, ...]) -> tuple[DeviceCut, ...]:
        names = [each.device_class for each in cuts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"class {twice[0]!r} has two cuts; give it one")
        return cuts

    @property
    def cut_of_device(self) -> dict[str, str]:
        """The cuts of `device_cuts`, by device class."""
        return {each.device_class: each.cut for each in self.device_cuts}
