"""Sweeps: which runs a file gives, that doing it again only does what is left, and the table."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from support.slurm_fakes import Fakes

from hpcfsl.cli import main
from hpcfsl.cluster import array
from hpcfsl.cluster.results import read_rows, spread, summaries
from hpcfsl.cluster.sweep import apply, member_name, read_sweep
from hpcfsl.errors import UserError
from hpcfsl.trace.folder import RunFolder

Writer = Callable[..., Path]
BROKEN_RATE = {"name": "far", "training.learning_rate": 1e30}


@pytest.fixture
def write(config: Path, tmp_path: Path) -> Writer:
    """Return a writer of sweep files beside the base `config.toml`."""

    def write(**tables: Any) -> Path:
        path = tmp_path / "sweep.toml"
        path.write_text(tomli_w.dumps({"base": config.name, **tables}), encoding="utf-8")
        return path

    return write


@pytest.fixture
def small(write: Writer) -> Path:
    """Return a sweep of four runs that take milliseconds."""
    return write(seeds=[3, 4], fixed={"run": {"rounds": 2}}, grid={"training": {"learning_rate": [0.1, 0.2]}})


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what --local would start in processes of its own in this one, which saves seconds a run."""

    def finishes(command: Sequence[str]) -> bool:
        return call(*command[command.index("run") :]).exit_code == 0

    monkeypatch.setattr(array, "_finishes", finishes)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1].removeprefix("hpcfsl: ")


class TestRuns:
    def test_cases_times_grid_times_seeds(self, write: Writer) -> None:
        path = write(
            seeds=[0, 5],
            fixed={"run.rounds": 4},
            grid={"run.preset": ["averaging", "hardened"], "model": {"hidden": [[8], [4, 4]]}},
            case=[{"name": "none"}, {"name": "flip", "threat": {"attack": "sign-flip", "clients": 2}}],
        )
        members = read_sweep(path)
        assert len(members) == 2 * 4 * 2
        assert members[-1].name.startswith("flip__run.preset=hardened__model.hidden=-4-4-__seed=5-")
        assert members[-1].config.threat.clients == 2
        assert members[-1].config.model.model_dump()["hidden"] == (4, 4)
        assert {member.config.run.rounds for member in members} == {4}
        assert [member.seed for member in members] == [0, 5] * 8
        assert len({member.name for member in members}) == len(members)

    def test_a_base_alone_is_one_run(self, write: Writer) -> None:
        (member,) = read_sweep(write())
        assert (member.name, member.case, member.settings, member.seed) == ("base", "", {}, 0)

    def test_overrides_are_for_all(self, small: Path) -> None:
        assert {member.config.groups.number for member in read_sweep(small, ("groups.number=2",))} == {2}

    def test_a_grown_sweep_keeps_the_names(self, write: Writer) -> None:
        before = {member.name for member in read_sweep(write(grid={"training.learning_rate": [0.1]}, seeds=[1]))}
        grid = {"training.learning_rate": [0.05, 0.1]}
        assert before < {member.name for member in read_sweep(write(grid=grid, seeds=[0, 1]))}

    @pytest.mark.parametrize(
        ("tables", "words"),
        [
            ({"seed": [1]}, "sweep.seed = [1]: unknown; did you mean 'seeds'?"),
            ({"seeds": ["a"]}, "sweep.seeds.0 = 'a'"),
            ({"base": "none.toml"}, "none.toml: No such file"),
            ({"grid": {"run.rounds": 3}}, "sweep.grid.run.rounds = 3: must be a list of values"),
            ({"grid": {"run.rounds": []}}, "must be a list of values"),
            ({"grid": {"rnu.rounds": [3]}}, "sweep.grid.rnu.rounds = [3]: unknown; did you mean 'run'?"),
            ({"fixed": {"run": 3}}, "sweep.fixed.run = 3: write it as section.key"),
            ({"grid": {"run.rounds": [1, 0]}}, "run run.rounds=0: run.rounds = 0"),
            ({"grid": {"run.rounds": [1, 1]}}, "two runs would be run.rounds=1; leave one out"),
            ({"case": [{"run.rounds": 3}]}, "sweep.case.name = None: every case needs a name"),
            ({"case": [{"name": "../x"}]}, "sweep.case.name = '../x': every case needs a name of letters"),
            ({"case": [{"name": "a"}, {"name": "a"}]}, "two runs would be a"),
            ({"case": [{"name": "a", "run.rounds": 1}], "grid": {"run.rounds": [2]}}, "is in the grid as well"),
            ({"seeds": [1], "grid": {"run.seed": [2]}}, "run.seed is set by the sweep as well; leave one out"),
        ],
    )
    def test_a_mistake(self, write: Writer, tables: dict[str, Any], words: str) -> None:
        with pytest.raises(UserError) as caught:
            read_sweep(write(**tables))
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("override", ["training.learning_rate=1", " run.seed =1"])
    def test_an_override_of_what_is_swept(self, small: Path, override: str) -> None:
        with pytest.raises(UserError, match=r"the sweep sets .* itself; leave one out"):
            read_sweep(small, (override,))

    def test_a_file_that_is_not_toml(self, tmp_path: Path) -> None:
        (tmp_path / "sweep.toml").write_text("base = ")
        with pytest.raises(UserError, match=r"sweep.toml: not valid TOML"):
            read_sweep(tmp_path / "sweep.toml")

    def test_another_choice_leaves_the_old_ones_settings_behind(self) -> None:
        base = {"threat": {"attack": "label-flip", "clients": 4}, "run": {"rounds": 3}}
        assert apply(base, {"threat.attack": "none"})["threat"] == {"attack": "none"}
        assert apply(base, {"threat.clients": 5})["threat"] == {"attack": "label-flip", "clients": 5}
        assert apply(base, {"run.seed": 5})["run"] == {"rounds": 3, "seed": 5}
        assert base["threat"] == {"attack": "label-flip", "clients": 4}


