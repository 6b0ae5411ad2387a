"""What each model is and what each of its cuts costs: the numbers behind `hpcfsl models` and docs/models.md.

Layer 4. Nothing is trained, and no parameter gets memory: models are built without values, for the samples that they
name as usual, or for others that are asked for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hpcfsl.config import load_text
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.models import Model, Samples, models
from hpcfsl.models.model import KINDS

if TYPE_CHECKING:
    from hpcfsl.models.operations import CutCost


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model, built for some samples.

    Attributes:
        settings: Its settings.
        samples: What it was built for.
        parameters: Of the whole model.
        cuts: What each of its cut points costs, in the order the layers run.
    """

    settings: Model
    samples: Samples
    parameters: int
    cuts: tuple[CutCost, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return name_of(self.settings)

    def tree(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "name": self.name,
            "kind": self.settings.kind,
            "settings": self.settings.model_dump(mode="json", exclude={"name"}),
            "samples": asdict(self.samples),
            "parameters": self.parameters,
            "cuts": [
                {
                    **asdict(cut),
                    "default": cut.name == self.settings.cut,
                    "meaning": self.settings.explain_cut(cut.name),
                }
                for cut in self.cuts
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The samples that are asked for; None for those that a model names as usual."""

    shape: tuple[int, ...] | None = None
    num_outputs: int | None = None
    vocabulary: int | None = None


def read_shape(text: str) -> tuple[int, ...]:
    """Return the shape that "3x32x32" says.

    Raises:
        UserError: It says none.
    """
    parts = text.replace(",", "x").split("x")
    if not all(part.isdecimal() and 0 < int(part) <= 1 << 30 for part in parts):
        raise UserError(f"--shape {text}: write sizes from 1 with an x between them, as in 3x32x32")
    return tuple(map(int, parts))


def read_settings(name: str, overrides: tuple[str, ...]) -> Model:
    """Return the settings of the model `name`, with overrides as `hpcfsl run` takes them.

    Raises:
        ConfigError: There is no such model or setting.
    """
    return load_text(f"[model]\nname = {json.dumps(name)}", overrides).model


def list_models(wanted: Wanted) -> tuple[list[Entry], list[str]]:
    """Return all models with their defaults, by kind and name, and the names of those that cannot take the samples."""
    entries, refused = [], []
    for name in sorted(models.names(), key=lambda name: (KINDS.index(models.get(name).kind), name)):
        try:
            entries.append(look_at(models.parse({"name": name}), wanted))
        except ConfigError:
            refused.append(name)
    return entries, refused


def look_at(settings: Model, wanted: Wanted) -> Entry:
    """Return what there is to know about one model.

    Raises:
        ConfigError: It cannot take the samples, or names none as usual and none are asked for.
    """
    import torch

    from hpcfsl.models.operations import count_cuts

    samples = _samples_for(settings, wanted)
    with torch.device("meta"):
        module = settings.make(samples)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    cuts = count_cuts(module, samples.shape, samples.vocabulary)
    return Entry(settings=settings, samples=samples, parameters=parameters, cuts=tuple(cuts))


def name_of(settings: Model) -> str:
    """Return the name under which a model is registered."""
    return str(settings.model_dump()["name"])


def _samples_for(settings: Model, wanted: Wanted) -> Samples:
    usual = settings.example
    if usual is None:
        if wanted.shape is None or wanted.num_outputs is None:
            fix = "does not say which samples it takes; give --shape and --outputs"
            raise ConfigError("model.name", name_of(settings), fix)
        usual = Samples(shape=wanted.shape, num_outputs=wanted.num_outputs)
    return usual.changed(shape=wanted.shape, num_outputs=wanted.num_outputs, vocabulary=wanted.vocabulary)
