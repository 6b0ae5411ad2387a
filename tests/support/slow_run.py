"""A run on a cluster that takes as long as a test wants, so that whatever happens to it comes in the middle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from support.slurm import Cluster, wait_until

# Rounds that take milliseconds each; between two checkpoints there are rounds to lose.
ROUNDS = 80
CHECKPOINT_ROUNDS = 10
SITE = """
bind = "none"
signal_seconds = 30
launcher_options = ["--oversubscribe"]
"""


@dataclass(frozen=True, kw_only=True)
class SlowRun:
    """A run of `config` into `folder/run`; the file `folder/pace` makes it slow (tests/support/plugin)."""

    cluster: Cluster
    config: Path
    folder: Path
    site: str = SITE

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def pace(self) -> Path:
        return self.folder / "pace"

    def slow_down(self, seconds: float = 0.2) -> None:
        """Let each group of each round take so much longer."""
        self.pace.write_text(str(seconds))

    def hurry(self) -> None:
        self.pace.write_text("0")

    def submit(self, *options: str) -> str:
        """Type `hpcfsl submit` for two nodes; return the job's id."""
        said = self._type("submit", self.config, "--nodes", "2", "--ranks-per-node", "1", "--time", "10:00", *options)
        job = re.search(r"submitted job (\d+)", said)
        assert job, said
        return job.group(1)

    def sweep(self, *options: str) -> str:
        """Type `hpcfsl sweep` for `folder/sweep.toml`, two runs of two ranks at once; return what it says."""
        return self._type("sweep", self.folder / "sweep.toml", "--at-once", "2", "--ranks-per-node", "2", *options)

    def rounds(self) -> list[int]:
        """Return the numbers of all rounds that were run, in order; those that a cut-off lost come twice."""
        file = self.out / "progress.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [record["round"] for record in records if "model_hash" in record]

    def wait_for_rounds(self, number: int, seconds: float = 120) -> None:
        """Return once so many rounds have been run in all."""
        wait_until(f"{number} rounds", lambda: len(self.rounds()) >= number, seconds)

    def status(self) -> str:
        return (self.out / "status").read_text().strip()

    def digest(self) -> str:
        return self.cluster.call("hpcfsl", "digest", self.out, cwd=self.folder).strip()

    def _type(self, command: str, *words: str | Path) -> str:
        site = self.folder / "site.toml"
        site.write_text(self.site)
        where = ("--out", self.out, "--site", site, "--no-check")
        return self.cluster.call("hpcfsl", command, *words, *where, cwd=self.folder, HPCFSL_PACE=str(self.pace))
