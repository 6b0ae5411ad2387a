"""Contenders made of scripts that only say what they would have measured."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from hpcfsl.bench.contenders import Contender, Side, find_peer, flower, gemm, independent_runs, ours, parse_variant, pfl
from hpcfsl.bench.processes import BenchmarkError, Command
from hpcfsl.bench.request import Request, read_request
from hpcfsl.bench.summary import lines, peak_rates, ratios
from hpcfsl.bench.turns import take_turns
from hpcfsl.errors import UserError

REQUEST = Request(workload="mlp", cohort=10)


def script(**result: Any) -> Command:
    line = json.dumps({"event": "result", **result})
    return Command(argv=(sys.executable, "-c", f"print({line!r})"))


def contender(name: str, side: Side, *commands: Command, independent: bool = False) -> Contender:
    return Contender(
        name=name,
        side=side,
        processes=len(commands),
        threads=1,
        commands=lambda request: commands,
        independent=independent,
    )


def marks(seconds: float, count: int = 5, start: float = 100.0) -> list[float]:
    return [start + seconds * place for place in range(count)]


def test_everybody_runs_in_every_repeat_and_ratios_are_of_repeats() -> None:
    facts = {"flops_per_client": 1_000_000, "parameters": 7, "executor": "stacked"}
    everybody = [
        contender("one rank", "ours", script(marks=marks(0.5), cohort=10, peak_memory_bytes=[5, 9], **facts)),
        contender("two ranks", "ours", script(marks=marks(0.25), cohort=10, ready_seconds=1.5, **facts)),
        contender("pfl", "pfl", script(marks=marks(1.0), cohort=10), script(marks=[], cohort=10)),
        contender("gemm", "gemm", script(marks=marks(0.1), flops=10_000_000)),
    ]
    said: list[str] = []
    result = take_turns(REQUEST, everybody, repeats=2, say=said.append)
    assert said[0] == "mlp 1/2: one rank: 20 clients/s"
    assert [line.split(": ")[1] for line in said] == 2 * ["one rank", "two ranks", "pfl", "gemm"]
    assert (result["parameters"], result["flops_per_client"], result["cohort"]) == (7, 1_000_000, 10)
    (ratio,) = ratios(result)
    assert (ratio.ours, ratio.other, ratio.value.median) == ("two ranks", "pfl", pytest.approx(4.0))
    first, second, peer = lines(result)
    assert first.memory_bytes == 9
    assert first.of_peak is not None
    assert first.of_peak.median == pytest.approx(20e6 / 1e8)
    assert (second.ready_seconds, peer.ready_seconds, peer.joules) == (1.5, None, None)
    assert peak_rates(result) == {1: pytest.approx(1e8)}
    json.dumps(result)


def test_independent_processes_count_where_they_overlap() -> None:
    # The second one starts late and is faster; the first one's last two rounds run while it is alone.
    slow, fast = script(marks=marks(1.0, 8), cohort=10), script(marks=marks(0.5, 7, start=102.0), cohort=10)
    result = take_turns(REQUEST, [contender("pair", "pair", slow, fast, independent=True)], repeats=1, say=print)
    assert result["contenders"][0]["series"]["rate"] == [pytest.approx(10 + 20)]


def test_processes_that_never_overlap_are_refused() -> None:
    apart = [script(marks=marks(1.0), cohort=10), script(marks=marks(1.0, start=900.0), cohort=10)]
    with pytest.raises(BenchmarkError, match="pair: the processes did not work at the same time; raise --seconds"):
        take_turns(REQUEST, [contender("pair", "pair", *apart, independent=True)], repeats=1, say=print)


class TestCommands:
    def test_ours_are_ranks_of_our_worker(self) -> None:
        variant = parse_variant("wide: training.chunk_clients=64, training.executor=stacked")
        made = ours(1, variant)
        (command,) = made.commands(REQUEST)
        assert command.argv[-3:-1] == ("-m", "hpcfsl.bench.worker")
        wanted = ("training.chunk_clients=64", "training.executor=stacked")
        assert read_request(command.argv[-1]).overrides == wanted
        assert command.environment["OMP_NUM_THREADS"] == "1"
        assert made.name == "hpcfsl, 1 rank, wide"

    def test_independent_runs_and_matrix_products_are_several_commands(self) -> None:
        assert len(independent_runs(2).commands(REQUEST)) == 2
        assert len(gemm(2).commands(REQUEST)) == 2

    def test_pfl_with_two_processes_is_distributed(self) -> None:
        first, second = pfl("/env/python", 2, 1).commands(REQUEST)
        assert (first.environment["PFL_WORKER_RANK"], second.environment["PFL_WORKER_RANK"]) == ("0", "1")
        assert first.environment["PFL_WORKER_ADDRESSES"] == second.environment["PFL_WORKER_ADDRESSES"]
        assert first.argv[0] == "/env/python"
        (alone,) = pfl("/env/python", 1, 2).commands(REQUEST)
        assert "PFL_WORKER_RANK" not in alone.environment
        assert json.loads(alone.argv[2])["threads"] == 2

    def test_flower_is_measured_with_the_smaller_population_too(self) -> None:
        trees = [json.loads(flower("py", 2, whole=whole).commands(REQUEST)[0].argv[2]) for whole in (True, False)]
        assert [tree["population"] for tree in trees] == [1000, 10]


class TestMistakes:
    def test_a_variant_that_is_none(self) -> None:
        with pytest.raises(UserError, match=r"--variant fast: write it as NAME:section\.key=value"):
            parse_variant("fast")

    def test_a_peer_without_an_environment(self) -> None:
        with pytest.raises(UserError, match=r"--pfl-python: must name the Python .*bench_peers"):
            find_peer("--pfl-python", None, "pfl")

    def test_an_environment_without_the_peer(self) -> None:
        with pytest.raises(UserError, match=r"cannot import nobody_has_this \(ModuleNotFoundError") as raised:
            find_peer("--pfl-python", sys.executable, "nobody_has_this")
        assert "\n" not in str(raised.value)
