"""What liars send is a function of their own samples, whoever trains beside them and in whatever room."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hpcfsl.models.split import split
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared import Conditions, make_shared
from hpcfsl.training.updates import LocalData

CPU = torch.device("cpu")


@pytest.mark.parametrize("tail", [None, ""])
def test_a_lie_is_of_the_samples_that_a_liar_has(tail: str | None) -> None:
    drawn, counts = torch.Generator().manual_seed(2), np.array([9, 5, 8])
    data = LocalData(
        clients=np.arange(3),
        counts=counts,
        inputs=torch.randn(int(counts.sum()), 6, generator=drawn),
        targets=torch.randint(4, (int(counts.sum()),), generator=drawn),
    )
    model = split(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Linear(7, 4)), "1", (6,), tail=tail)
    seen: list[list[int]] = []

    def poison(client: int, step: int, smashed: torch.Tensor) -> torch.Tensor:
        seen[-1].append(len(smashed))
        return smashed + smashed.square().mean().sqrt()

    conditions, found = Conditions(liars=np.array([False, True, True]), poison=poison), []
    for executor in ("stacked", "one-by-one", "auto"):
        seen.append([])
        settings = TrainingSettings(executor=executor, batch_size=8, momentum=0.5)
        trainer = make_shared(model, settings, CPU, in_turn=False)
        found.append(trainer.train(model.initial_weights(0), data, seed=7, round=2, conditions=conditions))
    assert [sorted(each) for each in seen] == [[5, 8]] * 3
    for first, session in found[1:]:
        torch.testing.assert_close(first.updates, found[0][0].updates, rtol=1e-4, atol=2e-6)
        torch.testing.assert_close(session.displacement, found[0][1].displacement, rtol=1e-4, atol=2e-6)
