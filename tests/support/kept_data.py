"""Small data sets of every source that is read from files, and what `run.data_cache` makes of them."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.base import Source

ROWS = 2000
X = np.random.default_rng(0).normal(size=(ROWS, 3, 8, 8)).astype(np.float32)  # 1.5 MB: a large array
Y = np.arange(ROWS) % 5
WHO = np.array([f"c{row % 7}" for row in range(ROWS)])


def write_npz(folder: Path) -> dict[str, Any]:
    np.savez(folder / "a.npz", x=X, y=Y, client=WHO, x_test=X[::3], y_test=Y[::3], client_test=WHO[::3])
    return {"source": "npz", "file": str(folder / "a.npz")}


def write_hdf5(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"], file["client"] = X, Y.astype(np.float64), WHO.astype("S")
    return {"source": "hdf5", "file": str(folder / "a.h5")}


def write_tff(folder: Path) -> dict[str, Any]:
    for name, step in ("train", 1), ("test", 4):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for who in np.unique(WHO):
                rows = np.flatnonzero(who == WHO)[::step]
                file[f"examples/{who}/image"], file[f"examples/{who}/label"] = X[rows], Y[rows].astype(np.int32)
    return {"source": "tff-hdf5", "file": str(folder / "train.h5"), "test_file": str(folder / "test.h5")}


def write_csv(folder: Path) -> dict[str, Any]:
    lines = ["a,b,kind", *(f"{row / 7},{row % 3},k{row % 4}" for row in range(300))]
    (folder / "a.csv").write_text("\n".join(lines))
    return {"source": "csv", "file": str(folder / "a.csv"), "label": "kind"}


def write_series(folder: Path) -> dict[str, Any]:
    lines = ["home,load", *(f"h{home},{home + step / 9}" for home in range(3) for step in range(60))]
    (folder / "a.csv").write_text("\n".join(lines))
    where = {"file": str(folder / "a.csv"), "client": "home", "values": ["load"]}
    return {"source": "series", **where, "window": 4, "horizon": 2, "test_share": 0.4}


def write_texts(folder: Path) -> dict[str, Any]:
    lines = ["text,stars,who", *(f"word{row % 11} and more,{row % 5},w{row % 3}" for row in range(90))]
    (folder / "a.csv").write_text("\n".join(lines))
    return {"source": "text-table", "file": str(folder / "a.csv"), "text": "text", "label": "stars", "client": "who"}


def write_leaf(folder: Path) -> dict[str, Any]:
    (folder / "train").mkdir()
    data = {f"u{user}": {"x": [[0.5, user], [1.5, 2]], "y": [0, 1]} for user in range(3)}
    (folder / "train" / "a.json").write_text(
        json.dumps({"users": list(data), "num_samples": [2] * 3, "user_data": data})
    )
    return {"source": "leaf-json", "folder": str(folder)}


def write_wav(folder: Path) -> dict[str, Any]:
    for number in range(6):
        with wave.open(str(folder / f"{number % 2}_s{number % 3}_{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(((np.arange(8000) * (number + 3)) % 2000).astype("<i2").tobytes())
    return {"source": "wav", "folder": str(folder), "features": "mfcc"}


WRITERS = [write_npz, write_hdf5, write_tff, write_csv, write_series, write_texts, write_leaf, write_wav]


def made(write: Any, folder: Path) -> Source:
    folder.mkdir()
    return sources.parse(write(folder))


def assert_same(found: Dataset, wanted: Dataset) -> None:
    for name, value in vars(wanted).items():
        other = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert (other.dtype, other.shape) == (value.dtype, value.shape), name
            np.testing.assert_array_equal(other, value)
        else:
            assert other == value, name


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.data"))
