from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import reader
from hpcfsl.trace.column import Column
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.schema import KEYS, TABLES
from hpcfsl.trace.updates import UpdateKey


@pytest.fixture(scope="module")
def run(finished: Path) -> reader.Run:
    return reader.open(finished)


def test_what_a_run_says_about_itself(maker, run: reader.Run, finished: Path) -> None:
    assert run.path == finished
    assert run.rounds_done == 5
    assert run.component_names == maker.components
    assert run.config_text == maker.config
    assert run.config == {"run": {"seed": 7, "name": "trial é"}}
    assert run.provenance == {"host": "here"}
    assert run.result_settings == '{"seed":7}'
    assert run.status == "resumable"


def test_status_is_that_of_the_moment(maker, tmp_path: Path) -> None:
    run = reader.open(maker.run(tmp_path, (1,)))
    RunFolder(tmp_path).set_status("finished")
    assert run.status == "finished"


@pytest.mark.parametrize("table", TABLES)
def test_tables_come_back(maker, run: reader.Run, table: str) -> None:
    found = run.table(table)
    assert list(found) == [column.name for column in TABLES[table]]
    parts = [maker.record(round).tables[table] for round in range(5)]
    for column in TABLES[table]:
        if not column.deterministic:
            continue
        expected = []
        for part in parts:
            order = np.lexsort([part[key] for key in reversed(KEYS[table])])
            expected.append(part[column.name][order].astype(column.numpy))
        assert np.array_equal(found[column.name], np.concatenate(expected), equal_nan=column.is_float)
        assert np.array_equal(run.column(table, column.name), found[column.name], equal_nan=column.is_float)


@pytest.mark.parametrize("table", TABLES)
def test_frames(run: reader.Run, table: str) -> None:
    frame = run.frame(table)
    rows = run.table(table)
    assert len(frame) == len(rows[TABLES[table][0].name])
    if table == "participation":
        assert np.array_equal(frame["component_norm"], rows["components"][:, 1], equal_nan=True)
        assert np.array_equal(frame["sketch_63"], rows["sketch"][:, 63], equal_nan=True)
        assert "components" not in frame
        assert frame["status"].dtype == np.int8
    if table == "events":
        assert frame["kind"][0] == "kind 0"


def test_row_start_finds_the_rows_of_a_round(maker, finished: Path) -> None:
    with h5py.File(finished / "trace" / "segment_000002_000005.h5") as file:
        group = file["participation"]
        assert group["segment_round"][()].tolist() == [2, 3, 4]
        assert group["row_start"][()].tolist() == [0, maker.clients, 2 * maker.clients]


def test_labels(run: reader.Run) -> None:
    assert run.labels("participation", "status") == ("kept", "excluded", "non-finite", "withheld", "lost", "screened")
    assert run.labels("rounds", "train_loss") == ()


@pytest.mark.parametrize("ask", ["table", "frame", "empty"])
def test_unknown_table(run: reader.Run, ask: str) -> None:
    with pytest.raises(KeyError, match="no table 'clinets'"):
        getattr(run, ask)("clinets")


def test_unknown_column(run: reader.Run) -> None:
    with pytest.raises(KeyError, match="no column 'acuracy' in rounds"):
        run.column("rounds", "acuracy")


def test_updates_by_key(maker, run: reader.Run) -> None:
    keys = run.update_keys()
    assert keys == sorted(keys)
    assert keys[:3] == [UpdateKey(0, "global", -1), UpdateKey(0, "group", 0), UpdateKey(0, "group", 1)]
    assert len(keys) == 15
    assert np.array_equal(run.global_update(3), maker.update(3, -1))
    assert np.array_equal(run.group_update(4, 1), maker.update(4, 1))
    found = list(run.updates(end_round=2))
    assert [key for key, _ in found] == keys[:6]
    assert np.array_equal(found[4][1], maker.update(1, 0))


def test_update_that_was_not_recorded(run: reader.Run) -> None:
    with pytest.raises(
        RunFolderError, match=r"round_000001/group_0009 was not recorded; update_keys\(\) lists what was"
    ):
        run.group_update(1, 9)
    with pytest.raises(RunFolderError, match="round_000050/global was not recorded"):
        run.global_update(50)


def test_weights_are_those_of_the_newest_checkpoint(maker, run: reader.Run) -> None:
    assert np.array_equal(run.weights(), maker.weights(5))


