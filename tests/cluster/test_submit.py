"""`hpcfsl submit`, with a fake Slurm: what it checks first, what it writes, what it hands over."""

from __future__ import annotations

import fcntl
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from support.slurm_fakes import Fakes

from hpcfsl.cli import main
from hpcfsl.cluster.checks import rank_warnings, time_warnings
from hpcfsl.cluster.job import Request, make_job
from hpcfsl.cluster.site import Site
from hpcfsl.config import load
from hpcfsl.trace.folder import RunFolder


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def submit(config: Path, *arguments: str | Path) -> Result:
    out = () if "--out" in arguments else ("--out", config.parent / "run")
    return call("submit", config, *out, "--ranks-per-node", "2", "--no-check", *arguments)


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Usage")]
    return line.removeprefix("hpcfsl: ")


class TestSubmits:
    def test_it_prints_the_id_and_hands_over_one_script(self, config: Path, fakes: Fakes) -> None:
        result = submit(config)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"submitted job 41: {config.parent / 'run'}\n"
        script = config.parent / "run" / "job" / "job.sh"
        assert fakes.calls("sbatch") == [["--parsable", str(script)]]
        assert script.read_text() == submit(config, "--dry-run").stdout

    def test_the_job_has_a_resolved_copy_of_the_configuration(self, config: Path, fakes: Fakes) -> None:
        assert submit(config, "--set", "run.rounds=7").exit_code == 0
        config.write_text("[run]\nrounds = 1\n")
        copy = tomllib.loads((config.parent / "run" / "job" / "config.toml").read_text())
        assert (copy["run"]["rounds"], copy["run"]["checkpoint_rounds"]) == (7, 50)

    def test_the_submitted_command_runs_what_was_submitted(self, config: Path, fakes: Fakes) -> None:
        fakes.set("mpirun", 'while [ "$1" != core ]; do shift; done; shift; exec "$@"')
        assert submit(config).exit_code == 0
        done = fakes.run(config.parent / "run" / "job" / "job.sh", HPCFSL_PROGRESS="0")
        assert done.returncode == 0, done.stderr
        assert RunFolder(config.parent / "run").status() == "finished"
        assert fakes.calls("scontrol") == []

    def test_an_answer_with_a_cluster_and_a_greeting(self, config: Path, fakes: Fakes) -> None:
        fakes.set("sbatch", "echo 'Welcome to the cluster'; echo '77;east'")
        assert "submitted job 77:" in submit(config).stdout

    def test_again_once_the_job_is_gone(self, config: Path, fakes: Fakes) -> None:
        assert submit(config).exit_code == 0
        fakes.set("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
        assert submit(config).exit_code == 0
        assert len(fakes.calls("sbatch")) == 2


class TestRefuses:
    def test_a_job_that_waits_or_runs_on_the_folder(self, config: Path, fakes: Fakes) -> None:
        assert submit(config).exit_code == 0
        fakes.set("squeue", "echo PENDING")
        line = refusal(submit(config))
        assert "job 41 is on this folder already (pending); wait for it, or scancel 41 first" in line
        assert len(fakes.calls("sbatch")) == 1
        assert fakes.calls("squeue") == [["--noheader", "--format=%T", "--jobs=41"]]

    def test_a_run_that_goes_on(self, config: Path, fakes: Fakes) -> None:
        (config.parent / "run").mkdir()
        with (config.parent / "run" / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            assert "is running at this moment" in refusal(submit(config))

    def test_a_finished_run_unless_it_is_extended(self, config: Path, fakes: Fakes) -> None:
        assert call("run", config, "--out", config.parent / "run").exit_code == 0
        assert "is finished; raise run.rounds, which is 3" in refusal(submit(config))
        assert submit(config, "--set", "run.rounds=4").exit_code == 0

    def test_other_settings_than_the_run_was_started_with(self, config: Path, fakes: Fakes) -> None:
        assert call("run", config, "--out", config.parent / "run", "--set", "run.rounds=1").exit_code == 0
        assert "other values of run.seed" in refusal(submit(config, "--set", "run.seed=5"))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--time", "soon"], "--time soon: write it as"),
            (["--time", "0"], "--time 0: must be longer"),
            (["--time", "4", "--signal-seconds", "300"], "--signal-seconds 300: must be less than the time limit, 4;"),
            (["--partition", "a b"], "--partition a b: use letters"),
            (["--account", "$(id)"], "--account $(id): use letters"),
            (["--qos", "x\n#SBATCH --wrap=id"], "--qos"),
            (["--mail", "ada@x;id"], "--mail"),
            (["--site", "nowhere"], "--site nowhere: there is no such site; name a file"),
            (["--site", "nowhere.toml"], "--site nowhere.toml: cannot be read: No such file"),
            (["--set", "run.rounds=0"], "run.rounds = 0"),
            (["--out", "a\nb"], "--out"),
        ],
    )
    def test_what_cannot_be_used(self, config: Path, fakes: Fakes, options: list[str], words: str) -> None:
        assert words in refusal(submit(config, *options))
        assert fakes.calls("sbatch") == []

    def test_data_and_model_that_do_not_fit(self, config: Path, fakes: Fakes) -> None:
        result = call(
            "submit", config, "--out", config.parent / "run", "--ranks-per-node", "1", "--set", "groups.number=50"
        )
        assert "groups.number = 50: only 12 clients take part" in refusal(result)
        result = call(
            "submit", config, "--out", config.parent / "run", "--gpus-per-node", "1", "--set", "groups.number=50"
        )
        assert "groups.number = 50: only 12 clients take part" in refusal(result)

    def test_no_number_of_ranks(self, config: Path, fakes: Fakes) -> None:
        assert "--ranks-per-node: must be given" in refusal(call("submit", config, "--out", config.parent / "run"))

    def test_more_ranks_than_cores(self, config: Path, fakes: Fakes, tmp_path: Path) -> None:
        (tmp_path / "site.toml").write_text("cores_per_node = 3\n")
        result = submit(config, "--site", tmp_path / "site.toml", "--set", "run.threads=2")
        assert "--ranks-per-node 2: with run.threads = 2 needs 4 cores, and a node has 3; use fewer" in refusal(result)

    def test_what_slurm_refuses(self, config: Path, fakes: Fakes) -> None:
        fakes.set("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
        line = refusal(submit(config))
        assert line == "sbatch refused: sbatch: error: invalid partition specified: x"
        assert submit(config).exit_code == 2  # it left nothing behind that looks like a job

    def test_an_answer_without_an_id(self, config: Path, fakes: Fakes) -> None:
        fakes.set("sbatch", "echo queued")
        assert "answered 'queued\\n' and no job id" in refusal(submit(config))

    def test_a_machine_without_slurm(self, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "sbatch: there is no such command here; run this on a login node" in refusal(submit(config))

    def test_a_folder_that_cannot_be_made(self, config: Path, fakes: Fakes) -> None:
        assert "config.toml/run/job: not a directory; choose a path" in refusal(submit(config, "--out", config / "run"))


class TestWarnings:
    def test_ranks_without_a_group(self, config: Path, fakes: Fakes) -> None:
        result = submit(config, "--nodes", "3")
        assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
        assert "warning: 6 ranks for 4 groups: 2 of them train nothing" in result.stderr

    def test_devices(self, config: Path) -> None:
        settings = load(config, ("run.device=cuda",))
        (none,) = rank_warnings(settings, make_job(Site(), Request(ranks_per_node=2), 1))
        assert "no GPU is asked for" in none
        (idle,) = rank_warnings(settings, make_job(Site(gpus_per_node=4), Request(ranks_per_node=2), 1))
        assert "2 ranks a node use as many of its 4 GPUs" in idle

    def test_more_time_than_the_job_has(self, config: Path) -> None:
        settings, request = load(config, ("run.rounds=1000000",)), Request(ranks_per_node=2, time="6")
        (text,) = time_warnings(settings, make_job(Site(), request, 1))
        assert "and the job has 00:06:00: that is about" in text

    @pytest.mark.parametrize(("site", "fix"), [(Site(), "about 3 starts"), (Site(requeue=False), "ask for more, or")])
    def test_what_to_do_about_the_time(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, site: Site, fix: str
    ) -> None:
        found = SimpleNamespace(seconds=3 * 3300.0, round=SimpleNamespace(seconds=151.0))
        monkeypatch.setattr("hpcfsl.scaling.estimate.estimate", lambda *_: found)
        round, run = time_warnings(load(config), make_job(site, Request(ranks_per_node=2), 1))
        assert "a round may take 151 s" in round
        assert "must end in the 300 s between warning and limit; raise --signal-seconds" in round
        assert "the run may take 02:45:00 and the job has 01:00:00" in run
        assert fix in run
