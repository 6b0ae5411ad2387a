"""Split protocols: which part of the model lives where, and every byte that would cross a wire.

A protocol is one registered settings class in a file of its own; `protocol` is the seam, `wire` the account of bytes.
"""

from __future__ import annotations

from hpcfsl.training.protocols import fedavg, parallel, splitfed_v1, splitfed_v2, splitfed_v3, u_shaped
from hpcfsl.training.protocols.protocol import Protocol, protocols
from hpcfsl.training.protocols.wire import FLOAT_BYTES, LABEL_BYTES, WireBytes

__all__ = [
    "FLOAT_BYTES",
    "LABEL_BYTES",
    "Protocol",
    "WireBytes",
    "fedavg",
    "parallel",
    "protocols",
    "splitfed_v1",
    "splitfed_v2",
    "splitfed_v3",
    "u_shaped",
]
