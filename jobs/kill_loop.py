"""Kills a run at random instants and starts it again, until it is finished; the result must be that of a run in peace.

    python jobs/kill_loop.py --kills 200 [--seed 0] [--folder FOLDER]

Each start has another number of ranks. SIGKILL goes to a random rank, to mpirun, or to all, in the start-up, in a
round, or in the middle of a commit. No kill may cost more rounds than lie between two checkpoints, and at the end the
digest must be that of the undisturbed run. What is drawn depends on the seed alone, so that a failure can be tried
again; the instants themselves are as exact as the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hpcfsl
from hpcfsl.bench.processes import rank_command
from hpcfsl.errors import RunFolderError
from hpcfsl.trace.checkpoint import list_checkpoints
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder

TOKEN = "KILL_LOOP_TOKEN"  # in the environment of all processes of a start, by which they are found
RANKS = (1, 2, 3, 2, 4, 1, 8)
PHASES = ("start", "round", "commit", "commit")
VICTIMS = ("rank", "launcher", "all")
START_SECONDS = 2.5
ROUND_SECONDS = 1.0
COMMIT_SECONDS = 0.03
MOST_SECONDS = 120.0
ORPHAN_SECONDS = 20.0
MOST_KILLS_A_RUN = 12
SMALL = """
[run]
rounds = {rounds}
checkpoint_rounds = {cadence}
device = "cpu"
seed = {seed}
client_state_mib = 0.01
[protocol]
name = "{protocol}"
[data]
source = "synthetic"
shape = [1, {side}, {side}]
classes = 4
samples = 480
test_samples = 40
owners = 24
noise = 0.5
[partition]
rule = "iid"
clients = 24
[model]
name = "mlp"
hidden = [{hidden}]
[training]
batch_size = 8
drift = "{drift}"
server_learning_rate = 0.02
[server_optimizer]
rule = "adam"
[groups]
number = 5
[score]
memory = 0.5
[trace]
buffer_mib = {buffer}
"""


class KillLoopError(AssertionError):
    """A run that did not survive; the text says what was lost, and where the pieces lie."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A configuration to kill.

    Attributes:
        name: What it is for.
        rounds: Rounds of the run.
        cadence: Rounds between two checkpoints: what a kill may cost.
        text: The configuration.
    """

    name: str
    rounds: int
    cadence: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill.

    Attributes:
        case: Name of the configuration.
        ranks: Ranks of the start that was killed.
        phase: What it was aimed at: `start`, `round` or `commit`.
        victim: `rank`, `launcher` or `all`.
    """

    case: str
    ranks: int
    phase: str
    victim: str


def make_cases(seed: int) -> tuple[Case, ...]:
    """Return a run that commits all the time, and one whose commits are long: some megabytes by every rank.

    In the first each client keeps a part of the model and a control variate, most of them in scratch files.
    """
    short = {"cadence": 2, "side": 4, "hidden": 8, "buffer": 1, "protocol": "splitfed-v3", "drift": "scaffold"}
    large = {"cadence": 1, "side": 28, "hidden": 512, "buffer": 2, "protocol": "splitfed-v1", "drift": "none"}
    return (_case("short", short, rounds=60, seed=seed), _case("large", large, rounds=24, seed=seed))


def _case(name: str, choices: Mapping[str, Any], *, rounds: int, seed: int) -> Case:
    text = SMALL.format(seed=seed, rounds=rounds, **choices)
    return Case(name=name, rounds=rounds, cadence=choices["cadence"], text=text)


