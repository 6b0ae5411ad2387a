"""The Python interface: the same runs as the command line, with one's own module and one's own arrays.

Layer 4.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcfsl.config import Config, resolve
from hpcfsl.data.dataset import Dataset, count_classes, numbers_to_predict
from hpcfsl.errors import DataError, one_line
from hpcfsl.parallel.communicator import agree
from hpcfsl.parallel.failure import failing_together
from hpcfsl.parallel.mpi import connect
from hpcfsl.simulation import Listener, simulate
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.reader import Run
from hpcfsl.trace.reader import open as open_run

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray


def run(
    config: Config | Mapping[str, Any],
    *,
    out: str | os.PathLike[str],
    model: torch.nn.Module | None = None,
    inputs: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    owners: ArrayLike | None = None,
    vocabulary: int = 0,
    listener: Listener | None = None,
) -> Run:
    """Collective. Run a simulation (or continue it, if `out` holds one) and return it, open for reading.

    Args:
        config: Settings as tables, `{"run": {"rounds": 20}, ...}`, or a resolved configuration.
        out: The run folder.
        model: A module of one's own in place of the configured one; `model.cut` names the layer after which it is cut.
        inputs: Samples of one's own, [samples, ...]; needs `targets`.
        targets: Class of each sample, integers from 0, [samples], or of each position, [samples, positions]. Or
            floating-point numbers to predict, [samples] or [samples, outputs]. `training.loss` = "cross-entropy" takes
            whole numbers of floating type as classes, and "squared" integers as numbers; see `hpcfsl.targets`.
        owners: Natural client of each sample, integers from 0, [samples]; for the `natural` partition.
        vocabulary: Number of symbols where the inputs are symbols, integers from 0, [samples, positions]; 0 where they
            are numbers.
        listener: Called after every round on root.

    Raises:
        UserError: Settings, data or folder do not allow the run.
    """
    communicator, folder, watch = connect(), RunFolder(out), Stopwatch()
    with failing_together(folder, communicator, watch) as ranks:
        resolved = agree(ranks, lambda: config if isinstance(config, Config) else resolve(config))
        watch.set_deadline(resolved.run.deadline_seconds)
        dataset = agree(ranks, lambda: _dataset(inputs, targets, owners, vocabulary))
        simulate(resolved, folder, ranks, dataset=dataset, module=model, listener=listener, watch=watch)
    return open_run(out)


def _dataset(
    inputs: ArrayLike | None, targets: ArrayLike | None, owners: ArrayLike | None, vocabulary: int
) -> Dataset | None:
    if inputs is None or targets is None:
        if inputs is not targets or owners is not None:
            raise DataError("inputs, targets and owners go together: give at least inputs and targets, or none")
        return None
    samples, classes = _array("inputs", inputs), _array("targets", targets)
    if not samples.size or not classes.size:
        raise DataError(
            f"inputs of shape {samples.shape} and targets of shape {classes.shape}: give at least one sample"
        )
    numbers = classes.dtype.kind == "f"
    return Dataset(
        name="arrays",
        inputs=samples,
        targets=numbers_to_predict(classes) if numbers else _integers("targets", classes),
        owners=None if owners is None else _integers("owners", _array("owners", owners)),
        num_classes=0 if numbers else count_classes(int(classes.max()), classes.shape[1:], vocabulary),
        test_inputs=None,
        test_targets=None,
        vocabulary=vocabulary,
        stored="numbers" if numbers else "classes",
    )


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(one_line(f"{name}: is no array ({error}); give every sample the same shape")) from None


def _integers(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{name}: have type {values.dtype}; give integers from 0")
    return values.astype(np.int64)
