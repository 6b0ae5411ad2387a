"""How far `hpcfsl estimate` is off: a few cases are estimated, run on one rank, and compared.

Layer 4. A round's seconds are the mean after the first two rounds, memory is the process's peak, the folder is
everything in it. Estimate and run are processes of their own, because an estimate reads what its process takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w

from hpcfsl.trace.reader import open as open_run

Row = dict[str, Any]
_ROUNDS, _WARM = 6, 2
_MLP: dict[str, dict[str, Any]] = {
    "data": {"source": "synthetic", "shape": [64], "samples": 4000},
    "partition": {"rule": "iid", "clients": 100},
    "model": {"name": "mlp", "hidden": [2048, 400]},
    "groups": {"number": 5},
}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "digits CNN, 28 clients by writer": {
        "data": {"source": "digits"},
        "partition": {"rule": "natural", "parts": 2},
        "model": {"name": "digits-cnn"},
        "groups": {"number": 4},
    },
    "LeNet-5, 600 clients, their updates recorded": {
        "data": {"source": "synthetic", "shape": [1, 28, 28], "samples": 12_000},
        "partition": {"rule": "iid", "clients": 600},
        "model": {"name": "lenet5"},
        "training": {"batch_size": 10},
        "groups": {"number": 12},
        "trace": {"updates": "client"},
    },
    "MLP of 1e6 parameters, 100 clients": _MLP,
    "the same, thresholds by group, nothing recorded": {
        **_MLP,
        "threshold": {"scope": "group"},
        "trace": {"updates": "none"},
    },
    "small MLP, 4,000 uneven clients": {
        "data": {"source": "synthetic", "shape": [16], "samples": 60_000},
        "partition": {"rule": "quantity", "law": "lognormal", "clients": 4000, "min_samples": 5},
        "model": {"name": "mlp", "hidden": [16]},
        "training": {"batch_size": 8},
        "groups": {"number": 40},
    },
}
# A parent is told the peak memory of its children: a Python that starts just one.
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def check_estimates(names: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """Return, a case each, pairs of estimated and real seconds of a round, bytes of memory, bytes of the folder."""
    return [_check(name) for name in names]


def _check(name: str) -> Row:
    with tempfile.TemporaryDirectory(prefix="hpcfsl-") as folder:
        config, out = Path(folder) / "config.toml", Path(folder) / "run"
        tree = {"run": {"rounds": _ROUNDS, "device": "cpu"}, **CASES[name]}
        config.write_text(tomli_w.dumps(tree), encoding="utf-8")
        before = json.loads(_said((sys.executable, "-m", "hpcfsl", "estimate", str(config), "--json")))
        started = (sys.executable, "-m", "hpcfsl", "run", str(config), "--out", str(out))
        peak = 1024.0 * int(_said((sys.executable, "-c", _PEAK, *started)))
        written = float(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()))
        seconds = float(open_run(out).column("rounds", "seconds")[_WARM:].mean())
    return {
        "case": name,
        "round_seconds": [before["round_seconds"], seconds],
        "memory_bytes": [before["memory_bytes"], peak],
        "folder_bytes": [before["folder_bytes"], written],
    }


def _said(command: tuple[str, ...]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HPCFSL_PROGRESS": "0"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout
