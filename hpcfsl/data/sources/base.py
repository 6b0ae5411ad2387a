"""What every source of data is, and the registry that they are entered in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from hpcfsl.data.dataset import Dataset
from hpcfsl.settings import Registry, Settings


class Source(Settings, ABC):
    """Settings of one data set; a subclass adds `source: Literal["its-name"] = "its-name"`."""

    reads: ClassVar[tuple[str, ...]] = ()
    """The settings that name all files and folders that `load` reads, so that `run.data_cache` may keep what it returns
    until one of them changes; empty where that depends on anything else."""

    uses_seed: ClassVar[bool] = True
    """Whether what `load` returns depends on the seed; if false, `run.data_cache` keeps one file for all seeds."""

    standardise: bool = True
    """Whether inputs are shifted and scaled to mean 0 and standard deviation 1 over the training rows; not symbols."""

    @abstractmethod
    def load(self, seed: int) -> Dataset:
        """Return the whole data set; generated data depends on `seed`, and a test set that is drawn.

        Raises:
            DataError: A file or package is missing, or a file is broken; the text says how to mend it.
        """


sources: Registry[Source] = Registry("data", key="source", default="digits")
