from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.mpirun import find_mpirun

from hpcfsl.bench import reductions
from hpcfsl.bench.method import measure as measure_method
from hpcfsl.bench.method import overhead
from hpcfsl.bench.request import Request
from hpcfsl.bench.shares import measure as measure_share
from hpcfsl.bench.shares import share
from hpcfsl.bench.tables import to_markdown
from hpcfsl.bench.worker import measure
from hpcfsl.cli import main
from hpcfsl.parallel.communicator import SerialCommunicator

FAKE_PEER = """#!{python}
import json, sys
if sys.argv[1] != "-c":
    request = json.loads(sys.argv[2])
    marks = [10.0 * place for place in range(4)]
    print(json.dumps({{"event": "start"}}))
    print(json.dumps({{"event": "result", "marks": marks, "cohort": request["cohort"], "peak_memory_bytes": [1000]}}))
"""
QUICK = ("--workload", "mlp", "--cohort", "8", "--repeats", "1", "--seconds", "0")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *[str(argument) for argument in arguments]])


@pytest.fixture
def fake_peer(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(FAKE_PEER.format(python=sys.executable))
    path.chmod(0o755)
    return path


def check_speed(report: dict[str, Any]) -> None:
    assert (report["format"], report["kind"]) == (1, "speed")
    assert {"processor", "cores", "versions", "instruction_set", "memory_bytes"} <= set(report["machine"])
    for result in report["results"]:
        assert {"workload", "title", "cohort", "parameters", "flops_per_client"} <= set(result)
        for row in result["contenders"]:
            assert len(row["series"]["rate"]) == report["settings"]["repeats"]
            assert row["series"]["rate"][0] > 0
            assert len(row["series"]["round_seconds"][0]) >= 3


@pytest.mark.mpi
@pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")
def test_ours_beside_a_peer(tmp_path: Path, fake_peer: Path) -> None:
    out = tmp_path / "new" / "result.json"
    options = ("--peer", "pfl", "--pfl-python", fake_peer, "--ranks", "2", "--json", out)
    done = call(*QUICK, *options)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    check_speed(report)
    names = [row["name"] for row in report["results"][0]["contenders"]]
    pfl = ["pfl, 1 x 1", "pfl, 1 x 2", "pfl, 2 x 1"]
    assert names == ["hpcfsl, 2 ranks", *pfl, "matrix product, 1 process", "matrix product, 2 processes"]
    assert len(report["results"][0]["contenders"][0]["series"]["peak_memory_bytes"][0]) == 2
    assert "hpcfsl, 2 ranks" in done.stdout
    shown = call("--markdown", out)
    assert shown.stdout == to_markdown([report])
    assert "| MLP 64-32-10 | hpcfsl, 2 ranks |" in shown.stdout


@pytest.mark.mpi
@pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")
def test_ranks_beside_independent_runs(tmp_path: Path) -> None:
    done = call(*QUICK, "--pair", "--seconds", "0.2", "--json", tmp_path / "pair.json")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "pair.json").read_text())
    check_speed(report)
    assert [row["side"] for row in report["results"][0]["contenders"]] == ["ours", "pair", "gemm"]
    assert "2 runs of 1 rank together" in to_markdown([report])


def test_the_method_beside_averaging(tmp_path: Path) -> None:
    out = tmp_path / "method.json"
    done = call("--method", *QUICK, "--ranks", "1", "--json", out)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    (result,) = report["results"]
    assert (report["kind"], result["ranks"], len(result["ratio"])) == ("method", 1, 1)
    assert len(result["averaging_seconds"]) == len(result["method_seconds"]) == 3
    assert "The whole method over plain averaging" in done.stdout