def test_a_run_before_its_first_commit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.config.write_text("[run]\nseed = 1\n")
    run = reader.open(str(tmp_path))
    run.verify()
    assert (run.rounds_done, run.component_names, run.result_settings, run.provenance) == (0, (), "", {})
    assert run.config == {"run": {"seed": 1}}
    assert run.table("participation")["components"].shape == (0, 0)
    assert run.update_keys() == []
    with pytest.raises(RunFolderError, match="no checkpoint yet; wait for the first one"):
        run.weights()


def test_broken_configuration_of_a_run_without_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"[run\n\xff")
    with pytest.raises(RunFolderError, match=r"config.toml: not TOML .*; restore it"):
        _ = reader.open(tmp_path).config


@pytest.mark.parametrize("name", ["", "none"])
def test_not_a_run_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFolderError, match="not a run folder; name what was given as --out"):
        reader.open(tmp_path / name)


def test_a_reader_keeps_its_view_while_the_run_goes_on(maker, tmp_path: Path) -> None:
    maker.run(tmp_path, (1, 2))
    run = reader.open(tmp_path)
    maker.run(tmp_path, (3,))
    assert run.rounds_done == 2
    assert len(run.table("rounds")["round"]) == 2
    run.verify()
    assert reader.open(tmp_path).rounds_done == 3


def test_verify_does_not_mind_a_checkpoint_deleted_by_the_run(
    maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reader.open(maker.run(tmp_path, (1, 2)))
    monkeypatch.setattr(reader, "list_checkpoints", lambda folder: [folder.checkpoints / "round_000000.h5"])
    run.verify()


def test_every_group_opens_in_xarray_without_a_warning(maker, finished: Path, run: reader.Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in sorted((finished / "trace").iterdir()):
            for group in [None, *TABLES]:
                with xarray.open_dataset(path, group=group, engine="h5netcdf") as data:
                    data.load()
                    for column in TABLES.get(group, ()):
                        assert data[column.name].dims == ("row",) if column.axis is None else ("row", column.axis)
                        assert data[column.name].attrs["long_name"] == column.long_name


def test_xarray_sees_names_and_missing_numbers(maker, finished: Path) -> None:
    with xarray.open_dataset(
        finished / "trace" / "segment_000000_000002.h5", group="participation", engine="h5netcdf"
    ) as data:
        assert [name.decode() for name in data["component"].values] == list(maker.components)
        assert data["status"].attrs["flag_meanings"] == "kept excluded non-finite withheld lost screened"
        assert data["status"].attrs["flag_values"].tolist() == [0, 1, 2, 3, 4, 5]
        assert data["bytes_model_up"].attrs["units"] == "byte"
        assert data["status"].attrs["deterministic"] == 1


def test_segments_without_rows_and_without_components_open(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path, component_names=())
    writer.commit(maker.checkpoint(0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for group in TABLES:
            path = tmp_path / "trace" / "segment_000000_000001.h5"
            with xarray.open_dataset(path, group=group, engine="h5netcdf") as data:
                assert data.sizes["row"] == 0
    assert reader.open(tmp_path).frame("participation").empty


def test_reading_needs_neither_torch_nor_mpi_nor_pandas() -> None:
    program = (
        "import sys, json\n"
        "import hpcfsl.trace.reader, hpcfsl.trace.writer, hpcfsl.trace.digest, hpcfsl.trace.compare\n"
        "import hpcfsl.trace.inspect, hpcfsl.trace.table\n"
        "print(json.dumps(sorted({'torch', 'mpi4py', 'pandas', 'xarray'} & set(sys.modules))))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert json.loads(found.stdout) == []


def test_what_an_older_minor_version_did_not_record_is_missing(
    maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reader.open(maker.run(tmp_path, (2,)))
    told = {"units": "1", "long_name": "new", "description": "New.", "deterministic": True}
    number = Column(name="new", dtype="f8", missing=float("nan"), **told)
    code = Column(name="state", dtype="i1", flags=("no", "yes"), **told)
    rows = len(run.column("participation", "client"))
    monkeypatch.setitem(TABLES, "participation", (*TABLES["participation"], number, code))
    monkeypatch.setitem(TABLES, "fresh", (number, code))
    found = run.table("participation")
    assert np.isnan(found["new"]).sum() == len(found["client"]) == rows
    assert found["state"].tolist() == [0] * rows
    assert {name: len(values) for name, values in run.table("fresh").items()} == {"new": 0, "state": 0}
