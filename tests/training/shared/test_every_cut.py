"""A shared server half at every cut of every shipped model: alone in a group it is as good as a copy, and compiled
kernels train a group as torch does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.model_cases import CASES, Case, split_for

from hpcfsl.models.split import SplitModel, cut_points, tail_points
from hpcfsl.native.library import library
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared.compiled import CompiledPass, why_not_compiled
from hpcfsl.training.shared.loop import LoopPass
from hpcfsl.training.shared.trainer import SharedTrainer
from hpcfsl.training.updates import LocalData

CPU = torch.device("cpu")
KEY: dict[str, Any] = {"seed": 3, "round": 1}
NOT_COMPILED = ("resnet18", "resnet18-large", "lstm-lm", "transformer-lm", "tcn", "tcn-numbers")
"""Models with layers that the engine does not know."""
SETTINGS = TrainingSettings(batch_size=2, learning_rate=0.01)


def parts_of(case: Case) -> list[SplitModel]:
    """Return the model at each cut, without a tail and with one."""
    module, found = case.module(), []
    for cut in cut_points(module):
        for tail in (None, *tail_points(module, cut)[-1:]):
            found.append(split_for(module, cut, case.samples, tail=tail))
    return found


@pytest.mark.parametrize("name", CASES)
def test_alone_in_a_group(name: str) -> None:
    case = CASES[name]
    inputs, targets = case.batch(3)
    data = LocalData(clients=np.array([4]), counts=np.array([3]), inputs=inputs, targets=targets)
    for model in parts_of(case):
        start = model.initial_weights(1)
        wanted = OneByOneExecutor(model, SETTINGS, CPU).train(start, data, **KEY)
        for in_turn in (False,) if model.has_tail else (False, True):
            shared = SharedTrainer(model, SETTINGS, CPU, LoopPass(model, SETTINGS, CPU), in_turn=in_turn)
            first, session = shared.train(start, data, **KEY)
            torch.testing.assert_close(first.updates, wanted.updates, rtol=1e-4, atol=1e-7)
            again = shared.replay(session, np.ones(1))
            torch.testing.assert_close(again.displacement, session.displacement, rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
@pytest.mark.parametrize("name", CASES)
def test_compiled_is_torch(name: str) -> None:
    case = CASES[name]
    inputs, targets = case.batch(7)
    data = LocalData(clients=np.array([4, 9, 11]), counts=np.array([3, 1, 3]), inputs=inputs, targets=targets)
    compiled = [model for model in parts_of(case) if why_not_compiled(model) is None]
    if not compiled:
        assert name in NOT_COMPILED
        return
    scales = np.array([0.5, np.nan, 2.0])
    for model in compiled:
        start = model.initial_weights(1)
        for in_turn in (False,) if model.has_tail else (False, True):
            slow = SharedTrainer(model, SETTINGS, CPU, LoopPass(model, SETTINGS, CPU), in_turn=in_turn)
            fast = SharedTrainer(model, SETTINGS, CPU, CompiledPass(model, SETTINGS, 3), in_turn=in_turn)
            wanted, told = slow.train(start, data, **KEY)
            found, session = fast.train(start, data, **KEY)
            torch.testing.assert_close(found.updates, wanted.updates, rtol=1e-4, atol=1e-6)
            for one, other in zip(session.received, told.received, strict=True):
                torch.testing.assert_close(one.smashed, other.smashed, rtol=1e-4, atol=1e-6)
            again, once = fast.replay(session, scales), slow.replay(told, scales)
            torch.testing.assert_close(again.displacement, once.displacement, rtol=1e-4, atol=1e-6)
