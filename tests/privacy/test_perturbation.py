from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.made import as_bits, first_state, small_config, small_world

from hpcfsl.group import train_and_score
from hpcfsl.privacy import noise, perturbations
from hpcfsl.privacy.noise import add_normal_rows
from hpcfsl.privacy.perturbation import Perturbation, clip_in_place, row_norms
from hpcfsl.seeding import Purpose


def gaussian(**settings: object) -> Perturbation:
    return perturbations.parse({"rule": "gaussian", **settings})


def make_noise(size: int, *, seed: int = 1, round: int = 0, entity: int = 0, deviation: float = 1.0) -> torch.Tensor:
    target = torch.zeros(size)
    key = {"seed": seed, "purpose": Purpose.PERTURBATION, "round": round, "entities": np.array([entity])}
    add_normal_rows(target[None], deviation, **key)
    return target


def clip(updates: torch.Tensor, bound: float) -> torch.Tensor:
    """Return a clipped copy."""
    clipped = updates.clone()
    clip_in_place(clipped, row_norms(updates).numpy(), bound)
    return clipped


def test_the_registered_perturbations() -> None:
    assert perturbations.names() == ["gaussian", "none"]


def test_none_changes_nothing_and_holds_nobody_to_a_norm() -> None:
    rule, updates = perturbations.parse({"rule": "none"}), torch.ones(2, 3)
    assert rule.perturb(updates, clients=np.arange(2), seed=0, round=0) is updates
    assert rule.bound(100) is None


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=6), st.floats(1e-3, 1e3))
def test_clipping_shortens_long_rows_and_leaves_short_ones(lengths: list[float], bound: float) -> None:
    directions = torch.nn.functional.normalize(
        torch.randn(len(lengths), 20, generator=torch.Generator().manual_seed(1))
    )
    updates = directions * torch.tensor(lengths)[:, None]
    clipped = clip(updates, bound)
    for row, length in enumerate(lengths):
        if length <= bound * (1 - 1e-6):
            assert torch.equal(clipped[row], updates[row])
        else:
            np.testing.assert_allclose(clipped[row], directions[row] * min(bound, length), rtol=1e-4, atol=1e-6)


def test_clipping_leaves_non_finite_rows_alone() -> None:
    updates = torch.tensor([[3.0, 4.0], [float("nan"), 1.0], [float("inf"), 1.0], [1e30, 0.0]])
    clipped = clip(updates, 1.0)
    np.testing.assert_allclose(clipped[0], [0.6, 0.8], rtol=1e-6)
    assert clipped[1, 0].isnan()
    assert clipped[2, 0].isinf()
    assert clipped[3].tolist() == [1.0, 0.0]


def test_norms_do_not_overflow() -> None:
    np.testing.assert_allclose(row_norms(torch.full((1, 4), 1e30)), [2e30], rtol=1e-6)


