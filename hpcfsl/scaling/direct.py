"""Rates that a run on a few ranks is too small to show, measured by calling the program's own functions.

Layer 4. With a thousand groups the distances between all of them are work of their own; with 32 they drown in the rest.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from hpcfsl.aggregate.exact import exact_sum
from hpcfsl.aggregate.geometry import BLOCK, Slices, pair_distances
from hpcfsl.aggregate.rules import GeometricMedian
from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.round import plan_round
from hpcfsl.scaling.design import DESIGN
from hpcfsl.scaling.network import Amounts
from hpcfsl.scaling.nnls import least_errors
from hpcfsl.world import build_world

_GROUPS = (16, 48, 128)
_REPEATS = 3
_PARTS = 16  # blocks of a rank
_PLANNED = 3  # settings whose rounds are planned


def measure_directly() -> dict[str, float]:
    """Return the seconds of `object`, `plan` and those `geometry` amounts that grow with the square of the groups."""
    torch.set_num_threads(1)
    found = {"object": _object_seconds(), **_distance_rates(), **_median_rates(), **_plan_rates()}
    # Their constant parts are seen in any run, with the memory traffic that a repeated call does not have.
    return {name: value for name, value in found.items() if name not in ("geometry.round", "geometry.element")}


def seconds_of(action: Callable[[], object]) -> float:
    """Return the least seconds of a few calls; the first call is not counted."""
    action()
    found = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


def _object_seconds() -> float:
    """Return what unpacking one rank's part of a gathered list takes."""
    part = [(number, np.zeros(10), np.zeros(10), np.zeros(10)) for number in range(2)]
    packed = [pickle.dumps(part)] * 100
    return seconds_of(lambda: [pickle.loads(each) for each in packed]) / 100


def _plan_rates() -> dict[str, float]:
    amounts, seconds = [], []
    for setting in DESIGN[:_PLANNED]:
        world = build_world(resolve(setting.tree(1)), SerialCommunicator())
        seconds.append(seconds_of(partial(plan_round, world, 0)))
        amounts.append(Counter({"plan.round": 1.0, "plan.client": float(setting.clients)}))
    return _fitted(amounts, seconds)


def _distance_rates() -> dict[str, float]:
    amounts, seconds = [], []
    for groups in _GROUPS:
        points = torch.randn(groups, BLOCK)
        slices, anchor = Slices(rows=points, start=0, size=BLOCK), torch.zeros(BLOCK)
        seconds.append(seconds_of(partial(pair_distances, slices, anchor, SerialCommunicator())))
        amounts.append(Counter({"geometry.element": float(groups * BLOCK), "geometry.flop": 2.0 * groups**2 * BLOCK}))
    return {**_fitted(amounts, seconds), "geometry.entry": _entry_seconds()}


def _entry_seconds() -> float:
    """Return what a block's part of a distance takes to be added in fixed point."""
    pairs = _GROUPS[-1] * (_GROUPS[-1] + 1) // 2
    parts = list(torch.rand(_PARTS, pairs, dtype=torch.float64))
    add = partial(exact_sum, parts, size=pairs, planned_groups=_PARTS, communicator=SerialCommunicator(), block=1)
    return seconds_of(add) / (_PARTS * pairs)


def _median_rates() -> dict[str, float]:
    """Return the rates of the geometric median of points whose distances are known."""
    amounts: list[Amounts] = []
    seconds = []
    for groups in _GROUPS:
        points = np.random.default_rng(groups).normal(size=(groups, 64)) * np.linspace(0.5, 2, groups)[:, None]
        between = ((points[:, None] - points[None]) ** 2).sum(axis=2)
        distances = np.pad(between, ((0, 1), (0, 1)))
        masses = np.full(groups, 1 / groups)
        seconds.append(seconds_of(partial(GeometricMedian().weigh, masses, distances)))
        amounts.append(Counter({"geometry.round": 1.0, "geometry.pair": float(groups**2)}))
    return _fitted(amounts, seconds)


def _fitted(amounts: list[Amounts], seconds: list[float]) -> dict[str, float]:
    found = np.array(seconds)
    return least_errors(amounts, found, found)
