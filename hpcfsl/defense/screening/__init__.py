"""Screening: whose smashed data a shared server half trains on (section `[screening]`).

Where a group's clients share one server half, it learns from an attacker before anybody is scored. Screening judges the
smashed data themselves, before the server's first step of the round.
"""

from hpcfsl.defense.screening import centroids, distance, no_screening
from hpcfsl.defense.screening.screening import FirstPass, Screened, Screening, screen, screenings

__all__ = [
    "FirstPass",
    "Screened",
    "Screening",
    "centroids",
    "distance",
    "no_screening",
    "screen",
    "screenings",
]
