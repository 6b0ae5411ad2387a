"""Attacks on inputs and on smashed data: sizes, keys, shapes, and who is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.made import small_config, small_world

from hpcfsl.errors import ConfigError
from hpcfsl.threats import OwnData, Threat, threats

SHAPES = [(6,), (3, 4), (3, 8, 8)]


def make_threat(attack: str, **settings: Any) -> Threat:
    return threats.parse({"attack": attack, **settings})


def make_data(
    shape: tuple[int, ...] = (6,),
    *,
    counts: tuple[int, ...] = (40, 25),
    clients: tuple[int, ...] = (3, 9),
    vocabulary: int = 0,
    **changes: Any,
) -> OwnData:
    rng, rows = np.random.default_rng(5), sum(counts)
    numbers = rng.normal(2.0, 1.0, (rows, *shape)).astype(np.float32)
    inputs = rng.integers(0, vocabulary, (rows, *shape)) if vocabulary else numbers
    return OwnData(
        clients=np.array(clients),
        counts=np.array(counts),
        inputs=inputs,
        targets=np.zeros(rows, np.int64),
        num_classes=2,
        vocabulary=vocabulary,
        **{"seed": 1, "round": 0, **changes},
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_has_the_asked_size_in_every_feature_and_leaves_the_given_data_alone(shape: tuple[int, ...]) -> None:
    data = make_data(shape, counts=(4000, 5))
    before = data.inputs.copy()
    polluted, targets = make_threat("feature-noise", scale=3.0).poison(data)
    assert targets is data.targets
    assert polluted.dtype == np.float32
    np.testing.assert_array_equal(data.inputs, before)
    np.testing.assert_allclose((polluted - before)[:4000].std(axis=0), 3.0, rtol=0.1)


def test_noise_follows_the_units_of_each_feature() -> None:
    data = make_data(counts=(4000, 5))
    scales = np.array([1, 1e-3, 1e4, 1, 1, 1], np.float32)
    data.inputs[:] *= scales
    polluted, _ = make_threat("feature-noise", scale=2.0).poison(data)
    np.testing.assert_allclose((polluted - data.inputs)[:4000].std(axis=0) / scales, 2.0, rtol=0.1)


@given(st.floats(0.05, 1.0))
def test_about_the_asked_share_is_changed(share: float) -> None:
    data = make_data(counts=(300, 300))
    polluted, _ = make_threat("feature-noise", share=share).poison(data)
    assert abs((polluted != data.inputs).mean() - share) < 0.05


def test_symbols_become_random_symbols() -> None:
    data = make_data((20,), vocabulary=7, counts=(500, 500))
    polluted, _ = make_threat("feature-noise").poison(data)
    assert polluted.dtype == np.int64
    shares = np.bincount(polluted.ravel(), minlength=7) / polluted.size
    np.testing.assert_allclose(shares, 1 / 7, atol=0.01)
    assert abs((polluted == data.inputs).mean() - 1 / 7) < 0.02


@pytest.mark.parametrize("vocabulary", [0, 7])
def test_data_are_polluted_once_and_in_any_company(vocabulary: int) -> None:
    threat = make_threat("feature-noise", share=0.7)
    both = threat.poison(make_data(vocabulary=vocabulary))[0]
    later = threat.poison(make_data(vocabulary=vocabulary, round=8))[0]
    np.testing.assert_array_equal(both, later)
    whole = make_data(vocabulary=vocabulary)
    alone = OwnData(
        clients=whole.clients[1:],
        counts=whole.counts[1:],
        inputs=whole.inputs[40:],
        targets=whole.targets[40:],
        num_classes=2,
        vocabulary=vocabulary,
        seed=1,
        round=0,
    )
    np.testing.assert_array_equal(threat.poison(alone)[0], both[40:])
    other = threat.poison(make_data(vocabulary=vocabulary, seed=2))[0]
    assert not np.array_equal(other, both)


SMASHED = ("smashed-noise", "smashed-shift", "smashed-non-finite")


def make_smashed(attackers: int = 3, batch: int = 8, shape: tuple[int, ...] = (4, 5)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(attackers, batch, *shape, generator=generator) * torch.arange(1, attackers + 1).view(-1, 1, 1, 1)


def poison(threat: Threat, smashed: torch.Tensor, **changes: Any) -> torch.Tensor:
    keys = {"seed": 1, "round": 2, "clients": np.arange(len(smashed)) * 5, "step": 0, **changes}
    return threat.poison_smashed(smashed, **keys)


@pytest.mark.parametrize("attack", SMASHED)
def test_smashed_data_keep_their_shape_and_what_was_given_stays(attack: str) -> None:
    smashed = make_smashed()
    before = smashed.clone()
    found = poison(make_threat(attack), smashed)
    assert found.shape == smashed.shape
    assert found.dtype == smashed.dtype
    assert torch.equal(smashed, before)
    assert not torch.equal(found, smashed)


@pytest.mark.parametrize("attack", SMASHED)
def test_an_attacker_sends_the_same_alone_and_beside_others(attack: str) -> None:
    smashed, threat = make_smashed(), make_threat(attack)
    together = poison(threat, smashed)
    alone = poison(threat, smashed[1:2], clients=np.array([5]))
    torch.testing.assert_close(alone, together[1:2], rtol=0, atol=0, equal_nan=True)


def test_noise_is_as_large_as_asked_in_units_of_each_attackers_own_and_new_in_each_step() -> None:
    smashed, threat = make_smashed(batch=300), make_threat("smashed-noise", scale=2.0)
    noise = poison(threat, smashed) - smashed
    own = smashed.flatten(1).square().mean(dim=1).sqrt()
    torch.testing.assert_close(noise.flatten(1).std(dim=1) / own, torch.full((3,), 2.0), rtol=0.05, atol=0)
    for change in ({"step": 1}, {"round": 3}, {"seed": 2}, {"clients": np.array([1, 2, 3])}):
        other = poison(threat, smashed, **change) - smashed
        assert abs(float((noise * other).mean() / (noise.std() * other.std()))) < 0.05


def test_the_shift_is_one_direction_for_all_attackers_steps_and_rounds() -> None:
    smashed, threat = make_smashed(), make_threat("smashed-shift", scale=2.0)
    own = smashed.flatten(1).square().mean(dim=1).sqrt().view(-1, 1, 1, 1)
    shift = (poison(threat, smashed) - smashed) / own
    torch.testing.assert_close(shift.abs(), torch.full_like(shift, 2.0))
    assert torch.equal(shift.sign(), shift[0, 0].sign().expand_as(shift))
    later = (poison(threat, smashed, step=4, round=9) - smashed) / own
    torch.testing.assert_close(later, shift)
    assert set(shift[0, 0].sign().flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(("value", "number"), [("nan", np.nan), ("infinity", np.inf), ("huge", 1e30)])
def test_non_finite_smashed_data(value: str, number: float) -> None:
    found = poison(make_threat("smashed-non-finite", value=value), make_smashed())
    np.testing.assert_array_equal(found.numpy(), np.full((3, 8, 4, 5), number, np.float32))


@pytest.mark.parametrize("attack", SMASHED)
def test_without_a_cut_there_are_no_smashed_data_to_poison(attack: str) -> None:
    with pytest.raises(ConfigError, match=rf"threat\.attack = '{attack}': .*'fedavg' sends no smashed data"):
        small_world(small_config(protocol={"name": "fedavg"}, threat={"attack": attack, "clients": 1}))