class KillLoop:
    """Runs of some cases under random kills.

    Args:
        folder: Where all runs go.
        chance: Draws ranks, phases, victims and instants.
        say: Told of every kill.
    """

    def __init__(self, folder: Path, chance: random.Random, say: Callable[[str], None]) -> None:
        self._folder, self._chance, self._say = folder, chance, say
        self._digests: dict[str, str] = {}
        self._starts: list[Start] = []
        self._count = 0
        self.kills: list[Kill] = []
        self.losses: list[int] = []

    def survive(self, case: Case, kills: int) -> None:
        """Kill runs of a case until there were so many kills, and let each of them finish.

        Raises:
            KillLoopError: Something was lost, a start hung, or a digest is not the undisturbed one.
        """
        goal = len(self.kills) + kills
        while len(self.kills) < goal:
            self.clean()
            out = self._folder / f"{case.name}_{len(self.kills):05d}"
            most = min(MOST_KILLS_A_RUN, goal - len(self.kills))
            for _ in range(most):
                if not self._start_and_kill(case, out):
                    break
            self._finish(case, out)
            self.losses += lost_rounds(done_rounds(out), case.cadence)
            shutil.rmtree(out)

    def _finish(self, case: Case, out: Path) -> None:
        """Run the same command to its end and compare."""
        code, errors = self._start(case, out, 2).end()
        if code != 0:
            raise KillLoopError(f"{out}: the last start ended with {code}: {errors}")
        found, expected = digest(hpcfsl.open(out)), self._undisturbed(case)
        if found != expected:
            raise KillLoopError(f"{out}: digest {found}, the undisturbed run has {expected}")

    def _undisturbed(self, case: Case) -> str:
        if case.name not in self._digests:
            out = self._folder / f"{case.name}_undisturbed"
            code, errors = self._start(case, out, 1).end()
            if code != 0:
                raise KillLoopError(f"{out}: the undisturbed run ended with {code}: {errors}")
            self._digests[case.name] = digest(hpcfsl.open(out))
        return self._digests[case.name]

    def _start_and_kill(self, case: Case, out: Path) -> bool:
        """Return False where the run was finished before its kill came."""
        ranks, phase = self._chance.choice(RANKS), self._chance.choice(PHASES)
        victim, share = self._chance.choice(VICTIMS), self._chance.random()
        before = committed_rounds(out)
        start = self._start(case, out, ranks)
        killed = start.wait_for(phase, share, out) and start.kill(victim, self._chance)
        code, errors = start.end()
        if not killed and code == 0:
            return False
        # Ended by itself and not well: as bad as a lost round.
        if not killed:
            raise KillLoopError(f"{out}: {ranks} ranks ended with {code} before the kill: {errors}")
        after = committed_rounds(out)
        if after < before:
            raise KillLoopError(f"{out}: the newest checkpoint was of round {before} and is of round {after}")
        self.kills.append(Kill(case=case.name, ranks=ranks, phase=phase, victim=victim))
        where = f"{case.name}, {ranks} ranks, in phase {phase} {share:.3f}, {victim}"
        self._say(f"kill {len(self.kills)}: {where}: {after} rounds committed")
        return True

    def _start(self, case: Case, out: Path, ranks: int) -> Start:
        config = self._folder / f"{case.name}.toml"
        config.write_text(case.text)
        self._count += 1
        self._starts.append(Start(config, out, ranks, f"{os.getpid()}-{self._count}"))
        return self._starts[-1]

    def clean(self) -> None:
        """Remove what all starts left behind in shared memory."""
        while self._starts:
            self._starts.pop().clean()


