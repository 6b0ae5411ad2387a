"""Weighting: scaling coefficients and target update weights (P3 to P5; P2 steps 5 and 6).

Sections: `[influence]`, `[normalisation]`, `[bounds]` and `[weights]`.
"""

from hpcfsl.defense.weighting import aggregation_reading, influence, model_reading, normalisation
from hpcfsl.defense.weighting.reading import Reading, Survivors, TargetWeights, choose_rows, readings
from hpcfsl.defense.weighting.scaling import Bounds, Scaling, scale

__all__ = [
    "Bounds",
    "Reading",
    "Scaling",
    "Survivors",
    "TargetWeights",
    "aggregation_reading",
    "choose_rows",
    "influence",
    "model_reading",
    "normalisation",
    "readings",
    "scale",
]
