"""The samples as training and evaluation read them: gathered, converted and standardised on the way.

Layer 1. The raw data stays as stored; only the rows asked for are converted: numbers to float32, symbols and classes to
int64. Mean and standard deviation come from the training rows of all clients together and never from a test row.
Targets that are numbers are standardised like inputs, so that one learning rate suits any unit; `target_scale` turns
errors back into the data's own units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.population import Population, RowPopulation

_CHUNK_ROWS = 4096

Samples = NDArray[np.float32] | NDArray[np.int64]
"""Inputs of samples as a model takes them: float32, or int64 where they are symbols."""


Targets = NDArray[np.int64] | NDArray[np.float32]
"""Targets of samples as a loss takes them: classes, int64, or numbers, float32."""


class Feed:
    """A data set divided into clients, ready to be read.

    The global test set is the source's own where it has one, otherwise the held-out rows of all clients.

    Args:
        dataset: The data.
        population: Which rows each client holds.
        standardise: Whether inputs get mean 0 and standard deviation 1 over the training rows of all clients: for
            images [channels, height, width] and waveforms [1, numbers] a channel at a time, otherwise, as in windows
            [steps, features], a feature at a time. Without, they are only converted to float32. Symbols have no mean;
            they are int64 in either case. Targets that are numbers get mean 0 and standard deviation 1 too, an output
            at a time.
        held_out: Clients that never train, as `held_out.divide_off` makes them; None for nobody. Their ids are the
            numbers after those of `population`.

    Attributes:
        dataset: As given.
        population: As given.
        held_out: As given.
        sample_shape: Shape of one sample.
        target_shape: Shape of one sample's targets: (), (positions,) or (outputs,).
        num_classes: Number of classes; 0 where targets are numbers.
        num_outputs: Classes, or numbers to predict.
        target_shift: What is taken from each number to predict, float64 [outputs]; None where targets are classes.
        target_scale: By what it is divided then, float64 [outputs]; None where targets are classes.
        num_clients: Number of clients.
        num_test: Samples in the global test set, at least one.
    """

    def __init__(
        self, *, dataset: Dataset, population: Population, standardise: bool, held_out: RowPopulation | None = None
    ) -> None:
        self.dataset, self.population, self.held_out = dataset, population, held_out
        self.sample_shape, self.num_classes = dataset.sample_shape, dataset.num_classes
        self.target_shape, self.num_outputs = dataset.target_shape, dataset.num_outputs
        self.num_clients = population.num_clients
        self._test_rows = _test_rows(dataset, population, held_out)
        self.num_test = len(self._test_rows)
        self._shift_and_scale: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if standardise and not dataset.vocabulary:
            mean, deviation = mean_and_deviation(dataset.inputs, population.train_pool())
            self._shift_and_scale = mean.astype(np.float32), (1.0 / deviation).astype(np.float32)
        self.target_shift: NDArray[np.float64] | None = None
        self.target_scale: NDArray[np.float64] | None = None
        if dataset.has_numbers:
            self.target_shift, self.target_scale = np.zeros(self.num_outputs), np.ones(self.num_outputs)
            if standardise:
                self.target_shift, self.target_scale = mean_and_deviation(dataset.targets, population.train_pool())

    def inputs(self, rows: NDArray[np.int64]) -> Samples:
        """Return samples of `dataset.inputs`, float32, or int64 for symbols, [len(rows), *sample_shape]."""
        return self._convert(self.dataset.inputs.take(rows, axis=0))

    def targets(self, rows: NDArray[np.int64]) -> Targets:
        """Return classes, int64, or standardised numbers, float32, of rows of the data [len(rows), *target_shape]."""
        return self._convert_targets(self.dataset.targets[rows])

    def test_batch(self, start: int, stop: int) -> tuple[Samples, Targets]:
        """Return samples start .. stop - 1 of the global test set: inputs [stop - start, *sample_shape] and targets."""
        return self._gather(self._test_rows[start:stop], from_test_set=self.dataset.test_inputs is not None)

    def test_targets(self, start: int, stop: int) -> Targets:
        """Return the targets alone of what `test_batch` returns."""
        rows, of_test_set = self._test_rows[start:stop], self.dataset.test_targets
        return self.targets(rows) if of_test_set is None else self._convert_targets(of_test_set[rows])

    def last_values(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """Return the last known value of each number that is forecast, for samples of the global test set.

        Float32 as `test_targets`, [stop - start, outputs]; None where the data forecasts nothing.
        """
        if not self.dataset.last_values:
            return None
        source = self.dataset.inputs if self.dataset.test_inputs is None else self.dataset.test_inputs
        raw = source.take(self._test_rows[start:stop], axis=0).reshape(stop - start, -1)
        return self._convert_targets(raw[:, list(self.dataset.last_values)]).astype(np.float32, copy=False)

    def training_mean(self) -> NDArray[np.float64]:
        """Return the mean of the numbers to predict over all training samples, as `targets` has them [outputs]."""
        assert self.target_shift is not None
        assert self.target_scale is not None
        mean, _ = mean_and_deviation(self.dataset.targets, self.population.train_pool())
        centred: NDArray[np.float64] = (mean - self.target_shift) / self.target_scale
        return centred

    def client_test(self, client: int) -> tuple[Samples, Targets]:
        """Return one client's test samples, perhaps none: inputs and targets as `inputs` and `targets` do."""
        return self.clients_test(np.array([client]))

    def clients_test(self, clients: NDArray[np.int64]) -> tuple[Samples, Targets]:
        """Return the test samples of some clients end to end: inputs and targets as `inputs` and `targets` do."""
        rows = np.concatenate([self.population.test_rows(int(client)) for client in clients])
        return self._gather(rows, from_test_set=self.population.test_rows_of_test_set)

    def held_out_clients(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and numbers of samples of the clients that never train, int64 [clients] each."""
        assert self.held_out is not None
        clients = np.arange(self.held_out.num_clients)
        counts = self.held_out.train_counts(clients) + self.held_out.test_counts(clients)
        return clients + self.num_clients, counts

    def held_out_test(self, clients: NDArray[np.int64]) -> tuple[Samples, Targets]:
        """Return all samples of some clients that never train, end to end, as `clients_test` does."""
        assert self.held_out is not None
        parts = []
        for client in (clients - self.num_clients).tolist():
            parts.append(self._gather(self.held_out.train_rows(client), from_test_set=False))
            if len(rows := self.held_out.test_rows(client)):
                parts.append(self._gather(rows, from_test_set=True))
        inputs, targets = zip(*parts, strict=True)
        return np.concatenate(inputs), np.concatenate(targets)

    def _gather(self, rows: NDArray[np.int64], *, from_test_set: bool) -> tuple[Samples, Targets]:
        if not from_test_set:
            return self.inputs(rows), self.targets(rows)
        assert self.dataset.test_inputs is not None
        assert self.dataset.test_targets is not None
        targets = self._convert_targets(self.dataset.test_targets[rows])
        return self._convert(self.dataset.test_inputs.take(rows, axis=0)), targets

    def _convert_targets(self, raw: NDArray[Any]) -> Targets:
        if self.target_shift is None or self.target_scale is None:
            return raw.astype(np.int64, copy=False)
        return ((raw - self.target_shift) / self.target_scale).astype(np.float32)

    def _convert(self, raw: NDArray[Any]) -> Samples:
        if self.dataset.vocabulary:
            return raw.astype(np.int64, copy=False)
        samples = raw.astype(np.float32, copy=False)  # gathered: nobody else holds it
        if self._shift_and_scale is not None:
            shift, scale = self._shift_and_scale
            samples -= shift
            samples *= scale
        return samples


def _test_rows(dataset: Dataset, population: Population, held_out: RowPopulation | None) -> NDArray[np.int64]:
    """Return the rows of the global test set: of the source's own where it has one."""
    if dataset.test_inputs is None:
        return population.test_pool()
    rows = np.arange(len(dataset.test_inputs))
    return rows if held_out is None else np.setdiff1d(rows, held_out.test, assume_unique=True)


def mean_and_deviation(
    inputs: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of some rows, each float64 and of a shape that broadcasts against a sample.

    For samples [channels, height, width] and waveforms [1, numbers] one number a channel, otherwise one a feature, the
    last axis. A constant feature gets deviation 1. Sums run over chunks of rows in order, so memory stays small and
    every machine adds in the same order.
    """
    has_channels = inputs.ndim > 3 or inputs.shape[1:-1] == (1,)
    sample_axes = tuple(range(1, inputs.ndim - 1)) if has_channels else tuple(range(inputs.ndim - 2))
    count = len(rows) * int(np.prod([inputs.shape[1:][axis] for axis in sample_axes], dtype=np.int64))
    chunks = [rows[start : start + _CHUNK_ROWS] for start in range(0, len(rows), _CHUNK_ROWS)]

    def average(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(total.sum(axis=sample_axes, keepdims=True) / count)

    mean = average(sum((inputs[chunk].astype(np.float64).sum(axis=0) for chunk in chunks), np.zeros(inputs.shape[1:])))
    squares = (((inputs[chunk] - mean) ** 2).sum(axis=0) for chunk in chunks)
    deviation = np.sqrt(average(sum(squares, np.zeros(inputs.shape[1:]))))
    return mean, np.where(deviation > 0.0, deviation, 1.0)
