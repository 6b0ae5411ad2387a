"""Scoring: one credit score a client from its first model update (P2 step 3; section `[score]`).

A credit score is at least 0, and **higher is more suspicious**: P6 excludes clients above a threshold.
"""

from hpcfsl.defense.scoring import components, composite, no_score, spectral
from hpcfsl.defense.scoring.evidence import Evidence, collect_evidence
from hpcfsl.defense.scoring.score import Score, Scores, scores

__all__ = [
    "Evidence",
    "Score",
    "Scores",
    "collect_evidence",
    "components",
    "composite",
    "no_score",
    "scores",
    "spectral",
]
