"""Simulated attackers: what they do to their data, to their smashed data and to their uploads. Layer 2.

Every threat is one file with one registration (section `[threat]`). The truth (who attacks) is recorded in the trace
and never shown to the defence.
"""

from hpcfsl.threats import (
    collusion,
    feature_noise,
    label_flip,
    no_threat,
    non_finite,
    sign_flip,
    smashed_noise,
    smashed_non_finite,
    smashed_shift,
)
from hpcfsl.threats.threat import OwnData, Targets, Threat, View, threats

__all__ = [
    "OwnData",
    "Targets",
    "Threat",
    "View",
    "collusion",
    "feature_noise",
    "label_flip",
    "no_threat",
    "non_finite",
    "sign_flip",
    "smashed_noise",
    "smashed_non_finite",
    "smashed_shift",
    "threats",
]