class Start:
    """One start of the command; what MPI leaves behind lies in a folder of its own, which goes with it."""

    def __init__(self, config: Path, out: Path, ranks: int, token: str) -> None:
        command = rank_command(ranks, ("-m", "hpcfsl", "run", str(config), "--out", str(out)))
        shared = Path("/dev/shm")
        self._leftovers = Path(tempfile.mkdtemp(prefix="kill_loop_", dir=shared if shared.is_dir() else None))
        self._token, self._begun = token, time.monotonic()
        self._errors = (config.parent / "errors").open("w+b")
        environment = {
            "HPCFSL_PROGRESS": "0",
            "OMP_NUM_THREADS": "1",
            "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMPI_MCA_btl_sm_backing_directory": str(self._leftovers),
            "TMPDIR": str(self._leftovers),
            TOKEN: token,
        }
        self._process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **command.environment, **environment},
            start_new_session=True,
        )

    def wait_for(self, phase: str, share: float, out: Path) -> bool:
        """Wait for an instant, `share` of the way through a phase; return False where the run ended before."""
        if phase == "start":
            return self._sleep(START_SECONDS * share)
        seen = len(done_rounds(out))
        if not self._until(lambda: len(done_rounds(out)) > seen):
            return False
        if phase == "round":
            return self._sleep(ROUND_SECONDS * share)
        names = _names(out)
        return self._until(lambda: bool(_names(out) - names)) and self._sleep(COMMIT_SECONDS * share)

    def kill(self, victim: str, chance: random.Random) -> bool:
        """Send SIGKILL; return False where there was nobody to send it to."""
        found = processes(self._token)
        ranks = sorted(pid for pid, rank in found.items() if rank is not None)
        if victim == "rank" and ranks:
            ranks = [chance.choice(ranks)]
        launcher = [self._process.pid] if victim != "rank" or not ranks else []
        return any([_kill(pid) for pid in {*launcher, *(ranks if victim != "launcher" else [])}])

    def end(self) -> tuple[int, str]:
        """Wait for the launcher; return its exit status and the last lines of its errors.

        Raises:
            KillLoopError: It hangs.
        """
        try:
            code = self._process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in processes(self._token):
                _kill(pid)
            raise KillLoopError(f"still running after {MOST_SECONDS:.0f} s") from None
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")[-2000:]
        self._errors.close()
        return code, errors

    def clean(self) -> None:
        """Remove what MPI left behind, once the ranks that outlived a killed launcher are gone too."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while processes(self._token) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in processes(self._token):
            _kill(pid)
        shutil.rmtree(self._leftovers, ignore_errors=True)

    def _sleep(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self._process.poll() is None

    def _until(self, happened: Callable[[], bool]) -> bool:
        while not happened():
            if self._process.poll() is not None or time.monotonic() - self._begun > MOST_SECONDS:
                return False
            time.sleep(0.002)
        return True


def processes(token: str) -> dict[int, int | None]:
    """Return the processes of a start, orphans included: process id -> rank, None for the launcher."""
    found: dict[int, int | None] = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(item.split(b"=", 1) for item in path.read_bytes().split(b"\0") if b"=" in item)
        except OSError:
            continue  # gone, or somebody else's
        if variables.get(TOKEN.encode()) == token.encode():
            rank = variables.get(b"OMPI_COMM_WORLD_RANK", variables.get(b"PMI_RANK"))
            found[int(path.parent.name)] = None if rank is None else int(rank)
    return found


def done_rounds(out: Path) -> list[int]:
    """Return the numbers of all rounds done by all starts, in order; those done again come again."""
    path = out / "progress.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return [record["round"] for record in records if "model_hash" in record]


def committed_rounds(out: Path) -> int:
    """Return the round that the newest checkpoint continues at; 0 where there is none."""
    newest = list_checkpoints(RunFolder(out))[:1]
    return int(newest[0].stem.removeprefix("round_")) if newest else 0


def lost_rounds(done: list[int], cadence: int) -> list[int]:
    """Return how many rounds each kill cost that cost any.

    Args:
        done: What `done_rounds` returned: ranks whose launcher was killed go on for a moment, so only the whole tells.
        cadence: Rounds between two checkpoints.

    Raises:
        KillLoopError: They are more than may be lost, or rounds were passed over.
    """
    lost = [last + 1 - following for last, following in pairwise(done)]
    if done[0] != 0 or not all(0 <= number <= cadence for number in lost):
        raise KillLoopError(f"rounds done were {done}: no more than {cadence} may be done again, and none left out")
    return [number for number in lost if number > 0]


def summarise(kills: list[Kill], losses: list[int]) -> str:
    """Return what was killed and what it cost, in one line."""
    counts = [Counter(getattr(kill, name) for kill in kills) for name in ("case", "phase", "victim", "ranks")]
    parts = [", ".join(f"{name} {count}" for name, count in sorted(counts_of.items())) for counts_of in counts]
    return f"{'; '.join(parts)} (ranks); rounds done again {sum(losses)}, at most {max(losses, default=0)} after a kill"


def main() -> int:
    """Kill as often as asked; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many, half of them for each configuration")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--folder", type=Path, help="where the runs go; kept where one is lost")
    choice = parser.parse_args()
    folder = choice.folder or Path(tempfile.mkdtemp(prefix="kill_loop_"))
    folder.mkdir(parents=True, exist_ok=True)
    loop = KillLoop(folder, random.Random(choice.seed), lambda text: print(text, flush=True))
    cases = make_cases(choice.seed)
    try:
        for number, case in enumerate(cases):
            loop.survive(case, choice.kills // len(cases) + (number < choice.kills % len(cases)))
    except (KillLoopError, RunFolderError) as error:
        print(f"NOT SURVIVED: {error}\n{len(loop.kills)} kills before; see {folder}", file=sys.stderr)
        return 1
    finally:
        loop.clean()
    print(summarise(loop.kills, loop.losses))
    print(f"{len(loop.kills)} of {len(loop.kills)} kills survived")
    shutil.rmtree(folder)
    return 0


def _names(out: Path) -> set[str]:
    return {path.name for part in ("trace", "updates", "checkpoints") for path in (out / part).glob("*")}


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
