"""Times the real work of one configuration on this machine, in a couple of seconds.

Layer 4. A part of a round's middle group is trained, scored and summed as the run would do it, and a shard is
evaluated. What other ranks, files and the network add comes from the rates that ship with the package (`rates.json`,
written by `hpcfsl bench --scaling --rates`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.group import exclude_and_sum, train_and_score
from hpcfsl.keeping import Keeping
from hpcfsl.parallel.clients import ClientTable
from hpcfsl.round import plan_round
from hpcfsl.scaling.model import Rates
from hpcfsl.scaling.stages import LoggingStopwatch
from hpcfsl.scaling.workload import Workload
from hpcfsl.state import initial_state
from hpcfsl.training.evaluation import evaluate
from hpcfsl.world import World

BUDGET_SECONDS = 2.0
_PROBE_CLIENTS = 2


def shipped_rates() -> Rates:
    """Return the rates that ship with the package."""
    return read_rates(files("hpcfsl.scaling").joinpath("rates.json").read_text(encoding="utf-8"))


def read_rates(text: str) -> Rates:
    """Return the rates of a JSON text that `write_rates` made."""
    tree = json.loads(text)
    return Rates(seconds={name: float(value) for name, value in tree.pop("seconds").items()}, **tree)


def write_rates(rates: Rates) -> str:
    """Return rates as JSON, six digits each."""
    tree = {
        "round_noise": _short(rates.round_noise),
        "group_noise": _short(rates.group_noise),
        "contention": _short(rates.contention),
        "seconds": {name: _short(value) for name, value in sorted(rates.seconds.items())},
    }
    return json.dumps(tree, indent=1) + "\n"


def measured_rates(world: World, work: Workload, base: Rates) -> Rates:
    """Return `base` with this configuration's own rates of training, scoring, summing and evaluating."""
    weights = world.model.initial_weights(world.config.run.seed).to(world.device)
    members = _middle_group(world)
    _train_and_sum(world, weights, members[:_PROBE_CLIENTS])  # the first call compiles, allocates and fills caches
    probe = sum(_train_and_sum(world, weights, members[:_PROBE_CLIENTS]).values())
    affordable = int(len(members[:_PROBE_CLIENTS]) * BUDGET_SECONDS / max(probe, 1e-9))
    chosen = members[: max(_PROBE_CLIENTS, affordable)]
    seconds = _train_and_sum(world, weights, chosen)
    samples = int(world.population.train_counts(chosen).sum()) * work.epochs
    own = {
        f"train.{work.family}.flop": seconds["train"] / (3.0 * samples * work.sample_flops),
        "score.element": seconds["score"] / (len(chosen) * work.params),
        "sum.element": seconds["sum"] / (len(chosen) * work.params),
        **_evaluation(world, work, weights),
    }
    return _with_own(base, own)


def assumed_rates(work: Workload, base: Rates, flops_per_second: float) -> Rates:
    """Return `base` with training and evaluating at a stated speed of a core, nothing measured."""
    second = 1.0 / flops_per_second
    own = {f"train.{work.family}.flop": second, f"evaluate.{work.family}.flop": second}
    return replace(base, seconds={**_without_families(base.seconds), **own})


def _with_own(base: Rates, own: Mapping[str, float]) -> Rates:
    """Return `base` with `own` in the place of all rates of group work and of evaluating."""
    replaced = ("score.", "sum.", "evaluate.")
    kept = {name: value for name, value in _without_families(base.seconds).items() if not name.startswith(replaced)}
    return replace(base, seconds={**kept, **own})


def _without_families(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in seconds.items() if not name.startswith("train.")}


def _middle_group(world: World) -> NDArray[np.int64]:
    """Return the members of the group whose samples are in the middle."""
    groups = [members for members in plan_round(world, 0).groups if len(members)]
    samples = [int(world.population.train_counts(members).sum()) for members in groups]
    return groups[int(np.argsort(samples)[len(samples) // 2])]


def _train_and_sum(world: World, weights: torch.Tensor, members: NDArray[np.int64]) -> dict[str, float]:
    """Return the seconds of training, scoring and summing some clients as a group."""
    watch = LoggingStopwatch()
    keeping = Keeping(world, initial_state(world))
    scored = train_and_score(
        world, weights, ClientTable(), group=0, members=members, round=0, keeping=keeping, watch=watch
    )
    pool = None if world.config.threshold.scope == "group" else scored.scores.credit
    return {**watch.take(), "sum": _seconds(lambda: exclude_and_sum(world, scored, pool))}


def _evaluation(world: World, work: Workload, weights: torch.Tensor) -> dict[str, float]:
    count = min(work.shard, world.feed.num_test)
    inputs, targets = (torch.from_numpy(values).to(world.device) for values in world.feed.test_batch(0, count))
    evaluate(world.model, weights, inputs, targets)
    seconds = _seconds(lambda: evaluate(world.model, weights, inputs, targets))
    return {f"evaluate.{work.family}.flop": seconds / (count * work.sample_flops)}


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _short(value: float) -> float:
    return float(f"{value:.6g}")
