"""Whatever one rank does in whatever phase, all ranks end soon, in words; and a mix of machines is no secret."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.mpirun import Ended, run_hpcfsl, run_ranks

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder

Maker = Callable[..., dict[str, dict[str, Any]]]
PROGRAM = Path(__file__).parent / "programs" / "failing.py"
SECONDS_TO_START, SECONDS_TO_END = 70.0, 30.0
FAULT = "RuntimeError: the planned fault in two lines"
MEMORY = "lower training.chunk_clients, run.hold_mib or trace.buffer_mib, or start fewer ranks on this node"


@pytest.fixture
def tree(tiny: Maker) -> dict[str, dict[str, Any]]:
    """Return a run on two groups, so that rank 2 of three has none."""
    return tiny(run={"rounds": 4, "checkpoint_rounds": 2}, groups={"number": 2})


@pytest.fixture
def config(tmp_path: Path, tree: dict[str, dict[str, Any]]) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tree))
    return path


def run_failing(fault: str, config: Path, *options: str, seconds: float = SECONDS_TO_START) -> Ended:
    """Run on three ranks with a fault, into the folder `run` beside the configuration."""
    return run_ranks(3, PROGRAM, fault, "run", config, "--out", config.parent / "run", *options, seconds=seconds)


def last_progress(config: Path) -> dict[str, Any]:
    """Return the last line of the run's progress."""
    lines = (config.parent / "run" / "progress.jsonl").read_text().splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@pytest.mark.parametrize(
    ("fault", "where", "what"),
    [
        ("raise:1:build:-", "phase build", FAULT),
        ("raise:2:gather:1", "phase gather, round 1", FAULT),  # a rank without a group
        ("raise:0:aggregate:1", "phase aggregate, round 1", FAULT),
        ("raise:1:commit:1", "phase commit, round 1", FAULT),
        ("raise:1:end:3", "phase end, round 3", FAULT),
        ("exit:2:evaluate:2", "phase evaluate, round 2", r"SystemExit: sys.exit\(0\) in the middle of the run"),
        ("exit:0:record:0", "phase record, round 0", r"SystemExit: sys.exit\(0\) in the middle of the run"),
        ("interrupt:1:record:2", "phase record, round 2", "KeyboardInterrupt"),
        ("memory:1:score:1", "phase score, round 1, group 1", "RuntimeError: .* memory.*; " + MEMORY),
        ("gpu-memory:0:train:2", "phase train, round 2, group 0", "OutOfMemoryError: CUDA out of memory.*; " + MEMORY),
        ("nan:1:evaluate:1", "phase record, round 1", "NonFiniteModelError: 1 of the model's .* client.linear1.weight"),
    ],
)
def test_one_rank_ends_all(fault: str, where: str, what: str, config: Path) -> None:
    kind, rank, *_ = fault.split(":")
    ended = run_failing(fault, config)
    after = time.time() - (config.parent / "run" / "status").stat().st_mtime
    assert ended.code not in (0, 2, 3)
    (line,) = ended.lines
    assert re.match(f"hpcfsl: rank {rank}, {where}: {what}", line), line
    assert ended.stderr.index("hpcfsl: ") < ended.stderr.index("Traceback")
    assert after < SECONDS_TO_END
    record = last_progress(config)
    assert record["type"] == line.split(": ")[2]
    assert (f"rank {record['rank']}, phase {record['phase']}") in line
    status = RunFolder(config.parent / "run").status()
    if "end" in fault:  # root may have said already that all is committed
        assert status in ("failed", "finished")
    else:
        assert status == ("resumable" if kind == "interrupt" else "failed")


@pytest.mark.parametrize(("fault", "where"), [("raise:0:load:-", "start"), ("exit:0:tell:-", "end, round 3")])
def test_before_the_first_word_and_after_the_last(fault: str, where: str, config: Path) -> None:
    ended = run_failing(fault, config)
    assert ended.code == 1
    assert re.match(f"hpcfsl: rank 0, phase {where}: ", ended.lines[0])


