"""Large arrays are read without a second copy: the peak of memory is hardly more than what is kept."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcfsl.data.sources import sources
from hpcfsl.data.sources.idx import read_idx

SHAPE = (3000, 1, 40, 40)  # 19 MB in float32


def images() -> np.ndarray[Any, Any]:
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def write_npz(folder: Path) -> dict[str, Any]:
    np.savez(folder / "a.npz", x=images(), y=np.zeros(SHAPE[0], int))
    return {"source": "npz", "file": str(folder / "a.npz")}


def write_hdf5(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"] = images(), np.zeros(SHAPE[0], int)
    return {"source": "hdf5", "file": str(folder / "a.h5")}


def write_tff(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "a.h5", "w") as file:
        for client, part in enumerate(np.split(images()[:, 0], 30)):
            file[f"examples/c{client:02d}/pixels"], file[f"examples/c{client:02d}/label"] = (
                part,
                np.zeros(len(part), np.int32),
            )
    return {"source": "tff-hdf5", "file": str(folder / "a.h5")}


def peak_of(read: Any) -> tuple[int, Any]:
    read()  # so that what is imported is not counted
    tracemalloc.start()
    try:
        kept = read()
        return tracemalloc.get_traced_memory()[1], kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_tff])
def test_arrays_are_never_held_twice(write: Any, tmp_path: Path) -> None:
    settings = sources.parse(write(tmp_path))
    peak, dataset = peak_of(lambda: settings.load(0))
    np.testing.assert_array_equal(dataset.inputs, images())
    assert peak < 1.15 * dataset.inputs.nbytes


def test_numbers_of_another_byte_order_are_swapped_in_place(tmp_path: Path) -> None:
    header = struct.pack(">HBB4I", 0, 0x0D, 4, *SHAPE)
    (tmp_path / "a").write_bytes(header + images().astype(">f4").tobytes())
    peak, array = peak_of(lambda: read_idx(tmp_path / "a"))
    np.testing.assert_array_equal(array, images())
    assert array.dtype == np.dtype("f4")
    assert peak < 1.15 * array.nbytes
