"""The Python interface: the same runs as the command line, with one's own module and one's own arrays.

Layer 4.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcfsl.config import Config, resolve
from hpcfsl.data.dataset import Dataset
from hpcfsl.errors import DataError
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
    from numpy.typing import ArrayLike


def run(
    config: Config | Mapping[str, Any],
    *,
    out: str | os.PathLike[str],
    model: torch.nn.Module | None = None,
    inputs: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    owners: ArrayLike | None = None,
    listener: Listener | None = None,
) -> Run:
    """Collective. Run a simulation (or continue it, if `out` holds one) and return it, open for reading.

    Args:
        config: Settings as tables, `{"run": {"rounds": 20}, ...}`, or a resolved configuration.
        out: The run folder.
        model: A module of one's own in place of the configured one; `model.cut` names the layer after which it is cut.
        inputs: Samples of one's own, [samples, ...]; needs `targets`.
        targets: Class of each sample, integers from 0, [samples].
        owners: Natural client of each sample, integers from 0, [samples]; for the `natural` partition.
        listener: Called after every round on root.

    Raises:
        UserError: Settings, data or folder do not allow the run.
    """
    communicator, folder, watch = connect(), RunFolder(out), Stopwatch()
    with failing_together(folder, communicator, watch):
        resolved = agree(communicator, lambda: config if isinstance(config, Config) else resolve(config))
        watch.set_deadline(resolved.run.deadline_seconds)
        dataset = agree(communicator, lambda: _dataset(inputs, targets, owners))
        simulate(resolved, folder, communicator, dataset=dataset, module=model, listener=listener, watch=watch)
    return open_run(out)


def _dataset(inputs: ArrayLike | None, targets: ArrayLike | None, owners: ArrayLike | None) -> Dataset | None:
    if inputs is None or targets is None:
        if inputs is not targets or owners is not None:
            raise DataError("inputs, targets and owners go together: give at least inputs and targets, or none")
        return None
    samples, classes = np.asarray(inputs), np.asarray(targets)
    if len(samples) != len(classes) or not len(samples):
        raise DataError(f"inputs has {len(samples)} samples and targets {len(classes)}: they must be equal and not 0")
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0:
        raise DataError("targets: must be one row of integers from 0, the class of each sample")
    return Dataset(
        name="arrays",
        inputs=samples,
        targets=classes.astype(np.int64),
        owners=None if owners is None else np.asarray(owners, np.int64),
        num_classes=int(classes.max()) + 1,
        test_inputs=None,
        test_targets=None,
    )
