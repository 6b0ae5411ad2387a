from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_check_ends_at_once_without_a_gpu() -> None:
    done = subprocess.run(["bash", str(ROOT / "jobs" / "gpu_check.sh")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu_check: there is no GPU here: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
