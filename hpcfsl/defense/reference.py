"""The whole defence of a round, slow and obvious: from first model updates to the target update (P2 steps 3 to 8).

Plain numpy in float64, one process, nothing shared with the code it checks; the `model` reading, no memory of earlier
rounds. Read it to learn the method; `tests/defense/test_reference.py` holds the fast code equal to it for every preset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def target_update(
    updates: Vector,
    samples: NDArray[np.int64],
    groups: Sequence[NDArray[np.int64]],
    method: Mapping[str, Mapping[str, Any]],
) -> Vector | None:
    """Return the target update of the global model, [params], or None where no group has an update.

    Args:
        updates: First model updates, [clients, params]; rows may hold NaN or infinity.
        samples: Training samples, [clients].
        groups: Rows of the clients of each group.
        method: The sections of the method as plain tables, as in a resolved configuration.
    """
    scores = [credit_scores(method["score"]["rule"], updates[group]) for group in groups]
    pool = np.concatenate(scores) if method["threshold"]["scope"] == "pooled" else None
    sums, masses = [], []
    for group, score in zip(groups, scores, strict=True):
        kept = keep(method["threshold"], score, score if pool is None else pool)
        if kept.any() and kept.sum() >= method["groups"]["min_survivors"]:
            total = second_update(method, updates[group], samples[group], score, kept)
            if np.isfinite(total).all():
                sums.append(total)
                masses.append(float(samples[group][kept].sum()))
    return across_groups(method["global_aggregation"], np.array(sums), np.array(masses)) if sums else None


def credit_scores(rule: str, updates: Vector) -> Vector:
    """Return the credit scores of one group, [clients]: higher is more suspicious."""
    finite = np.isfinite(updates).all(axis=1)
    scores, rows = np.where(finite, 1.0, np.inf), updates[finite]
    if len(rows) < 2 or rule == "none":
        return scores
    center = np.median(rows, axis=0)
    distance = over_median(np.linalg.norm(rows - center, axis=1))
    if rule == "distance":
        scores[finite] = distance
        return scores
    norms = np.linalg.norm(rows, axis=1)
    direction = over_median(1 - rows @ center / (norms * np.linalg.norm(center)))
    length = np.maximum(over_median(norms), 1 / over_median(norms))
    pairs = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    nearest = np.sort(pairs, axis=1)[:, 1]
    usual = np.median(nearest)
    alike = usual / np.maximum(nearest, usual / 1e6) if usual > 0 else np.ones(len(rows))
    scores[finite] = np.max([over_median(part) for part in (distance, direction, length, alike)], axis=0)
    return scores


def over_median(values: Vector) -> Vector:
    """Return values as multiples of their median, at most a million; over a median of 0 zeros are 1."""
    if np.median(values) == 0:
        return np.where(values > 0, 1e6, 1.0)
    return np.asarray(np.minimum(values / np.median(values), 1e6))


def keep(threshold: Mapping[str, Any], scores: Vector, pool: Vector) -> NDArray[np.bool_]:
    """Return who is not excluded, [clients]: scores not above the threshold, raised to spare enough clients."""
    own, seen, tau = np.sort(scores[np.isfinite(scores)]), pool[np.isfinite(pool)], np.inf
    if len(own) > 2 and threshold["rule"] == "mad":
        middle = np.median(seen)
        tau = middle + threshold["k"] * 1.4826 * max(np.median(abs(seen - middle)), threshold["floor"] * middle)
    if len(own) > 2 and threshold["rule"] == "mean-std":
        tau = seen.mean() + threshold["k"] * seen.std()
    while threshold["max_excluded"] < 1 and any(own > tau) and np.mean(own > tau) >= threshold["max_excluded"]:
        tau = own[own > tau][0]
    return np.isfinite(scores) & (scores <= tau)


def second_update(
    method: Mapping[str, Mapping[str, Any]],
    updates: Vector,
    samples: NDArray[np.int64],
    scores: Vector,
    kept: NDArray[np.bool_],
) -> Vector:
    """Return the second model update of one group, [params]: every remaining client's step divided by its `c_i`."""
    counted = kept if method["bounds"]["sum_over"] == "survivors" else np.isfinite(scores)
    influence = np.ones(len(scores))
    if method["influence"]["rule"] == "norm":
        norms = np.linalg.norm(updates[counted], axis=1)
        influence[counted] = np.maximum(1.0, norms / np.median(norms))
    products = np.where(counted, influence * np.where(counted, scores, 0.0), 0.0)
    shares = products[kept] / products.sum()
    rule = method["normalisation"]
    factor = kept.sum() if rule["rule"] == "survivors" else rule["value"]
    coefficients = np.clip(shares * factor, max(method["bounds"]["lower"], 1e-30), method["bounds"]["upper"])
    steps = samples[kept] / samples[kept].sum() / coefficients
    total: Vector = sum(step * update for step, update in zip(steps, updates[kept], strict=True))
    with np.errstate(over="ignore"):  # without bounds a step may be enormous; the group then withholds its update
        return total.astype(np.float32).astype(np.float64)  # what a group sends is float32


def across_groups(rule: Mapping[str, Any], points: Vector, masses: Vector) -> Vector:
    """Return the weighted mean or the geometric median (Weiszfeld's iteration) of the groups' updates, [params]."""
    masses = np.ones(len(points)) if rule["masses"] == "equal" else masses
    weights = masses = masses / masses.sum()
    if rule["rule"] == "geometric-median":
        spread = np.max(((points[:, None] - points[None]) ** 2).sum(axis=2))
        for _ in range(rule["max_iterations"]):
            distances = np.sqrt(((points - weights @ points) ** 2).sum(axis=1) + 1e-12 * spread + 1e-300)
            before, weights = weights, masses / distances / (masses / distances).sum()
            if abs(weights - before).max() < rule["tolerance"]:
                break
    return np.asarray(weights @ points)
