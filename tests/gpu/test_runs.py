"""A whole run with the method on, on each device: the figures of a run on the processor, to float tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hpcfsl

NEEDS_CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is visible: nothing of it is tested"
)
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]
SECTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "perturbed": {"perturbation": {"rule": "gaussian"}},
    "attacked": {"threat": {"attack": "label-flip", "clients": 3}},
    "cnn": {"model": {"name": "digits-cnn"}, "data": {"shape": [1, 8, 8]}},
    "together": {"protocol": {"name": "parallel"}},
    "tail": {"protocol": {"name": "u-shaped", "undo": "replay", "personal": ["linear1"]}, "model": {"hidden": [8, 6]}},
    "screened": {"protocol": {"name": "parallel", "undo": "screen"}, "screening": {"rule": "distance"}},
    "client halves stay": {"protocol": {"name": "splitfed-v3"}},
    "variates": {"training": {"drift": "scaffold"}},
    "poisoned": {"threat": {"attack": "smashed-noise", "clients": 3}},
    "compressed": {"compression": {"rule": "fp16"}},
}


@pytest.fixture(autouse=True)
def _flags_restored() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("name", sorted(SECTIONS))
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_has_the_figures_of_one_on_the_processor(
    device: str, name: str, tmp_path: Path, tiny: Callable[..., dict[str, Any]]
) -> None:
    def run(device: str, executor: str) -> hpcfsl.Run:
        training = {"batch_size": 8, "executor": executor, "chunk_clients": 3, **SECTIONS[name].get("training", {})}
        run = {"rounds": 3, "device": device, "preset": "hardened"}
        tree = tiny(**{**SECTIONS[name], "training": training, "run": run})
        return hpcfsl.run(tree, out=tmp_path / f"{device}-{executor}")

    found, wanted = run(device, "stacked"), run("cpu", "one-by-one")
    for column in ("test_loss", "test_accuracy", "num_excluded"):
        np.testing.assert_allclose(found.column("rounds", column), wanted.column("rounds", column), rtol=1e-3)
    scores = [np.sort(each.column("participation", "credit_score")) for each in (found, wanted)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-2, atol=1e-4)
