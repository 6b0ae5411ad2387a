"""What a client would send and receive in a round, by protocol, model and kind: `hpcfsl bytes`. Layer 4.

Nothing is trained; the numbers are those that a run records, for a client that comes to the end of its round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.config import Config, resolve
from hpcfsl.cuts import build_module, client_bytes, make_cuts, make_model, samples_of
from hpcfsl.data.feed import Feed
from hpcfsl.errors import ConfigError
from hpcfsl.models import Samples
from hpcfsl.models.operations import HalfOperations
from hpcfsl.targets import load_data
from hpcfsl.training.protocols import WireBytes, protocols

UP = ("smashed_up", "labels_up", "output_gradients_up", "model_up")
DOWN = ("gradients_down", "outputs_down", "model_down")
_NOT_COUNTED = HalfOperations(client=0, server=0)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """A model under a protocol.

    Attributes:
        model: Its name.
        protocol: The protocol's name.
        cut: Where the model is cut.
        means: Bytes of a client and round by kind, the mean over clients; empty where it cannot be.
        problem: Why it cannot be; empty otherwise.
    """

    model: str
    protocol: str
    cut: str = ""
    means: dict[str, float]
    problem: str = ""

    @property
    def up(self) -> float:
        """All bytes from a client."""
        return sum(self.means[kind] for kind in UP)

    @property
    def down(self) -> float:
        """All bytes to a client."""
        return sum(self.means[kind] for kind in DOWN)


def configured_traffic(config: Config, names: tuple[str, ...]) -> Iterator[Traffic]:
    """Yield the traffic of a configuration under its own protocol, or under each of `names`; loads its data.

    Raises:
        UserError: The data cannot be loaded or divided, or the model not be built for it.
    """
    dataset = load_data(config, keep=False)
    population = config.partition.divide(dataset, config.run.seed)
    samples = samples_of(Feed(dataset=dataset, population=population, standardise=False))
    clients = np.arange(population.num_clients)
    module = build_module(config.model, samples)
    for name in names or (str(config.protocol.name),):
        yield _traffic(config, name, samples, module, population.train_counts(clients))


def example_traffic(base: Config, models: tuple[str, ...], names: tuple[str, ...], samples: int) -> Iterator[Traffic]:
    """Yield the traffic of models on examples of what they are for.

    Args:
        base: All other settings.
        models: Names of models.
        names: Names of protocols.
        samples: Training samples of the client.
    """
    for model in models:
        config = resolve({**_without(base, "model"), "model": {"name": model}})
        example = config.model.example
        if example is None:
            continue
        module = build_module(config.model, example)
        for name in names:
            yield _traffic(config, name, example, module, np.array([samples]))


def _traffic(
    config: Config, protocol: str, samples: Samples, module: torch.nn.Module, counts: NDArray[np.int64]
) -> Traffic:
    model = str(config.model.model_dump()["name"])
    try:
        if protocol != config.protocol.name:
            tree = {"name": protocols.get(protocol).model_fields["name"].default}
            config = resolve({**_without(config, "protocol", "screening"), "protocol": tree})
        split = make_model(config, samples, module)
        cuts = make_cuts(
            config, split, lambda cut: make_model(config, samples, module, cut=cut), lambda _: _NOT_COUNTED
        )
    except ConfigError as error:
        return Traffic(model=model, protocol=protocol, means={}, problem=str(error))
    wire: WireBytes = cuts.wire_bytes(np.arange(len(counts)), lambda each: client_bytes(config, each, counts))
    means = {kind: float(getattr(wire, kind).mean()) for kind in (*UP, *DOWN)}
    return Traffic(model=model, protocol=protocol, cut=", ".join(each.cut for each in cuts.models), means=means)


def _without(config: Config, *sections: str) -> dict[str, dict[str, object]]:
    """Return all settings but those of some sections, which then follow from the others."""
    return {name: table for name, table in config.tree().items() if name not in sections}


def markdown(rows: list[Traffic]) -> str:
    """Return the rows as a Markdown table in kB (1000 bytes), and a line for each that cannot be."""
    kinds = [kind for kind in (*UP, *DOWN) if any(row.means.get(kind) for row in rows)]
    head = ["model", "cut", "protocol", *(kind.replace("_", " ") for kind in kinds), "all up", "all down"]
    lines = [_line(head), _line(["---"] * 3 + ["---:"] * (len(head) - 3))]
    for row in rows:
        if row.means:
            numbers = [row.means[kind] for kind in kinds] + [row.up, row.down]
            lines.append(_line([row.model, row.cut, row.protocol, *(f"{each / 1e3:,.1f}" for each in numbers)]))
    problems = [f"{row.model}, {row.protocol}: {row.problem}" for row in rows if row.problem]
    return "\n".join([*lines, *([""] if problems else []), *problems]) + "\n"


def short_markdown(rows: list[Traffic]) -> str:
    """Return a Markdown table with a line a model and a column a protocol: all up and all down, in kB (1000 bytes)."""
    protocols_seen = list(dict.fromkeys(row.protocol for row in rows))
    found = {(row.model, row.protocol): row for row in rows}
    cuts = {row.model: row.cut for row in rows if row.cut not in ("", "none")}
    lines = [_line(["model, cut", *protocols_seen]), _line(["---", *["---:"] * len(protocols_seen)])]
    for model in dict.fromkeys(row.model for row in rows):
        cells = [_up_and_down(found.get((model, protocol))) for protocol in protocols_seen]
        lines.append(_line([f"{model}, {cuts.get(model, 'none')}", *cells]))
    return "\n".join(lines) + "\n"


def _up_and_down(row: Traffic | None) -> str:
    return f"{row.up / 1e3:,.1f} / {row.down / 1e3:,.1f}" if row is not None and row.means else "-"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