class TestDeadline:
    def test_a_rank_that_is_stuck_says_so_itself(self, config: Path) -> None:
        ended = run_failing("sleep:1:train:1", config, "--set", "run.deadline_seconds=6")
        assert ended.code == 1
        (line,) = ended.lines
        wanted = r"hpcfsl: rank 1, phase train, round 1, group 1: no progress for \d+ s \(run.deadline_seconds = 6\)"
        assert re.match(wanted, line), line
        assert "failing.py" in ended.stderr.split(line)[1]  # the stacks come after the message
        assert last_progress(config)["type"] == "DeadlineExceeded"
        assert hpcfsl.open(config.parent / "run").status == "failed"

    @pytest.mark.parametrize("kind", ["stop", "hold"])
    def test_one_that_cannot_say_so_is_named_by_those_who_wait(self, kind: str, config: Path) -> None:
        """A stopped process, and one whose library does not let go of the interpreter."""
        ended = run_failing(f"{kind}:1:train:1", config, "--set", "run.deadline_seconds=6")
        assert ended.code == 1
        (line,) = ended.lines
        wanted = (
            r"hpcfsl: rank [02], phase gather, round 1: waiting in \w+ for \d+ s; rank 1 has not arrived: "
            r"rank 1 last in phase train, round 1, group 1, on \S+, process \d+, \d+ s ago"
        )
        assert re.fullmatch(wanted, line), line
        assert hpcfsl.open(config.parent / "run").status == "failed"

    def test_work_that_goes_on_is_waited_for(self, config: Path, tmp_path: Path) -> None:
        """One rank trains two groups, neither longer than the deadline, while the others wait longer than that."""
        ended = run_failing("slow:0:train:1", config, "--set", "run.deadline_seconds=4", "--set", "run.rounds=2")
        assert ended.code == 0, ended.stderr
        assert not (config.parent / "run" / "heartbeat").exists()


def test_a_flipped_bit_is_found_and_the_run_goes_on_as_if_nothing_had_been(
    config: Path, tree: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    ended = run_failing("flip:1:evaluate:3", config)
    assert ended.code == 1
    (line,) = ended.lines
    wanted = (
        r"hpcfsl: rank 0, phase record, round 3: DriftError: after round 3 the model of rank 1 on \S+, process \d+ "
        r"differs from root's"
    )
    assert re.match(wanted, line), line
    run = hpcfsl.open(tmp_path / "run")
    assert (run.status, run.rounds_done) == ("failed", 2)
    assert run_hpcfsl(2, config, tmp_path / "run").code == 0
    assert digest(hpcfsl.open(tmp_path / "run")) == digest(hpcfsl.run(resolve(tree), out=tmp_path / "undisturbed"))
    assert not (tmp_path / "run" / "heartbeat").exists()


class TestRanksThatDiffer:
    def test_another_processor_is_warned_about_and_recorded(self, config: Path) -> None:
        ended = run_failing("mix:1:-:-", config)
        assert ended.code == 0
        (line,) = ended.lines
        assert line.startswith("hpcfsl: warning: the ranks differ, which may change bits of the result: ")
        assert "on ranks 0, 2, Slow 1000 on rank 1" in line
        (event,) = [
            row for row in hpcfsl.open(config.parent / "run").table("events")["text"].tolist() if b"Slow" in row
        ]
        assert line.endswith(event.decode()) or event.decode() in line

    def test_another_version_is_an_error(self, config: Path) -> None:
        ended = run_failing("version:2:-:-", config)
        assert ended.code == 2
        (line,) = ended.lines
        assert re.fullmatch(
            r"hpcfsl: the ranks run different versions of hpcfsl: \S+ on root, 0.0.1 on \S+; give all .* environment",
            line,
        )

    def test_other_settings_are_an_error(self, config: Path) -> None:
        ended = run_failing("settings:1:-:-", config)
        assert ended.code == 2
        (line,) = ended.lines
        assert line.startswith("hpcfsl: the ranks have different settings: run.hold_mib, run.seed on ")
