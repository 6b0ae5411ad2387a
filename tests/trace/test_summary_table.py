from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpcfsl.trace import reader
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.inspect import summary
from hpcfsl.trace.schema import PHASES, TABLES
from hpcfsl.trace.table import write_csv


@pytest.fixture(scope="module")
def run(finished: Path) -> reader.Run:
    return reader.open(finished)


def known_run(maker, path: Path) -> reader.Run:
    """Return a run of two rounds whose numbers are easy to add up."""

    def change(record):
        tables = {
            table: {name: values.copy() for name, values in rows.items()} for table, rows in record.tables.items()
        }
        client = tables["participation"]["client"]
        tables["participation"]["attacker"] = (client < 2).astype(int)
        tables["participation"]["status"] = np.select(
            [client == 0, client == 1, client == 2, client == 3], [1, 2, 1, 3], 0
        )
        tables["participation"]["bytes_model_up"] = np.full(len(client), 10)
        rounds = tables["rounds"]
        rounds["test_accuracy"][:] = 0.75 if record.round == 0 else np.nan
        rounds["test_loss"][:] = np.nan
        rounds["train_loss"][:] = 0.5 - record.round / 4
        rounds["seconds"][:] = 1.5
        rounds["bytes_up"][:] = 1000
        tables["timings"] = {
            "round": np.full(4, record.round),
            "rank": np.array([0, 0, 1, 1]),
            "phase": np.array([PHASES.index("train"), PHASES.index("other")] * 2),
            "seconds": np.array([1.0, 0.25, 3.0, 0.125]),
        }
        number = 2 if record.round == 0 else 0
        tables["ranks"] = {
            "rank": np.arange(number),
            "host": np.array(["b", "a"][:number], dtype=object),
            "pid": np.arange(number),
            "device": np.array(["cpu"] * number, dtype=object),
            "threads": np.ones(number, int),
            "first_round": np.zeros(number, int),
        }
        return replace(record, tables=tables)

    maker.run(path, (1, 2), change=change)
    RunFolder(path).set_status("finished")
    return reader.open(path)


def test_summary_adds_up(maker, tmp_path: Path) -> None:
    found = summary(known_run(maker, tmp_path))
    assert found["status"] == "finished"
    assert found["rounds_done"] == 2
    assert found["config"]["run"]["seed"] == 7
    assert found["provenance"] == {"host": "here"}
    assert found["ranks"] == {"count": 2, "starts": 1, "hosts": ["a", "b"], "devices": ["cpu"], "threads": [1]}
    assert found["final"]["evaluated_round"] == 0
    assert found["final"]["test_accuracy"] == found["best_test_accuracy"] == 0.75
    assert found["final"]["test_loss"] is None
    assert found["final"]["train_loss"] == 0.25
    assert found["detection"] == {
        "attackers": 4,
        "attackers_excluded": 4,
        "honest": 8,
        "honest_excluded": 2,
        "true_positive_rate": 1.0,
        "false_positive_rate": 0.25,
    }
    assert found["bytes"]["up"] == 2000
    assert found["bytes"]["model_up"] == 2 * maker.clients * 10
    assert found["seconds"]["total"] == 3.0
    assert found["seconds"]["by_phase"]["train"] == 6.0
    assert found["seconds"]["by_phase"]["other"] == 0.5
    assert found["seconds"]["by_phase"]["score"] == 0.0
    assert len(found["events"]) == 4
    assert found["events"][0] == {"time": "time 0", "round": 0, "kind": "kind 0", "text": "text 0"}


def test_summary_is_strict_json(run: reader.Run) -> None:
    assert json.loads(json.dumps(summary(run), allow_nan=False)) == summary(run)


def test_summary_before_the_first_commit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.config.write_text("day = 2024-02-29\nlimits = [1.5, inf]\n")
    found = summary(reader.open(tmp_path))
    assert found["config"] == {"day": "2024-02-29", "limits": [1.5, None]}
    assert found["ranks"]["count"] == found["rounds_done"] == 0
    assert found["detection"]["true_positive_rate"] is None
    assert found["final"]["evaluated_round"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("table", TABLES)
def test_csv_reads_back(run: reader.Run, table: str) -> None:
    stream = io.StringIO(newline="")
    write_csv(run, table, stream)
    stream.seek(0)
    found, expected = list(csv.DictReader(stream)), run.frame(table)
    assert len(found) == len(expected)
    assert not found or list(found[0]) == list(expected)
    codes = {column.name: column.flags for column in TABLES[table]}
    for name in expected:
        cells, wanted = [row[name] for row in found], expected[name]
        if wanted.dtype.kind == "f":
            assert np.array_equal(
                np.array([float(cell or "nan") for cell in cells], wanted.dtype), wanted, equal_nan=True
            )
        else:
            labels = codes.get(name)
            assert cells == [labels[value] if labels else str(value) for value in wanted.tolist()]


def test_csv_of_odd_values(maker, tmp_path: Path) -> None:
    values = [np.inf, -np.inf, np.nan, 1e-300, 0.1, 1e22]

    def change(record):
        rows = {**record.tables["participation"]}
        rows["norm"] = np.array(values)[rows["client"]]
        return replace(record, tables={**record.tables, "participation": rows})

    run = reader.open(maker.run(tmp_path, (1,), change=change))
    stream = io.StringIO(newline="")
    write_csv(run, "participation", stream)
    stream.seek(0)
    assert [row["norm"] for row in csv.DictReader(stream)] == ["inf", "-inf", "", "1e-300", "0.1", "1e+22"]


def test_csv_without_rows_is_its_header(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.config.write_text("")
    stream = io.StringIO(newline="")
    write_csv(reader.open(tmp_path), "clients", stream)
    assert stream.getvalue() == "client,first_round,owner,attacker,cut,device_class,num_train,num_test,held_out\n"


def test_csv_of_an_unknown_table(run: reader.Run) -> None:
    with pytest.raises(KeyError, match="no table 'x'"):
        write_csv(run, "x", io.StringIO())
