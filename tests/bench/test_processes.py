from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from hpcfsl.bench import processes
from hpcfsl.bench.processes import BenchmarkError, Command, rank_command, read_energy, run_together
from hpcfsl.errors import UserError


def python(code: str, **environment: str) -> Command:
    return Command(argv=(sys.executable, "-c", code), environment=environment)


def says(**result: object) -> str:
    lines = (json.dumps({"event": "start"}), "a library's chatter", json.dumps({"event": "result", **result}))
    return "\n".join(f"print({line!r}, flush=True)" for line in lines)


class TestCommand:
    @pytest.fixture
    def launcher(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        monkeypatch.setattr(processes, "find_mpirun", lambda: "/opt/mpirun")
        monkeypatch.setattr(processes, "num_cores", lambda: 2)
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        return monkeypatch

    def test_open_mpi_gets_its_flags(self, launcher: pytest.MonkeyPatch) -> None:
        launcher.setattr(processes, "_is_open_mpi", lambda mpirun: True)
        command = rank_command(2, ("-m", "somewhere"))
        assert command.argv == ("/opt/mpirun", "-n", "2", "--bind-to", "none", sys.executable, "-m", "somewhere")
        assert command.environment["OMPI_MCA_btl"] == "^ofi,uct"

    def test_more_ranks_than_cores_and_root(self, launcher: pytest.MonkeyPatch) -> None:
        launcher.setattr(processes, "_is_open_mpi", lambda mpirun: True)
        launcher.setattr("os.geteuid", lambda: 0)
        assert rank_command(3, ()).argv[3:7] == ("--bind-to", "none", "--allow-run-as-root", "--oversubscribe")

    def test_other_launchers_get_none(self, launcher: pytest.MonkeyPatch) -> None:
        launcher.setattr(processes, "_is_open_mpi", lambda mpirun: False)
        assert rank_command(2, ("x",)).argv == ("/opt/mpirun", "-n", "2", sys.executable, "x")

    def test_one_rank_does_without_a_launcher_and_two_do_not(self, launcher: pytest.MonkeyPatch) -> None:
        launcher.setattr(processes, "find_mpirun", lambda: None)
        assert rank_command(1, ("x",)).argv == (sys.executable, "x")
        with pytest.raises(UserError, match=r"--ranks 2: there is no mpirun .* --ranks 1"):
            rank_command(2, ("x",))


class TestRun:
    def test_results_come_in_the_order_of_the_commands(self) -> None:
        commands = (python("import time; time.sleep(0.3)\n" + says(number=1)), python(says(number=2)))
        finished = run_together("both", commands, seconds=30)
        assert [result["number"] for result in finished.results] == [1, 2]

    def test_a_failure_is_one_line_with_the_error(self) -> None:
        with pytest.raises(BenchmarkError, match=r"^ours: ended with status 1: ValueError: lost it$") as raised:
            run_together("ours", (python("raise ValueError('lost it')"),), seconds=30)
        assert "\n" not in str(raised.value)

    def test_silence_is_a_failure(self) -> None:
        with pytest.raises(BenchmarkError, match="ours: said nothing: no error text"):
            run_together("ours", (python("pass"),), seconds=30)

    def test_a_program_that_is_not_there(self) -> None:
        with pytest.raises(BenchmarkError, match="pfl: cannot start /no/such/python"):
            run_together("pfl", (Command(argv=("/no/such/python",)),), seconds=30)

    def test_one_that_hangs_is_ended_with_its_children(self, tmp_path: Path) -> None:
        mark = tmp_path / "alive"
        child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
        parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
        with pytest.raises(BenchmarkError, match="slow: not done in time; its last words: no error text"):
            run_together("slow", (python(parent),), seconds=1)
        time.sleep(2)
        assert not mark.exists()

    def test_a_failure_ends_those_that_wait_for_it(self) -> None:
        started = time.monotonic()
        with pytest.raises(BenchmarkError, match="status 3"):
            run_together("two", (python("import time; time.sleep(60)"), python("raise SystemExit(3)")), seconds=50)
        assert time.monotonic() - started < 30

    def test_the_gate_opens_once_all_are_there(self) -> None:
        code = """
import json, os, time
time.sleep({delay})
print('{{"event": "start"}}', flush=True)
while not os.path.exists(os.environ["HPCFSL_BENCH_GATE"]): time.sleep(0.001)
print(json.dumps({{"event": "result", "through": time.monotonic(), "delay": {delay}}}))
"""
        commands = (python(code.format(delay=0)), python(code.format(delay=1)))
        first, second = run_together("two", commands, seconds=50, gate=True).results
        assert abs(first["through"] - second["through"]) < 0.5

    def test_a_launcher_around_us_is_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "7")
        code = "import json, os\nprint(json.dumps({'event': 'result', 'seen': os.environ.get('OMPI_COMM_WORLD_SIZE')}))"
        assert run_together("ours", (python(code),), seconds=30).results[0]["seen"] is None


class TestEnergy:
    def counters(self, folder: Path, *values: int) -> None:
        for place, value in enumerate(values):
            (folder / f"intel-rapl:{place}").mkdir(exist_ok=True)
            (folder / f"intel-rapl:{place}" / "energy_uj").write_text(f"{value}\n")

    def test_processors_add_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_POWERCAP", tmp_path)
        assert read_energy() is None
        self.counters(tmp_path, 2_000_000, 3_500_000)
        assert read_energy() == 5.5

    def test_a_run_is_charged_between_its_events(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "_POWERCAP", tmp_path)
        self.counters(tmp_path, 1_000_000)
        counter = str(tmp_path / "intel-rapl:0" / "energy_uj")
        code = (
            'import time\nprint(\'{"event": "start"}\', flush=True)\ntime.sleep(0.5)\n'
            f"open({counter!r}, 'w').write('4000000')\nprint('{{\"event\": \"result\"}}', flush=True)"
        )
        assert run_together("ours", (python(code),), seconds=30).joules == 3.0
