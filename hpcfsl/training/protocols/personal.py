"""Layers that stay with their client across rounds, for the protocols in which clients hold some.

FedPer (Arivazhagan et al., "Federated learning with personalization layers", arXiv:1912.00818) keeps the last layers,
FedRep (Collins et al., "Exploiting shared representations for personalized federated learning", ICML 2021) the head.
Choose it where clients differ in what an input means, less where they differ in which inputs they have.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.layout import Layout
from hpcfsl.training.protocols.protocol import Protocol

KEY = "protocol.personal"
LayerName = Annotated[str, Field(min_length=1, max_length=1000)]


class PersonalLayers(Protocol):
    """A protocol that can leave some of the client's layers with their client."""

    personal: tuple[LayerName, ...] = Field((), max_length=1000)
    """Layers that stay with their client across rounds, such as `["fc"]`: each with all layers inside of it. They start
    from the initial model, are trained in their client's rounds and never sent. Only layers that clients hold; empty
    for none."""

    def personal_names(self, layout: Layout) -> tuple[str, ...]:
        """Return the parameters of the layers in `personal`.

        Raises:
            ConfigError: A layer is unknown or lies at the server, or nothing would be left to share.
        """
        chosen: set[str] = set()
        for layer in self.personal:
            chosen.update(_parameters_of(layer, layout))
        if len(chosen) == len(layout.names):
            raise ConfigError(KEY, list(self.personal), "leaves nothing to share; name fewer layers")
        return tuple(name for name in layout.names if name in chosen)


def _parameters_of(layer: str, layout: Layout) -> list[str]:
    """Return the parameters of a layer, by the names of the layout."""
    found = [name for name in layout.names if f"{name.partition('.')[2]}.".startswith(f"{layer}.")]
    if not found:
        raise ConfigError(KEY, layer, f"no layer with parameters has this name; choose among {_layers(layout)}")
    if any(name.startswith("server.") for name in found):
        fix = f"lies at the server, where nothing is personal; choose among {_layers(layout)}"
        raise ConfigError(KEY, layer, fix)
    return found


def _layers(layout: Layout) -> str:
    """Return the layers that clients hold, in words."""
    held = [name.partition(".")[2].rpartition(".")[0] for name in layout.names if not name.startswith("server.")]
    return ", ".join(dict.fromkeys(filter(None, held)))
