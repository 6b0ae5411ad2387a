from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.aggregate.geometry import BLOCK, slice_bounds
from hpcfsl.scaling import network
from hpcfsl.scaling.amounts import (
    STAGES,
    Options,
    geometry_amounts,
    reduce_amounts,
    score_amounts,
    slice_sizes,
    stage_amounts,
    sum_amounts,
    train_amounts,
)
from hpcfsl.scaling.cluster import Cluster, one_node, shared_seconds, slowest_of
from hpcfsl.scaling.direct import measure_directly
from hpcfsl.scaling.model import Rates, predict
from hpcfsl.scaling.workload import Workload, evenly

sizes = st.integers(1, 200)
clusters = st.builds(
    Cluster,
    ranks=sizes,
    ranks_per_node=st.integers(1, 64),
    cores_per_node=st.integers(1, 64),
    saturating_ranks=st.floats(1, 64),
)


def workload(groups: int = 8, clients: int = 5, params: int = 10_000, **rest: object) -> Workload:
    return evenly(
        **{  # type: ignore[arg-type]
            "groups": groups,
            "clients": clients,
            "samples": 20,
            "batch": 10,
            "family": "mlp",
            "params": params,
            "sample_flops": 2.0 * params,
            "test_samples": 900.0,
            "vectors": 2.0,
            "vector_bytes": 4.0 * params,
            "commits": 0.1,
            **rest,
        }
    )


def names() -> list[str]:
    """Return every rate that the formulas name."""
    cluster = Cluster(ranks=100, ranks_per_node=10, cores_per_node=5)
    works = [workload(rule=rule, pooled=True) for rule in ("weighted", "distances", "median")]
    found = [amounts for work in works for amounts in stage_amounts(work, cluster).values()]
    found += [amounts for make in (train_amounts, score_amounts, sum_amounts) for amounts in make(works[0])]
    found += [reduce_amounts(works[0], cluster, Options(reduction=name)) for name in ("sharded", "float32")]
    return sorted({name for amounts in found for name in amounts})


RATES = Rates(
    seconds={name: 1e-9 * (1 + place % 7) for place, name in enumerate(names())},
    round_noise=0.05,
    group_noise=0.1,
    contention=0.2,
)


def slowly_shared(work: np.ndarray, cores: int) -> float:
    """Return when the last rank is done, by stepping from one rank's end to the next."""
    left, now = sorted(work.tolist()), 0.0
    while left:
        speed = min(1.0, cores / len(left))
        now += left[0] / speed
        left = [each - left[0] for each in left[1:]]
    return now


class TestSharedSeconds:
    @given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(1, 16))
    def test_equals_stepping_from_end_to_end(self, work: list[float], cores: int) -> None:
        found = shared_seconds(np.array(work), one_node(len(work), cores))
        assert found == pytest.approx(slowly_shared(np.array(work), cores))

    @given(st.integers(1, 40), st.integers(1, 16))
    def test_equal_work_takes_ranks_over_cores(self, ranks: int, cores: int) -> None:
        expected = 3.0 * ranks / min(ranks, cores)
        assert shared_seconds(np.full(ranks, 3.0), one_node(ranks, cores)) == pytest.approx(expected)

    def test_nodes_do_not_share_cores(self) -> None:
        cluster = Cluster(ranks=4, ranks_per_node=2, cores_per_node=1)
        assert shared_seconds(np.array([1.0, 1.0, 3.0, 1.0]), cluster) == 4.0

    def test_placed_on_fewer_ranks_than_a_node_has(self) -> None:
        assert shared_seconds(np.array([2.0]), Cluster(ranks=1, ranks_per_node=8, cores_per_node=4)) == 2.0


class TestSlowestOf:
    def test_one_is_the_mean_and_more_are_later(self) -> None:
        values = [slowest_of(count) for count in (1, 2, 8, 64, 1024)]
        assert values[0] == 0
        assert values == sorted(values)

    @pytest.mark.parametrize("count", [2, 8, 100, 1024])
    def test_near_the_mean_of_many_draws(self, count: int) -> None:
        draws = np.random.default_rng(count).normal(size=(4000, count)).max(axis=1)
        assert slowest_of(count) == pytest.approx(draws.mean(), rel=0.06)


class TestNetwork:
    @given(clusters, st.floats(1, 1e9), st.floats(1, 4))
    def test_more_bytes_never_cost_less(self, cluster: Cluster, size: float, factor: float) -> None:
        actions = (network.scattered, network.gather_all, network.gather_root, network.exchange)
        for action in actions:
            assert RATES.of(action(size, cluster)) <= RATES.of(action(size * factor, cluster)) * (1 + 1e-12)

    @given(st.floats(1, 1e9))
    def test_one_rank_exchanges_nothing(self, size: float) -> None:
        for action in (network.allreduce, network.scattered, network.gather_all, network.gather_root, network.exchange):
            assert not any(action(size, one_node(1, 4)).values())

    @given(st.integers(2, 64), st.floats(20_000, 1e9))
    def test_an_allreduce_is_a_scatter_and_a_gather(self, ranks: int, size: float) -> None:
        cluster = one_node(ranks, 64)
        halves = RATES.of(network.scattered(size, cluster)) * 2
        assert RATES.of(network.allreduce(size, cluster)) == pytest.approx(halves)

    def test_two_ranks_by_hand(self) -> None:
        amounts = network.allreduce(8e6, one_node(2, 2))
        assert amounts["inside.alpha"] == 2
        assert amounts["inside.switch"] == 0
        assert amounts["inside.beta"] == 8e6
        assert not amounts["between.alpha"] + amounts["between.beta"]

    def test_the_vector_passes_a_nodes_card_once_whatever_the_ranks(self) -> None:
        few, many = (Cluster(ranks=4 * m, ranks_per_node=m, cores_per_node=m) for m in (2, 32))
        assert network.allreduce(1e8, few)["between.beta"] == network.allreduce(1e8, many)["between.beta"] == 1.5e8


