"""Initial weights are what the seed says, whoever else draws."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from hpcfsl.models.initial import reset_weights


class Slow(nn.Linear):
    """Gives another thread the time to draw before it does."""

    def reset_parameters(self) -> None:
        time.sleep(0.01)
        super().reset_parameters()


def drawn(module: nn.Module, seed: int) -> torch.Tensor:
    reset_weights(module, seed)
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_threads_of_one_process_draw_what_each_draws_alone() -> None:
    modules = [nn.Sequential(Slow(3, 4), Slow(4, 2)) for _ in range(3)]
    alone = [drawn(module, seed) for seed, module in enumerate(modules)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(drawn, modules, range(3)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