values = st.one_of(st.text(max_size=200), st.integers(), st.floats(allow_nan=False), st.booleans(), st.lists(st.text()))


@given(first=values, second=values)
def test_names_are_plain_and_tell_values_apart(first: object, second: object) -> None:
    one, two = member_name("", {"a.b": first}, 1), member_name("", {"a.b": second}, 1)
    assert set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=+-")
    assert len(one) < 200
    assert (one == two) == (repr(first) == repr(second) or str(first).lower() == str(second).lower())


class TestHere:
    @pytest.mark.usefixtures("in_process")
    def test_again_does_only_what_is_left(self, small: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = call("sweep", small, "--out", out, "--local")
        assert result.exit_code == 0, result.output
        assert "4 runs: 4 new" in result.stderr
        assert "4/4 training.learning_rate=0.2__seed=4" in result.stderr
        runs = sorted((out / "runs").iterdir())
        assert [RunFolder(run).status() for run in runs] == ["finished"] * 4
        for file in (runs[0] / "checkpoints").iterdir():
            file.unlink()
        before = [(run / "status").stat().st_mtime_ns for run in runs]
        result = call("sweep", small, "--out", out, "--local")
        assert (result.exit_code, "4 runs: 1 new, 3 finished" in result.stderr) == (0, True)
        after = [(run / "status").stat().st_mtime_ns for run in runs]
        assert (before[0] < after[0], before[1:] == after[1:]) == (True, True)

    def test_a_run_that_fails_does_not_keep_the_others(self, write: Writer, tmp_path: Path) -> None:
        path = write(grid={"groups.number": [50, 3]}, fixed={"run.rounds": 1})
        result = call("sweep", path, "--out", tmp_path / "out", "--local", "--no-check")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == "hpcfsl: 1 runs did not finish: groups.number=50"
        statuses = {row.name: row.status for row in read_rows(tmp_path / "out")}
        assert statuses["groups.number=3"] == "finished"
        assert statuses["groups.number=50"] != "finished"

    def test_a_mistake_is_found_before_anything_runs(self, write: Writer, tmp_path: Path) -> None:
        path = write(grid={"groups.number": [2, 50]})
        line = refusal(call("sweep", path, "--out", tmp_path / "out", "--local"))
        assert line.startswith("run groups.number=50: groups.number = 50: only 12 clients")
        assert not (tmp_path / "out").exists()

    def test_ranks_are_started_by_mpirun(self, write: Writer, tmp_path: Path, fakes: Fakes) -> None:
        result = call("sweep", write(), "--out", tmp_path / "out", "--local", "--no-check", "--ranks-per-node", "3")
        assert result.exit_code == 0, result.output
        (words,) = fakes.calls("mpirun")
        assert (words[:2], words[-2:]) == (["-n", "3"], ["--out", str(tmp_path / "out" / "runs" / "base")])

    def test_a_dry_run_names_what_is_left(self, small: Path, tmp_path: Path) -> None:
        result = call("sweep", small, "--out", tmp_path / "out", "--local", "--dry-run")
        assert result.stdout.splitlines()[0] == "training.learning_rate=0.1__seed=3"
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", [("--nodes", "2"), ("--site", "cpu"), ("--at-once", "2"), ("--no-requeue",)])
    def test_options_of_jobs_are_refused(self, small: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
        line = refusal(call("sweep", small, "--out", tmp_path, "--local", "--no-check", *option))
        assert line == f"{option[0]}: is for Slurm jobs, and --local starts none; leave one out"


class TestArray:
    def sweep(self, small: Path, *options: str) -> Result:
        return call("sweep", small, "--out", small.parent / "out", "--ranks-per-node", "1", "--no-check", *options)

    def test_elements_take_lines_of_a_list(self, small: Path, fakes: Fakes) -> None:
        result = self.sweep(small)
        assert (result.exit_code, result.stdout) == (0, "submitted job 41: 4 runs\n")
        job = small.parent / "out" / "job"
        assert fakes.calls("sbatch") == [["--parsable", str(job / "job.sh")]]
        runs = [Path(line) for line in (job / "runs.txt").read_text().splitlines()]
        rates = [tomllib.loads((run / "job" / "config.toml").read_text())["training"]["learning_rate"] for run in runs]
        assert rates == [0.1, 0.1, 0.2, 0.2]

    def test_only_what_is_left(self, small: Path, fakes: Fakes) -> None:
        first, second, *_ = read_sweep(small)
        for member in (first, second):
            config = small.parent / "one.toml"
            config.write_text(member.config.to_toml())
            assert call("run", config, "--out", small.parent / "out" / "runs" / member.name).exit_code == 0
        result = self.sweep(small, "--dry-run")
        assert "4 runs: 2 new, 2 finished" in result.stderr
        assert "#SBATCH --array=3-4\n" in result.stdout

    @pytest.mark.usefixtures("in_process")
    def test_nothing_is_left(self, write: Writer, fakes: Fakes) -> None:
        path = write(fixed={"run.rounds": 1})
        assert call("sweep", path, "--out", path.parent / "out", "--local").exit_code == 0
        result = self.sweep(path)
        assert (result.exit_code, result.stdout, fakes.calls("sbatch")) == (0, "", [])

    def test_an_array_that_has_not_ended(self, small: Path, fakes: Fakes) -> None:
        assert self.sweep(small).exit_code == 0
        fakes.set("squeue", "echo PENDING; echo RUNNING")
        assert "job 41 is on this folder already (pending)" in refusal(self.sweep(small))

    def test_a_run_with_other_settings_is_left_out_and_named(self, small: Path, fakes: Fakes) -> None:
        config = small.parent / "config.toml"
        run = small.parent / "out" / "runs" / "training.learning_rate=0.1__seed=3"
        assert call("run", config, "--out", run).exit_code == 0
        result = self.sweep(small, "--dry-run")
        assert f"warning: left out: {run}: was started with other values of" in result.stderr
        assert "4 runs: 3 new, 1 cannot go on" in result.stderr
        assert "#SBATCH --array=2-4\n" in result.stdout

    def test_runs_that_need_different_cores(self, write: Writer, fakes: Fakes) -> None:
        path = write(grid={"run.threads": [1, 2]})
        assert "run.threads = [1, 2]: elements of an array ask for the same cores" in refusal(self.sweep(path))


class TestTable:
    @pytest.fixture
    def swept(self, write: Writer, tmp_path: Path, in_process: None) -> Path:
        """Return a sweep's folder in which one run is damaged, one was never started and one was stopped."""
        case = [{"name": "near"}, {"name": "far", "data": {"noise": 2.0}}]
        path = write(seeds=[0, 1], fixed={"run.rounds": 1}, grid={"run.preset": ["averaging", "hardened"]}, case=case)
        assert call("sweep", path, "--out", tmp_path / "out", "--local", "--no-check").exit_code == 0
        runs = {member.name: tmp_path / "out" / "runs" / member.name for member in read_sweep(path)}
        damaged, missing, stopped = list(runs.values())[1:4]
        (segment,) = (damaged / "trace").iterdir()
        segment.write_bytes(segment.read_bytes()[:-1] + b"x")
        (missing / "status").unlink()
        (stopped / "status").write_text("resumable\n")
        return tmp_path / "out"

    def test_mean_and_deviation_over_seeds(self, swept: Path) -> None:
        headings, *lines = summaries(read_rows(swept))
        assert headings[:4] == ["case", "run.preset", "finished", "test accuracy"]
        assert [line[:3] for line in lines] == [
            ["near", "averaging", "1 of 2"],
            ["near", "hardened", "0 of 2"],
            ["far", "averaging", "2 of 2"],
            ["far", "hardened", "2 of 2"],
        ]
        assert lines[1][3:] == ["-"] * 5
        accuracy = [row.values[0] for row in read_rows(swept)[4:6]]
        assert lines[2][3] == spread(accuracy, percent=True)
        assert "±" in lines[2][3]
        assert "±" not in lines[0][3]

    def test_what_is_not_finished_is_listed(self, swept: Path) -> None:
        result = call("sweep-table", swept)
        assert result.exit_code == 0, result.output
        broken, missing, stopped = result.stdout.splitlines()[-3:]
        assert broken.startswith("broken: near__run.preset=averaging__seed=1 (")
        assert missing == "missing: near__run.preset=hardened__seed=0"
        assert stopped == "resumable after 1 rounds: near__run.preset=hardened__seed=1"

    def test_csv_has_a_line_a_run(self, swept: Path, tmp_path: Path) -> None:
        assert call("sweep-table", swept, "--csv", tmp_path / "t.csv").exit_code == 0
        rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
        assert [row["status"] for row in rows] == ["finished", "broken", "missing", "resumable", *["finished"] * 4]
        assert (rows[4]["case"], rows[4]["data.noise"], rows[4]["seed"]) == ("far", "2.0", "0")
        assert float(rows[4]["test_accuracy"]) == read_rows(swept)[4].values[0]

    def test_other_metrics_are_shown_when_they_are_asked_for(self, swept: Path, tmp_path: Path) -> None:
        chosen = ("--metric", "macro-f1", "--metric", "naive:accuracy", "--csv", tmp_path / "t.csv")
        result = call("sweep-table", swept, *chosen)
        assert result.exit_code == 0, result.output
        rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
        assert 0 < float(rows[4]["naive_accuracy"]) < 1
        assert 0 < float(rows[4]["test_macro_f1"]) <= 1
        assert rows[2]["test_macro_f1"] == ""
        assert "did you mean 'macro-f1'" in refusal(call("sweep-table", swept, "--metric", "macro-f2"))
        assert "choose one of test, clients" in refusal(call("sweep-table", swept, "--metric", "nobody:loss"))

    def test_numbers(self) -> None:
        assert spread([0.5, None, 0.7], percent=True) == "60.00 ± 14.14 %"
        assert spread([0.5], percent=False) == "0.5000"
        assert spread([None], percent=True) == "-"

    def test_what_is_no_sweep(self, tmp_path: Path) -> None:
        assert "not the folder of a sweep" in refusal(call("sweep-table", tmp_path))
        for text in ("{", "3", '[{"name": 1}]'):
            (tmp_path / "sweep.json").write_text(text)
            assert "sweep.json: cannot be read" in refusal(call("sweep-table", tmp_path))
