"""Runs every configuration of a folder on the ranks it is started with: `many_runs.py CONFIGS OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import hpcfsl
from hpcfsl.config import load

for path in sorted(Path(sys.argv[1]).glob("*.toml")):
    hpcfsl.run(load(path), out=Path(sys.argv[2]) / path.stem)
