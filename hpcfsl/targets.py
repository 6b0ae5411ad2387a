"""Whether targets are classes or numbers to predict, where the data do not say: the loss decides, else the model.

Layer 4. Plain arrays (`data.source` `npz` and `hdf5`, arrays of the Python interface) have nothing but a type. Integers
are classes and floats are numbers to predict, but:

| `training.loss` | model | |
|---|---|---|
| `cross-entropy` | any | classes; floats must be whole numbers |
| `squared`, `absolute`, `huber` | any | numbers; integers are taken as numbers too |
| `auto` | of images, speech or text | floats that are 0.0, 1.0, ... without a gap are classes |
| `auto` | any other, or a module of one's own | as stored; such floats are numbers, and a line says so |

Tables, series and texts have settings of their own for it, and other sources know.
"""

from __future__ import annotations

from hpcfsl.config import Config
from hpcfsl.data import cache
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.stored_targets import as_classes, as_numbers, look_like_classes
from hpcfsl.errors import ConfigError, DataError, shorten

_TELL_CLASSES = ("image", "speech", "text")
"""Kinds of models that usually tell classes."""


def load_data(config: Config, *, keep: bool = True, own_module: bool = False) -> Dataset:
    """Return the data of a configuration, its targets as the run takes them.

    Args:
        config: All settings.
        keep: Whether `run.data_cache` may be written to.
        own_module: As for `settle_targets`.

    Raises:
        UserError: The data cannot be loaded, or their targets not be what the loss is for.
    """
    dataset = cache.load(config.data, config.run.seed, config.run.data_cache, keep=keep)
    return settle_targets(config, dataset, own_module=own_module)


def settle_targets(config: Config, dataset: Dataset, *, own_module: bool = False) -> Dataset:
    """Return a data set with its targets as the run takes them; most are returned as they are.

    Args:
        config: All settings.
        dataset: The data as loaded, or as the caller gave them.
        own_module: Whether a module of the caller's takes the place of the configured model.

    Raises:
        ConfigError: The loss is for classes, and the targets are numbers that are none.
    """
    loss = config.training.loss
    if not dataset.stored:
        return dataset
    if dataset.has_numbers:
        if loss == "cross-entropy":
            return _classes_for(loss, dataset)
        tells_classes = not own_module and config.model.kind in _TELL_CLASSES
        return as_classes(dataset) if loss == "auto" and tells_classes and look_like_classes(dataset) else dataset
    return as_numbers(dataset) if loss not in ("auto", "cross-entropy") and not dataset.target_shape else dataset


def note_on_targets(config: Config, dataset: Dataset) -> str:
    """Return a sentence on what was made of settled targets whose type says something else; "" for most."""
    name = shorten(dataset.name)  # an event of the trace has room for 240 bytes
    as_stored = (dataset.stored == "numbers") == dataset.has_numbers
    if not dataset.stored or (as_stored and not dataset.has_numbers):
        return ""
    if dataset.stored == "classes":
        return f"the targets of {name} are integers, taken as numbers because of training.loss"
    if not as_stored:
        why = "training.loss" if config.training.loss != "auto" else f"model {config.model.model_dump()['name']!r}"
        fix = "; for numbers to predict set training.loss = 'squared'" if config.training.loss == "auto" else ""
        return (
            f"the targets of {name} are floats 0.0 to {dataset.num_classes - 1}.0, "
            f"taken as {dataset.num_classes} classes because of {why}{fix}"
        )
    if config.training.loss != "auto" or not look_like_classes(dataset):
        return ""
    fix = "for classes set training.loss = 'cross-entropy', else 'squared'"
    return f"the targets of {name} are floats, all whole numbers from 0, taken as numbers to predict; {fix}"


def _classes_for(loss: str, dataset: Dataset) -> Dataset:
    try:
        return as_classes(dataset)
    except DataError as error:
        raise ConfigError("training.loss", loss, f"{error}; mend them, or use squared, absolute or huber") from None
