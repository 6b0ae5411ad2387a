from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from support.mpirun import run_hpcfsl, run_ranks

import hpcfsl
from hpcfsl.trace.digest import digest

PROGRAM = Path(__file__).parent / "programs" / "one_copy.py"


@pytest.mark.parametrize("cached", [False, True])
def test_the_ranks_of_a_node_hold_the_data_once(cached: bool, tmp_path: Path) -> None:
    ended = run_ranks(3, PROGRAM, *([tmp_path / "cache"] if cached else []))
    assert ended.code == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [f"rank {rank} of 3 holds its part" for rank in range(3)]
    assert not any(tmp_path.rglob("*.*"))  # generated data is not kept


def test_data_that_is_kept_changes_no_bit(tmp_path: Path, tiny: Callable[..., Any]) -> None:
    """In memory, while the file is made, and from the file; with one file for all ranks, and one rank's own copy."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(3000, 100)), generator.integers(0, 3, 3000)
    np.savez(tmp_path / "a.npz", x=x, y=y, client=np.arange(3000) % 6)
    data = {"source": "npz", "file": str(tmp_path / "a.npz")}
    config = tmp_path / "config.toml"
    config.write_text(tomli_w.dumps(tiny(data=data, partition={"rule": "natural"}, model={"name": "mlp"})))
    found = set()
    for number, (ranks, options) in enumerate(
        [
            (1, []),
            (3, ["--set", f"run.data_cache={tmp_path}/cache"]),
            (2, ["--set", f"run.data_cache={tmp_path}/cache"]),
            (2, ["--set", f"run.data_cache={tmp_path}/cache", "--set", "run.share_data=false"]),
        ]
    ):
        ended = run_hpcfsl(ranks, config, tmp_path / str(number), *options)
        assert ended.code == 0, ended.stderr
        found.add(digest(hpcfsl.open(tmp_path / str(number))))
    assert len(found) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1
