"""Numbers of 16 bits: half the bytes, 11 significant bits.

As in mixed-precision training (Micikevicius et al., ICLR 2018), without its loss scale: numbers below 6e-8 become 0,
which matters for gradients of large batches, and finite numbers above 65504 become that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hpcfsl.training.compression.compression import Compression, compressions

if TYPE_CHECKING:
    from torch import Tensor

    from hpcfsl.models.link import Link

LARGEST = 65504.0
"""The largest finite number of 16 bits."""


class HalfCode:
    """IEEE 754 binary16, to the nearest, ties to even."""

    def decoded(self, values: Tensor) -> Tensor:
        """Return the values [samples, features] rounded to 16 bits; NaN and infinities stay."""
        return values.where(values.isinf(), values.clamp(-LARGEST, LARGEST)).half().float()

    def bytes(self, features: int) -> int:
        """Return two a number."""
        return 2 * features


@compressions.register
class HalfPrecision(Compression):
    """Numbers of 16 bits: half the bytes at an error of at most 0.05 % a number."""

    rule: Literal["fp16"] = "fp16"
    gradients: bool = True
    """Cut gradients have 16 bits too; if false they stay float32."""

    def link(self) -> Link:
        """Return a link of 16-bit numbers."""
        from hpcfsl.training.compression.codes import CodedLink

        return CodedLink(HalfCode(), gradients=self.gradients)
