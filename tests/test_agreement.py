"""What all ranks must have in common, and what happens where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.made import small_config, small_world
from support.ranks import ThreadCommunicator, on_ranks

import hpcfsl
from hpcfsl import agreement, simulation
from hpcfsl.agreement import DriftError, NonFiniteModelError, check_drift, check_finite, state_hash
from hpcfsl.errors import UserError
from hpcfsl.state import State, describe_non_finite, initial_state

Maker = Callable[..., dict[str, dict[str, Any]]]
WORLD = small_world(small_config())


def state_of_rank(rank: int, change: str) -> State:
    """Return a state of which rank 1 has one bit turned, in the part that `change` names."""
    state = replace(initial_state(WORLD), score_pool=(np.arange(3.0), np.ones(2)))
    if rank == 1 and change == "score_pool":
        return replace(state, score_pool=(np.arange(3.0), np.nextafter(np.ones(2), 2)))
    if rank == 1:
        getattr(state, change).view(torch.int32)[2] ^= 1
    return state


@pytest.mark.parametrize("change", ["weights", "last_update", "score_pool"])
def test_one_bit_on_one_rank_is_everybodys_error(change: str) -> None:
    def action(communicator: ThreadCommunicator) -> str:
        world: Any = SimpleNamespace(communicator=communicator)
        with pytest.raises(DriftError) as found:
            check_drift(world, state_of_rank(communicator.rank, change), 4)
        return str(found.value)

    (text,) = set(on_ranks(3, action))
    assert text.startswith("after round 4 the model of rank 1 on ")


def test_equal_states_are_fine() -> None:
    def action(communicator: ThreadCommunicator) -> tuple[int, ...]:
        world: Any = SimpleNamespace(communicator=communicator)
        state = state_of_rank(0, "weights")
        check_drift(world, state, 4)
        return state_hash(state)

    assert len(set(on_ranks(3, action))) == 1


class TestFiniteModels:
    def test_what_is_not_finite_is_counted_and_named(self) -> None:
        state = initial_state(WORLD)
        state.weights[[3, 5]] = torch.tensor([torch.nan, torch.inf])
        first = next(iter(WORLD.model.layout.slices))
        wanted = f"2 of the model's {len(state.weights)} parameters are NaN or infinite, the first of them in {first}"
        assert describe_non_finite(WORLD, state) == wanted
        with pytest.raises(NonFiniteModelError, match="nothing of it is committed"):
            check_finite(WORLD, state)

    def test_large_numbers_are_finite_though_their_sum_is_not(self) -> None:
        state = initial_state(WORLD)
        state.weights[:4] = 3e38
        assert not torch.isfinite(state.weights.sum())
        assert describe_non_finite(WORLD, state) is None
        check_finite(WORLD, state)

    def test_a_module_that_starts_with_nan_is_refused(self, tmp_path: Path, tiny: Maker) -> None:
        module = torch.nn.Sequential(torch.nn.Flatten(), Poisoned(16, 4))
        with pytest.raises(UserError, match=r"model = '1.bias': holds NaN or infinity before any training; start it"):
            hpcfsl.run(tiny(protocol={"name": "fedavg"}), out=tmp_path / "run", model=module)

    def test_so_is_one_that_the_seed_alone_makes_so(
        self, tmp_path: Path, tiny: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(simulation, "initial_state", lambda *given: spoilt(initial_state(*given)))
        with pytest.raises(UserError, match=r"NaN or infinite, .*, before any training: start it from finite numbers"):
            hpcfsl.run(tiny(), out=tmp_path / "run")

    def test_one_that_turns_nan_in_mid_run_ends_the_run_before_it_is_committed(
        self, tmp_path: Path, tiny: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = simulation.evaluate_round

        def evaluate_round(world: Any, weights: torch.Tensor, round: int, *rest: Any) -> Any:
            if round == 2:
                weights[3] = torch.nan
            return real(world, weights, round, *rest)

        tree = tiny(run={"checkpoint_rounds": 1})
        with monkeypatch.context() as patch:
            patch.setattr(simulation, "evaluate_round", evaluate_round)
            with pytest.raises(NonFiniteModelError):
                hpcfsl.run(tree, out=tmp_path / "run")
        run = hpcfsl.open(tmp_path / "run")
        assert (run.status, run.rounds_done) == ("failed", 2)
        assert np.isfinite(hpcfsl.run(tree, out=tmp_path / "run").weights()).all()


def spoilt(state: State) -> State:
    state.weights[0] = torch.nan
    return state


class Poisoned(torch.nn.Linear):
    """A layer that starts with NaN."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            self.bias[1] = torch.nan


def test_a_run_that_continues_on_another_machine_says_so(
    tmp_path: Path, tiny: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = agreement.describe_process
    hpcfsl.run(tiny(run={"rounds": 1}), out=tmp_path / "run")
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setattr(agreement, "describe_process", lambda *_: {**real(*_), "processor": "Slow 1000"})
    run = hpcfsl.run(tiny(run={"rounds": 2}), out=tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert line.startswith("hpcfsl: warning: continued with something else, which may change bits of the result: ")
    assert line.endswith(" then, Slow 1000 now")
    events = [text.decode() for text in run.table("events")["text"].tolist()]
    assert any("continued with something else" in text for text in events)
    assert run.provenance["machine"]["processor"] == "Slow 1000"
