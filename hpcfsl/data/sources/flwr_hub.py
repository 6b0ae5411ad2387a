"""Partitions as the package flwr-datasets makes them, of a data set of the Hugging Face hub or of a folder.

Needs `pip install 'hpcfsl[flwr]'`. `data.dataset` names a data set of the hub, which is downloaded by that package into
its own cache, or a folder with Parquet, CSV or JSON files, which needs no network. Each of its partitions becomes a
natural client, so choose `partition.rule = "natural"`. Columns of pictures become [channels, height, width], columns of
numbers or lists of numbers stay as they are. Scripts of data sets are never run. Choose it to train on the very
partitions that somebody else used; for the rest, the other sources are faster and need fewer packages.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.files import MAX_CLASSES
from hpcfsl.errors import ConfigError, DataError, one_line, shorten


@sources.register
class FlwrDatasets(Source):
    """Samples and clients from flwr-datasets."""

    source: Literal["flwr-datasets"] = "flwr-datasets"
    """Partitions of flwr-datasets, of a data set of the Hugging Face hub or of a folder."""

    dataset: str = Field(min_length=1)
    """Name on the hub, such as "ylecun/mnist", or path of a folder with Parquet, CSV or JSON files."""

    subset: str = ""
    """Which configuration of the data set; empty where it has one."""

    split: str = Field("train", min_length=1)
    """The part that is divided into clients."""

    test_split: str = ""
    """The part that is the global test set; empty to have the partition hold out samples."""

    samples: str = Field(min_length=1)
    """Name of the column with the samples: pictures, numbers, or lists of numbers of one shape."""

    label: str = Field(min_length=1)
    """Name of the column with the class: whole numbers 0, 1, 2, ..."""

    partitioner: Literal["iid", "dirichlet", "natural-id", "pathological"] = "iid"
    """The partitioner: IidPartitioner, DirichletPartitioner, NaturalIdPartitioner or PathologicalPartitioner."""

    partitions: int = Field(10, ge=1, le=1_000_000)
    """Number of partitions; natural-id has one for each value of `client`."""

    client: str = ""
    """natural-id: name of the column that says whose a sample is."""

    alpha: float = Field(0.5, gt=0.0, le=1e6)
    """dirichlet: concentration; small ones make partitions that differ."""

    classes: int = Field(2, ge=1, le=MAX_CLASSES)
    """pathological: classes of a partition."""

    def load(self, seed: int) -> Dataset:
        """Return the samples of all partitions end to end; `seed` is that of the partitioner.

        Raises:
            DataError: The package is missing, the data set cannot be had, or a column cannot be read.
            ConfigError: A column does not exist, or `client` is missing.
        """
        if (self.partitioner == "natural-id") != bool(self.client):
            raise ConfigError("data.client", self.client, "goes with data.partitioner = 'natural-id', which needs it")
        with warnings.catch_warnings(action="ignore"):  # of packages below, about each other
            parts, test = self._read(seed)
        inputs = self._join([part[0] for part in parts])
        targets = np.concatenate([part[1] for part in parts])
        labels = [targets, *([test[1]] if test else [])]
        return Dataset(
            name=self.dataset,
            inputs=inputs,
            targets=targets,
            owners=np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts]),
            num_classes=int(max(each.max() for each in labels)) + 1,
            test_inputs=test[0] if test else None,
            test_targets=test[1] if test else None,
        )

    def _read(self, seed: int) -> tuple[list[tuple[NDArray[Any], NDArray[np.int64]]], Any]:
        """Return samples and classes of each partition that is not empty, and of the test set or None."""
        try:
            import datasets
            from flwr_datasets import FederatedDataset
        except ImportError:
            raise DataError(
                "data.source = 'flwr-datasets': the package is missing; run: pip install 'hpcfsl[flwr]'"
            ) from None
        datasets.disable_progress_bars()
        local = Path(self.dataset).expanduser()
        name = str(local) if local.is_dir() else self.dataset
        try:
            federated = FederatedDataset(
                dataset=name, subset=self.subset or None, partitioners={self.split: self._partitioner(seed)}, seed=seed
            )
            parts = list(self._partitions(federated))
            test = self._convert(federated.load_split(self.test_split)) if self.test_split else None
        except (ConfigError, DataError):
            raise
        except Exception as error:  # whatever datasets, its file systems and its readers raise
            text = f"data.dataset = {shorten(self.dataset)}: cannot be read ({type(error).__name__}: {error})"
            raise DataError(one_line(f"{text[:500]}; check its name, columns and splits, and the network")) from None
        if not parts:
            raise DataError(f"data.dataset = {shorten(self.dataset)}: all partitions are empty; choose another split")
        return parts, test

    def _partitioner(self, seed: int) -> Any:
        from flwr_datasets import partitioner

        if self.partitioner == "iid":
            return partitioner.IidPartitioner(self.partitions)
        if self.partitioner == "natural-id":
            return partitioner.NaturalIdPartitioner(self.client)
        if self.partitioner == "dirichlet":
            return partitioner.DirichletPartitioner(
                self.partitions, self.label, self.alpha, min_partition_size=1, seed=seed
            )
        return partitioner.PathologicalPartitioner(self.partitions, self.label, self.classes, seed=seed)

    def _partitions(self, federated: Any) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        first = federated.load_partition(0, self.split)  # a partitioner counts once it has its data
        for number in range(federated.partitioners[self.split].num_partitions):
            part = first if number == 0 else federated.load_partition(number, self.split)
            if len(part):
                yield self._convert(part)

    def _convert(self, part: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return samples [n, ...] and classes [n] of a part of the data."""
        for key, name in (("samples", self.samples), ("label", self.label)):
            if name not in part.column_names:
                raise ConfigError(f"data.{key}", name, f"no such column; choose one of {', '.join(part.column_names)}")
        columns = part.with_format("numpy")
        samples, labels = np.asarray(columns[self.samples][:]), np.asarray(columns[self.label][:])
        if samples.dtype.kind not in "buif":
            raise self._unreadable("samples", self.samples, "numbers of one shape")
        if labels.dtype.kind not in "bui" or labels.ndim != 1 or labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise self._unreadable("label", self.label, "whole numbers 0, 1, 2, ...")
        if type(part.features[self.samples]).__name__ == "Image":
            samples = samples[:, None] if samples.ndim == 3 else samples.transpose(0, 3, 1, 2)
        return samples.reshape(len(samples), -1) if samples.ndim == 1 else samples, labels.astype(np.int64)

    def _unreadable(self, key: str, name: str, wanted: str) -> DataError:
        return DataError(f"data.{key} = {shorten(name)}: the column does not hold {wanted}; choose another one")

    def _join(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        if len({part.shape[1:] for part in parts}) > 1:
            raise self._unreadable("samples", self.samples, "samples of one shape")
        return np.concatenate(parts)
