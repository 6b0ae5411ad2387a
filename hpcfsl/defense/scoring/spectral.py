"""A spectral score after DnC (Shejwalkar and Houmansadr, NDSS 2021): colluders stretch the cloud in one direction.

Unlike DnC, all coordinates take part (the Gram matrix of a group is small, whatever the model), and the squared
projection is a score, not a filter. Choose it against many colluders in large groups.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.defense.scoring.evidence import Evidence
from hpcfsl.defense.scoring.score import Score, over_median, scores


@scores.register
class SpectralScore(Score):
    """Squared projection on the principal direction of the centred updates, over its median."""

    rule: Literal["spectral"] = "spectral"

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return projection ratios, [clients, 1]."""
        gram = evidence.gram
        centred = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
        values, vectors = np.linalg.eigh(centred)
        # Projections of the rows on the top right singular vector are the top left one times the singular value.
        return over_median(np.maximum(values[-1], 0.0) * vectors[:, -1] ** 2)[:, None]
