"""A flipped byte or a cut anywhere in a committed file is an error that names the file, never a wrong number."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import reader
from hpcfsl.trace.digest import digest
from hpcfsl.trace.hdf5 import build, reading
from hpcfsl.trace.inspect import summary
from hpcfsl.trace.schema import TABLES

FILES = ["trace/segment_000000_000002.h5", "trace/segment_000002_000005.h5", "checkpoints/round_000005.h5", "updates"]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def read_all(path: Path) -> None:
    run = reader.open(path)
    for table in TABLES:
        run.table(table)
    for key in run.update_keys():
        run._update(key)
    run.weights()


def pick(run: Path, name: str, chance: random.Random) -> Path:
    return chance.choice(sorted((run / name).iterdir())) if name == "updates" else run / name


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["flip", "cut", "grow", "gone", "empty"])
def test_damage_raises_and_names_the_file(copy: Path, name: str, kind: str) -> None:
    chance = random.Random(f"{name} {kind}")
    for _ in range(1 if kind in ("gone", "empty") else 8):
        path = pick(copy, name, chance)
        good = path.read_bytes()
        at = chance.randrange(len(good))
        bad = {
            "flip": good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) + good[at + 1 :],
            "cut": good[:at],
            "grow": good + b"\0",
            "empty": b"",
        }
        if kind == "gone":
            path.unlink()
        else:
            path.write_bytes(bad[kind])
        # Without its newest checkpoint a run is one that stopped earlier: nothing is wrong with that one.
        if not (kind == "gone" and name.startswith("checkpoints")):
            for action in (read_all, lambda run: reader.open(run).verify(), lambda run: digest(reader.open(run))):
                with pytest.raises(RunFolderError) as info:
                    action(copy)
                assert path.name in str(info.value)
                assert "\n" not in str(info.value)
            with pytest.raises(RunFolderError, match=path.name):
                summary(reader.open(copy))
        path.write_bytes(good)
    read_all(copy)


def test_flip_in_the_older_checkpoint_is_found_by_verify(copy: Path) -> None:
    path = copy / "checkpoints" / "round_000002.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"\xfe")
    run = reader.open(copy)
    assert run.rounds_done == 5
    with pytest.raises(RunFolderError, match=r"round_000002.h5: damaged"):
        run.verify()


def test_damage_after_the_first_look_is_found_by_verify(copy: Path) -> None:
    run = reader.open(copy)
    run.table("rounds")
    path = copy / "trace" / "segment_000000_000002.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"\xfe")
    with pytest.raises(RunFolderError, match="its sha256 is not the one committed"):
        run.verify()


def test_a_file_that_lacks_what_it_should_hold_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(build(lambda file: None))
    with pytest.raises(RunFolderError, match=r"x.h5: damaged"), reading(tmp_path / "x.h5") as file:
        file["rounds"]


def test_a_file_that_is_not_hdf5_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"text")
    with pytest.raises(RunFolderError, match=r"x.h5: damaged"), reading(tmp_path / "x.h5"):
        pass
