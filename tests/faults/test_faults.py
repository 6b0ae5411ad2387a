"""Faults as they are drawn, how far clients come, and what breaks in an upload."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError
from hpcfsl.faults import DROPPED, LOST, Fault, faults
from hpcfsl.faults.corruption import VALUES, corrupt_in_place
from hpcfsl.faults.leaving import bytes_until, samples_passed, steps_done
from hpcfsl.seeding import Purpose, random_uniform
from hpcfsl.trace.schema import find_column
from hpcfsl.training.batches import num_steps
from hpcfsl.training.protocols import WireBytes

KINDS = ("dropout_before", "dropout_during", "dropout_after", "nan", "infinity", "huge")
CODES = (Fault.DROPPED_BEFORE, Fault.DROPPED_DURING, Fault.DROPPED_AFTER, Fault.NAN, Fault.INFINITY, Fault.HUGE)
ONES = np.ones(1)


def draw(clients: np.ndarray, factors: np.ndarray | None = None, *, round: int = 3, **chances: float) -> np.ndarray:
    rule = faults.parse({"rule": "random", **chances})
    return rule.draw(clients, np.ones(len(clients)) if factors is None else factors, seed=5, round=round)


def test_the_trace_names_every_fault() -> None:
    names = tuple(fault.name.lower().replace("_", "-") for fault in Fault)
    assert find_column("participation", "fault").flags == names
    assert set(DROPPED) < set(LOST)


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), st.floats(0, 2), st.integers(0, 2**31))
def test_one_number_is_held_against_the_probabilities_end_to_end(parts: list[int], factor: float, client: int) -> None:
    chances = [part / 60 for part in parts]
    number = float(random_uniform(5, Purpose.FAULTS, round=3, entity=client, count=1)[0])
    wanted, edge = Fault.NONE, 0.0
    for code, chance in zip(CODES, np.cumsum(chances), strict=True):
        if edge < number <= factor * chance and wanted == Fault.NONE:
            wanted = code
        edge = max(edge, factor * chance)
    found = draw(np.array([client]), np.array([factor]), **dict(zip(KINDS, chances, strict=True)))
    assert found.tolist() == [wanted]


def test_probabilities_are_met() -> None:
    chances = dict(zip(KINDS, (0.1, 0.05, 0.2, 0.02, 0.01, 0.3), strict=True))
    count = 100_000
    found = np.bincount(draw(np.arange(count), **chances), minlength=8)
    for code, chance in zip(CODES, chances.values(), strict=True):
        assert abs(found[code] - count * chance) < 5 * np.sqrt(count * chance * (1 - chance)), code
    assert found[Fault.LATE] == 0
    assert found.sum() == count


def test_device_classes_multiply_probabilities() -> None:
    factors = np.tile([0.0, 1.0, 4.0], 30_000)
    found = draw(np.arange(90_000), factors, dropout_after=0.1) == Fault.DROPPED_AFTER
    for factor in (0.0, 1.0, 4.0):
        assert found[factors == factor].mean() == pytest.approx(0.1 * factor, abs=0.014 * factor**0.5)


def test_a_fault_depends_on_seed_round_and_client_alone() -> None:
    clients = np.arange(50)
    together = draw(clients, dropout_before=0.3, huge=0.3)
    alone = [draw(clients[i : i + 1], ONES, dropout_before=0.3, huge=0.3)[0] for i in range(50)]
    assert together.tolist() == alone
    assert together.tolist() != draw(clients, round=4, dropout_before=0.3, huge=0.3).tolist()


def test_certain_and_impossible_faults() -> None:
    clients = np.arange(1000)
    assert (draw(clients, infinity=1.0) == Fault.INFINITY).all()
    assert (draw(clients) == Fault.NONE).all()
    assert len(draw(clients[:0], dropout_before=1.0)) == 0


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"faults": {"rule": "random", "nan": 0.6, "huge": 0.6}}, "faults.rule = 'random': its probabilities, times"),
        ({"faults": {"rule": "random", "nan": 1.2}}, "faults.nan = 1.2"),
        ({"faults": {"rule": "random", "dropout": 0.1}}, "faults.dropout = 0.1: unknown; did you mean"),
        ({"faults": {"nan": 0.1}}, "faults.nan = 0.1: unknown"),
        ({"faults": {"rule": "randon"}}, "faults.rule = 'randon': unknown; did you mean 'random'"),
        (
            {
                "faults": {"rule": "random", "nan": 0.3},
                "clock": {
                    "rule": "devices",
                    "classes": [
                        {"name": "a", "share": 1.0, "gflops": 1, "up_mbps": 1, "down_mbps": 1, "fault_factor": 4}
                    ],
                },
            },
            "sum to 1.2; they must not exceed 1",
        ),
    ],
)
def test_refused(tree: dict, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(tree)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 3), st.integers(0, 200))
def test_samples_of_the_first_steps_against_a_loop(samples: int, batch: int, epochs: int, done: int) -> None:
    sizes = [min(batch, samples - first) for _ in range(epochs) for first in range(0, samples, batch)]
    done = min(done, len(sizes))
    assert samples_passed(np.array([done]), np.array([samples]), batch).tolist() == [sum(sizes[:done])]


def test_clients_leave_after_any_of_their_steps() -> None:
    clients = np.arange(30_000)
    steps = np.full(30_000, 3)
    fault = np.full(30_000, Fault.DROPPED_DURING, np.int8)
    fault[:5] = [Fault.NONE, Fault.DROPPED_BEFORE, Fault.DROPPED_AFTER, Fault.LATE, Fault.NAN]
    done = steps_done(fault, clients, steps, seed=1, round=0)
    assert done[:5].tolist() == [3, 0, 3, 3, 3]
    counts = np.bincount(done[5:], minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] - 10_000) < 500).all()
    one = steps_done(fault[7:8], clients[7:8], steps[7:8], seed=1, round=0)
    assert one[0] == done[7]
    assert (steps_done(fault[5:], clients[5:], np.ones(29_995, np.int64), seed=1, round=0) == 1).all()


def test_bytes_until_a_client_is_gone() -> None:
    fault = np.array([Fault.NONE, Fault.DROPPED_BEFORE, Fault.DROPPED_DURING, Fault.DROPPED_AFTER, Fault.LATE], np.int8)
    samples = np.array([10, 10, 10, 10, 10])
    total = samples * 2
    every = num_steps(samples, batch_size=4, epochs=2)
    passed = samples_passed(np.where(fault == Fault.DROPPED_DURING, 4, every * (fault != 1)), samples, 4)
    whole = np.full(5, 1)
    wire = WireBytes(
        smashed_up=12 * total,
        gradients_down=12 * total,
        labels_up=8 * total,
        outputs_down=4 * total,
        output_gradients_up=4 * total,
        model_up=7 * whole,
        model_down=7 * whole,
    )
    none = np.zeros(5, np.int64)
    ahead = WireBytes(**dict.fromkeys((field.name for field in fields(WireBytes)), none))
    found = bytes_until(wire, ahead, fault, passed, total)
    assert found.smashed_up.tolist() == [240, 0, 12 * 14, 240, 240]
    assert found.gradients_down.tolist() == found.smashed_up.tolist()
    assert found.labels_up.tolist() == [160, 0, 8 * 14, 160, 160]
    assert found.outputs_down.tolist() == found.output_gradients_up.tolist() == [80, 0, 4 * 14, 80, 80]
    assert found.model_up.tolist() == [7, 0, 0, 7, 7]
    assert found.model_down.tolist() == [7, 0, 7, 7, 7]
    screened = replace(wire, smashed_up=12 * (total + samples))
    found = bytes_until(screened, replace(ahead, smashed_up=12 * samples), fault, passed, total)
    assert found.smashed_up.tolist() == [360, 0, 12 * (10 + 14), 360, 360]


@pytest.mark.parametrize("coordinates", ["one", "all"])
def test_corrupt_uploads(coordinates: str) -> None:
    rule = faults.parse({"rule": "random", "coordinates": coordinates})
    fault = np.array([Fault.NONE, *VALUES, Fault.LATE], np.int8)
    clients = np.array([3, 4, 9, 17, 20])
    uploads = torch.ones(5, 1000)
    broken = corrupt_in_place(rule, uploads, fault, clients=clients, seed=1, round=2)
    assert broken.tolist() == [False, True, True, True, False]
    for row, value in zip((1, 2, 3), VALUES.values(), strict=True):
        changed = uploads[row] != 1
        assert int(changed.sum()) == (1 if coordinates == "one" else 1000)
        np.testing.assert_equal(uploads[row][changed].numpy(), np.float32(value))
    alone = torch.ones(1, 1000)
    corrupt_in_place(rule, alone, fault[3:4], clients=clients[3:4], seed=1, round=2)
    assert torch.equal(alone[0], uploads[3])
    assert bool((uploads[[0, 4]] == 1).all())
