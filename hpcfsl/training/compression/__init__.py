"""Compression of smashed data on their way up and of cut gradients on their way down (section `[compression]`).

`compression` is the seam, `codes` carries a code over the cut, and one file a rule holds the codes: `half_precision`,
`integers`, `sparse`. What a compression loses is measured: the trace has the smashed data's error on the test set.
"""

from hpcfsl.training.compression import half_precision, integers, no_compression, sparse
from hpcfsl.training.compression.compression import Compression, compressions

__all__ = ["Compression", "compressions", "half_precision", "integers", "no_compression", "sparse"]