def test_noise_is_standard_normal_and_independent() -> None:
    size = 200_000
    one, other = make_noise(size).double(), make_noise(size, entity=1).double()
    assert abs(float(one.mean())) < 4 / size**0.5
    assert float(one.var()) == pytest.approx(1, abs=4 * (2 / size) ** 0.5)
    assert float((one**3).mean()) == pytest.approx(0, abs=0.05)
    assert float((one**4).mean()) == pytest.approx(3, abs=0.1)
    for bound, share in ((1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        assert float((one.abs() < bound).double().mean()) == pytest.approx(share, abs=0.005)
    for shifted in (other, one.roll(1), one.roll(2), one.roll(4)):
        assert abs(float((one * shifted).mean())) < 5 / size**0.5


def test_noise_is_keyed_by_seed_round_and_client_alone() -> None:
    wanted = make_noise(100, seed=3, round=5, entity=7)
    assert torch.equal(make_noise(100, seed=3, round=5, entity=7), wanted)
    for changed in ({"seed": 4}, {"round": 6}, {"entity": 8}):
        assert not torch.equal(make_noise(100, **{"seed": 3, "round": 5, "entity": 7, **changed}), wanted)
    np.testing.assert_allclose(make_noise(100, seed=3, round=5, entity=7, deviation=2.0), 2 * wanted)


def test_noise_does_not_depend_on_the_block_or_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_noise(1001)
    assert torch.equal(make_noise(37), whole[:37])
    monkeypatch.setattr(noise, "BLOCK_COUNTERS", 16)
    assert torch.equal(make_noise(1001), whole)


def test_perturbed_updates_are_clipped_and_noisy_by_client() -> None:
    rule = gaussian(clip=2.0, noise_multiplier=0.01)
    updates = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    before = updates.clone()
    found = rule.perturb(updates, clients=np.array([4, 9, 2]), seed=1, round=3)
    assert torch.equal(updates, before)
    for row, client in enumerate([4, 9, 2]):
        added = found[row] - clip(updates, 2.0)[row]
        np.testing.assert_allclose(added, 0.02 * make_noise(5000, round=3, entity=client), atol=1e-6)
    # Who else is in the group changes no client's noise.
    alone = rule.perturb(updates[1:2], clients=np.array([9]), seed=1, round=3)
    assert torch.equal(alone[0], found[1])
    # As the docstring says, the cosine of true and perturbed is about 1 / sqrt(1 + noise^2 d).
    cosine = torch.nn.functional.cosine_similarity(found, updates)
    np.testing.assert_allclose(cosine, 1 / (1 + 0.01**2 * 5000) ** 0.5, atol=0.02)


def test_no_noise_is_the_clip_alone() -> None:
    updates = torch.ones(2, 4)
    found = gaussian(clip=1.0, noise_multiplier=0.0).perturb(updates, clients=np.arange(2), seed=0, round=0)
    assert torch.equal(found, clip(updates, 1.0))


@pytest.mark.parametrize(("clip", "multiplier", "size"), [(1.0, 0.001, 1000), (3.0, 0.05, 4000), (0.5, 0.0, 10)])
def test_the_aggregators_bound_spares_honest_clients(clip: float, multiplier: float, size: int) -> None:
    rule = gaussian(clip=clip, noise_multiplier=multiplier)
    bound = rule.bound(size)
    assert bound == pytest.approx(clip * max(1.0, 1.1 * (1 + multiplier**2 * size) ** 0.5))
    updates = 100 * torch.randn(20, size, generator=torch.Generator().manual_seed(0))
    assert (row_norms(rule.perturb(updates, clients=np.arange(20), seed=0, round=0)) <= bound).all()
    assert gaussian(aggregator_clips=False).bound(size) is None


@pytest.mark.parametrize("clips", [True, False])
def test_attackers_skip_the_clip_unless_the_aggregator_clips_again(clips: bool) -> None:
    config = small_config(
        perturbation={"rule": "gaussian", "clip": 0.01, "noise_multiplier": 0.0, "aggregator_clips": clips},
        threat={"attack": "sign-flip", "clients": 4, "scale": 1000.0},
    )
    world = small_world(config)
    state = first_state(world)
    found = train_and_score(world, state.weights, state.clients, group=0, members=np.arange(12), round=0)
    bad = found.attackers
    assert bad.sum() == 4
    used = row_norms(found.uploads).numpy()
    assert (used[~bad] <= 0.01 * 1.00001).all()
    assert ((used[bad] <= 0.011 * 1.00001) if clips else (used[bad] > 1)).all()
    # The score sees the norm from before the aggregator's clip either way.
    assert (found.norms[bad] > 1).all()
    assert found.scores.credit[bad].min() > found.scores.credit[~bad].max()
    assert (found.true_norms[~bad] > 0.01).any()


def test_perturbed_rounds_are_repeatable() -> None:
    config = small_config(perturbation={"rule": "gaussian", "clip": 0.1, "noise_multiplier": 0.01})

    def upload() -> bytes:
        world = small_world(config)
        state = first_state(world)
        members = np.arange(5)
        return as_bits(train_and_score(world, state.weights, state.clients, group=0, members=members, round=2).uploads)

    assert upload() == upload()


def test_a_perturbation_without_its_methods_says_so() -> None:
    rule = Perturbation(rule="nameless")
    with pytest.raises(AssertionError, match="defines perturb"):
        rule.perturb(torch.ones(1, 1), clients=np.arange(1), seed=0, round=0)
    with pytest.raises(AssertionError, match="defines bound"):
        rule.bound(1)