class TestPredict:
    @given(clusters, sizes, st.sampled_from(["weighted", "distances", "median"]), st.booleans())
    @settings(deadline=None)
    def test_stages_sum_to_the_round_and_so_do_its_causes(
        self, cluster: Cluster, groups: int, rule: str, pooled: bool
    ) -> None:
        found = predict(workload(groups, rule=rule, pooled=pooled), cluster, RATES)
        assert set(found.stages) == set(STAGES)
        assert all(value >= 0 for value in found.stages.values())
        assert found.seconds == pytest.approx(sum(found.terms.values()), rel=1e-6)

    @given(clusters, st.integers(2, 100), st.integers(1, 30))
    @settings(deadline=None, max_examples=40)
    def test_more_work_never_takes_less(self, cluster: Cluster, groups: int, clients: int) -> None:
        small = predict(workload(groups, clients), cluster, RATES).seconds
        assert predict(workload(groups, clients + 1), cluster, RATES).seconds >= small
        assert predict(workload(groups, clients, params=20_000), cluster, RATES).seconds >= small

    @given(st.integers(0, 6), st.integers(0, 1))
    @settings(deadline=None)
    def test_group_work_shrinks_with_ranks_that_divide_the_groups(self, doublings: int, more: int) -> None:
        work, calm = workload(128, rule="weighted"), Rates(seconds=RATES.seconds)
        fewer, ranks = 2**doublings, 2 ** (doublings + more)
        times = [predict(work, one_node(count, 128), calm).terms["compute"] for count in (fewer, ranks)]
        assert times[1] == pytest.approx(times[0] / 2**more)

    def test_ranks_beyond_the_cores_do_not_help(self) -> None:
        calm = Rates(seconds=RATES.seconds)
        two, eight = (predict(workload(16), one_node(ranks, 2), calm).terms["compute"] for ranks in (2, 8))
        assert eight == pytest.approx(two)

    def test_uneven_groups_leave_ranks_waiting(self) -> None:
        even = workload(4)
        uneven = Workload(
            **{**even.__dict__, "samples": np.array([400, 100, 100, 100]), "steps": np.array([40, 10, 10, 10])}
        )
        calm = Rates(seconds=RATES.seconds)
        assert predict(even, one_node(4, 4), calm).terms["imbalance"] == pytest.approx(0)
        assert predict(uneven, one_node(4, 4), calm).terms["imbalance"] > 0

    def test_larger_groups_have_unluckier_ranks_and_one_rank_has_none(self) -> None:
        many, few = workload(64, clients=4), workload(8, clients=32)
        shares = [
            found.terms["stragglers"] / found.terms["compute"]
            for found in (predict(work, one_node(8, 8), RATES) for work in (many, few))
        ]
        assert shares[0] < shares[1]
        assert predict(few, one_node(1, 8), RATES).terms["stragglers"] == 0

    def test_one_rank_exchanges_nothing(self) -> None:
        for amounts in stage_amounts(workload(pooled=True), one_node(1, 2)).values():
            assert not any(name.startswith(("inside", "between", "object")) for name in amounts)

    def test_other_reductions_move_fewer_bytes(self) -> None:
        cluster = Cluster(ranks=256, ranks_per_node=64, cores_per_node=64)
        moved = {
            name: reduce_amounts(workload(params=10**7), cluster, Options(reduction=name))["between.beta"]
            for name in ("int64", "sharded", "float32")
        }
        assert moved["float32"] == pytest.approx(moved["int64"] / 2, rel=0.01)
        assert moved["sharded"] == pytest.approx(moved["int64"] * 3 / 4, rel=0.01)

    @given(st.integers(1, 10**7), sizes)
    def test_slices_are_those_of_the_program(self, params: int, ranks: int) -> None:
        assert slice_sizes(params, ranks, BLOCK).tolist() == np.diff(slice_bounds(params, ranks)).tolist()

    def test_distances_send_one_matrix_whatever_the_model(self) -> None:
        cluster = Cluster(ranks=256, ranks_per_node=64, cores_per_node=64)
        amounts = [geometry_amounts(workload(512, params=params), cluster) for params in (10**7, 10**8)]
        sent = [
            each["between.beta"] - network.exchange(4.0 * params * 2, cluster)["between.beta"]
            for each, params in zip(amounts, (10**7, 10**8), strict=True)
        ]
        assert sent[0] == pytest.approx(sent[1], rel=1e-6)
        blocks = [-(-params // BLOCK // 256) for params in (10**7, 10**8)]
        assert amounts[0]["geometry.entry"] == pytest.approx(512 * 513 / 2, rel=0.01)
        assert amounts[1]["geometry.entry"] == pytest.approx(512 * 513 / 2 * blocks[1], rel=0.2)


def test_direct_measurements_name_amounts_that_the_formulas_have() -> None:
    found = measure_directly()
    assert set(found) <= set(names())
    assert all(value >= 0 for value in found.values())
    assert found["object"] > 0
