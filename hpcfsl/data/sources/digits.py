"""Handwritten digits: 1797 images of 8 x 8, 10 classes, 14 natural clients; no download.

Source: `sklearn.datasets.load_digits`, the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, UCI, 1998). The samples come in 14 writers' forms, found from the repeated order of the labels, so a federated
run has clients that really differ. Choose it to try things out and for tests: a round takes milliseconds.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.errors import DataError

FORM_STARTS = (0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667)
NUM_SAMPLES = 1797


@sources.register
class Digits(Source):
    """scikit-learn's handwritten digits, one natural client for each of 14 writers' forms."""

    source: Literal["digits"] = "digits"
    """The handwritten digits that scikit-learn carries: 1797 images of 8 x 8, 14 natural clients."""

    def load(self, seed: int) -> Dataset:
        """Return the digits, uint8 [1797, 1, 8, 8] with values 0 .. 16; `seed` changes nothing."""
        pixels, labels = _read()
        if len(pixels) != NUM_SAMPLES:
            raise DataError(f"data set digits: {len(pixels)} samples, not {NUM_SAMPLES}; reinstall scikit-learn")
        return Dataset(
            name="digits",
            inputs=pixels.astype(np.uint8)[:, None],
            targets=labels.astype(np.int64),
            owners=np.searchsorted(FORM_STARTS, np.arange(NUM_SAMPLES), side="right") - 1,
            num_classes=10,
            test_inputs=None,
            test_targets=None,
        )


def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("data.source = 'digits': scikit-learn is missing; run: pip install 'hpcfsl[data]'") from None
    bunch = load_digits()
    return bunch.images, bunch.target
