"""A synthetic group of updates and the inlier attacks on it, as plain arithmetic."""

from __future__ import annotations

import numpy as np

HONEST, ATTACKERS, SIZE = 16, 4, 1000


def honest_updates(rng: np.random.Generator, cosine: float = 0.6) -> np.ndarray:
    """Return updates of a common signal and noise, [clients, params], any two with about this cosine."""
    signal = rng.normal(size=SIZE)
    signal /= np.linalg.norm(signal)
    noise = rng.normal(size=(HONEST, SIZE)) * np.sqrt((1 / cosine - 1) / SIZE)
    # Clients differ in how far they get as well: a tenth of their step.
    return (signal + noise) * rng.normal(1.0, 0.1, (HONEST, 1))


def alie(honest: np.ndarray, z: float = 0.25) -> np.ndarray:
    return honest.mean(axis=0) - z * honest.std(axis=0)


def ipm(honest: np.ndarray, epsilon: float = 0.1) -> np.ndarray:
    return -epsilon * honest.mean(axis=0)


def mimic(honest: np.ndarray) -> np.ndarray:
    return honest[0]


def min_max(honest: np.ndarray) -> np.ndarray:
    """Return mean - gamma * std, gamma the largest that stays within the honest clients' own diameter (NDSS 2021)."""
    mean, step = honest.mean(axis=0), honest.std(axis=0)
    diameter = max(np.linalg.norm(honest - row, axis=1).max() for row in honest)
    low, high = 0.0, 100.0
    for _ in range(60):
        gamma = (low + high) / 2
        inside = np.linalg.norm(honest - (mean - gamma * step), axis=1).max() <= diameter
        low, high = (gamma, high) if inside else (low, gamma)
    return mean - low * step


INLIERS = {"alie": alie, "ipm": ipm, "min-max": min_max, "mimic": mimic}


def attacked_group(name: str, seed: int, cosine: float = 0.6, jitter: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return updates [20, params] and who attacks; `jitter` is noise that attackers add, in units of honest noise."""
    rng = np.random.default_rng(seed)
    honest = honest_updates(rng, cosine)
    forged = np.tile(INLIERS[name](honest), (ATTACKERS, 1))
    forged = forged + jitter * rng.normal(size=forged.shape) * np.sqrt((1 / cosine - 1) / SIZE)
    return np.vstack([honest, forged]).astype(np.float32), np.arange(HONEST + ATTACKERS) >= HONEST


def area_under_curve(scores: np.ndarray, bad: np.ndarray) -> float:
    """Return the chance that an attacker scores above an honest client; a tie counts half."""
    above = scores[bad][:, None] - scores[~bad][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())
