"""The model of a configuration, where it is cut for each client, and what follows: bytes, operations of each half.

Layer 4. Clients may be cut at different layers only where the arithmetic is the same at every cut, so one model, cut at
`model.cut`, trains everybody; the other cuts are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.clock import Clock
from hpcfsl.config import Config
from hpcfsl.data.feed import Feed
from hpcfsl.errors import ConfigError
from hpcfsl.models import Model, Samples
from hpcfsl.models.operations import HalfOperations
from hpcfsl.models.split import SplitModel, split
from hpcfsl.provenance import memory_bytes
from hpcfsl.settings import suggest
from hpcfsl.training.protocols import WireBytes

_KEY = "protocol.device_cuts"


@dataclass(frozen=True, kw_only=True)
class ClientCuts:
    """The cuts of a run.

    Attributes:
        models: The model at each cut, that of `model.cut` first.
        operations: Operations of each half for one sample at each cut; zeros while the clock is off.
        place_of_device: The place in `models` of each device class that has a cut of its own.
        clock: Knows the clients' devices.
        seed: The run's seed.
    """

    models: tuple[SplitModel, ...]
    operations: tuple[HalfOperations, ...]
    place_of_device: Mapping[str, int]
    clock: Clock
    seed: int

    def places(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place in `models` of each client's cut, int64 [clients]."""
        found = np.zeros(len(clients), np.int64)
        if self.place_of_device:
            devices = self.clock.device_names(clients, self.seed)
            for name, place in self.place_of_device.items():
                found[devices == name.encode()] = place
        return found

    def names(self, clients: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """Return the layer after which each client's model is cut, "none" for no cut, [clients]."""
        return np.array([model.cut.encode()[:64] for model in self.models], "S64")[self.places(clients)]

    def wire_bytes(self, clients: NDArray[np.int64], count: Callable[[SplitModel], WireBytes]) -> WireBytes:
        """Return each client's bytes at its own cut, of what `count` returns for all of them at one."""
        if len(self.models) == 1:
            return count(self.models[0])
        places, counted = self.places(clients), [count(model) for model in self.models]
        rows = np.arange(len(clients))
        return WireBytes(
            **{
                field.name: np.stack([getattr(each, field.name) for each in counted])[places, rows]
                for field in fields(WireBytes)
            }
        )

    def sample_operations(self, clients: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the operations of both halves for one sample of each client, int64 [clients] each."""
        places = self.places(clients)
        client, server = (
            np.array([getattr(each, half) for each in self.operations], np.int64) for half in ("client", "server")
        )
        return client[places], server[places]


def samples_of(feed: Feed) -> Samples:
    """Return what a model of this data is built for."""
    return Samples(
        shape=feed.sample_shape,
        num_outputs=feed.num_outputs,
        vocabulary=feed.dataset.vocabulary,
        target_shape=feed.target_shape,
        predicts="numbers" if feed.dataset.has_numbers else "classes",
    )


def build_module(settings: Model, samples: Samples) -> torch.nn.Module:
    """Return the module of a model.

    Raises:
        ConfigError: The model cannot take such samples, or has more parameters than the machine has memory.
    """
    with torch.device("meta"):  # counts parameters without making them
        size = 4 * sum(parameter.numel() for parameter in settings.make(samples).parameters())
    memory = memory_bytes()
    if size > memory:
        fix = f"its parameters take {size / 1e9:.0f} GB and this machine has {memory / 1e9:.0f}; choose a smaller model"
        raise ConfigError("model.name", settings.model_dump()["name"], fix)
    return settings.make(samples)


def make_model(config: Config, samples: Samples, module: torch.nn.Module, *, cut: str = "") -> SplitModel:
    """Return the model of a configuration in its parts, with the link between them.

    Args:
        config: All settings.
        samples: What the model is for.
        module: The whole model.
        cut: Where it is cut, in the place of what the configuration says.

    Raises:
        ConfigError: It cannot be cut there.
    """
    model = split(
        module,
        cut or (config.model.cut if config.protocol.cuts else "none"),
        samples.shape,
        "protocol.device_cuts.cut" if cut else "model.cut",
        target_shape=samples.target_shape,
        vocabulary=samples.vocabulary,
        predicts=samples.predicts,
        tail=config.protocol.second_cut,
    )
    return replace(model, link=config.compression.link()) if config.compression.is_on else model


def client_bytes(config: Config, model: SplitModel, samples: NDArray[np.int64]) -> WireBytes:
    """Return the bytes of one round for clients with `samples` training samples each, int64 [clients].

    SCAFFOLD's c - c_i goes down with the model; the aggregator derives c_i from the upload: nothing more goes up.
    """
    wire = config.protocol.wire_bytes(model, samples, config.training.local_epochs)
    if config.training.drift == "none":
        return wire
    return replace(wire, model_down=wire.model_down + config.protocol.averaged_bytes(model))


def make_cuts(
    config: Config,
    model: SplitModel,
    cut_at: Callable[[str], SplitModel],
    count: Callable[[SplitModel], HalfOperations],
) -> ClientCuts:
    """Return the cuts of a run.

    Args:
        config: All settings.
        model: The model cut at `model.cut`.
        cut_at: Returns the model cut elsewhere.
        count: Returns the operations of a model's halves.

    Raises:
        ConfigError: A device class or a layer is unknown.
    """
    wanted = config.protocol.cut_of_device
    for name in wanted:
        if name not in config.clock.class_names:
            raise ConfigError(f"{_KEY}.device_class", name, _fix(name, config.clock))
    names = list(dict.fromkeys([model.cut, *wanted.values()]))
    models = (model, *(cut_at(name) for name in names[1:]))
    return ClientCuts(
        models=models,
        operations=tuple(map(count, models)),
        place_of_device={device: names.index(cut) for device, cut in wanted.items()},
        clock=config.clock,
        seed=config.run.seed,
    )


def _fix(name: str, clock: Clock) -> str:
    known = clock.class_names
    return suggest(name, list(known)) if known else "there are no device classes; set clock.rule, such as 'phones'"