@pytest.mark.mpi
@pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")
def test_what_the_exact_sum_and_the_trace_cost(tmp_path: Path) -> None:
    out = tmp_path / "overheads.json"
    done = call("--overheads", *QUICK, "--sizes", "1e3,5000", "--ranks", "2", "--json", out)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    sums, written = report["results"]
    assert (report["kind"], sums["ranks"], [row["parameters"] for row in sums["sizes"]]) == (
        "overheads",
        2,
        [1000, 5000],
    )
    for row in sums["sizes"]:
        assert len(row["exact_seconds"]) == len(row["float32_seconds"]) == 1
        assert 0 < row["difference"] < 1e-6
    assert (written["workload"], written["ranks"], len(written["round_seconds"][0])) == ("mlp", 2, 3)
    assert 0 < written["share"][0] < 1
    shown = call("--markdown", out).stdout
    assert shown == to_markdown([report])
    assert "| 1,000 | 2 |" in shown
    assert "| MLP 64-32-10 | 2 |" in shown
    assert "Trace and checkpoint in a round" in done.stdout


def test_the_share_of_the_trace_in_this_process(tmp_path: Path) -> None:
    request = Request(workload="mlp", cohort=8, seconds=0.0, rounds=2, warmup=1)
    result = measure_share(request, SerialCommunicator(), tmp_path / "run")
    assert len(result["round_seconds"]) == 2
    assert 0 < result["record_seconds"] < sum(result["round_seconds"])
    written = result["record_seconds"] + result["commit_seconds"]
    assert share(result) == pytest.approx(written / (sum(result["round_seconds"]) + result["commit_seconds"]))


def test_sums_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reductions, "_COPIED", 1000)
    result = reductions.measure([10, 9000], 2, SerialCommunicator())
    assert [len(row["exact_seconds"]) for row in result["sizes"]] == [2, 2]
    # One rank has nothing to add: the exact sum is the row itself, and so is the other.
    assert [row["difference"] for row in result["sizes"]] == [0.0, 0.0]
    assert result["sizes"][1]["exact_memory_seconds"] == 9000 * 12 / result["bytes_per_second"]


def test_the_worker_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    request = Request(workload="digits", cohort=8, seconds=0.0, rounds=2, warmup=1)
    result = measure(request, SerialCommunicator())
    assert (len(result["marks"]), result["cohort"], result["device"]) == (3, 8, "cpu")
    assert result["flops_per_client"] == 50 * 2_006_784
    assert result["peak_memory_bytes"][0] > 10**7
    assert json.loads(capsys.readouterr().out) == {"event": "start"}


def test_the_method_is_recorded_and_committed(tmp_path: Path) -> None:
    from hpcfsl import open as open_run

    request = Request(workload="mlp", cohort=8, seconds=0.0, rounds=2, warmup=1)
    result = measure_method(request, SerialCommunicator(), tmp_path / "run")
    assert len(result["method_seconds"]) == 2
    seconds = sum(result["method_seconds"]) + result["commit_seconds"]
    assert overhead(result) == pytest.approx(seconds / sum(result["averaging_seconds"]))
    rounds = open_run(tmp_path / "run").column("participation", "round")
    assert sorted(set(rounds.tolist())) == [0, 1, 2, 3]  # warm-up, two timed ones, one more for the second commit


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--workload", "none"), "--workload 'none': unknown"),
        (("--peer", "pfl", "--pfl-python", "/no/python"), "--pfl-python /no/python: there is no such program"),
        (("--peer", "flower"), "--flower-python: must name the Python"),
        (("--ranks", "2,x"), "--ranks 2,x: write numbers"),
        (("--pfl-plans", "2"), "--pfl-plans 2: write processes x threads"),
        (("--variant", "x"), "--variant x: write it as NAME"),
        (("--workload", "mlp", "--set", "training.executor=fast"), "training.executor = 'fast'"),
        (("--markdown", "/no/file.json"), "cannot read the results /no/file.json"),
        (("some.json",), "some.json: files of results go with --markdown"),
        (("--overheads", "--sizes", "1e4,x"), "--sizes 1e4,x: write numbers of parameters"),
        (("--overheads", "--sizes", "9e9"), "--sizes 9e9: write numbers of parameters"),
        (("--overheads", "--method"), "--method and --overheads: choose one of them"),
    ],
)
def test_mistakes_are_one_line(options: tuple[str, ...], text: str) -> None:
    done = call(*options)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"hpcfsl: {text}")
    assert done.stderr.count("\n") == 1


def test_results_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"format": 0}')
    done = call("--markdown", tmp_path / "old.json")
    assert done.exit_code == 2
    assert "no results of `hpcfsl bench` in format 1" in done.stderr
