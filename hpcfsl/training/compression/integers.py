"""Whole numbers of 8 bits with a scale a sample: about a quarter of the bytes.

Uniform quantisation whose zero is exact, as for integer inference (Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", CVPR 2018), rounded to the nearest: nothing is random. A
sample without a negative number, as after a ReLU, uses all 255 steps above zero; any other 127 on either side. The sign
of the scale says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hpcfsl.training.compression.compression import Compression, compressions

if TYPE_CHECKING:
    from torch import Tensor

    from hpcfsl.models.link import Link

SCALE_BYTES = 4
"""Bytes of a sample's scale, float32."""

LEAST = 2.0**-126
"""The least scale: the smallest float32 of full precision. A sample without larger numbers than its multiples is 0."""


class ByteCode:
    """Multiples of a sample's own scale."""

    def scale(self, values: Tensor) -> Tensor:
        """Return each sample's scale, float32 [samples, 1], of values [samples, features]."""
        steps = (values.amin(dim=1, keepdim=True) < 0).float() * (127.0 - 255.0) + 255.0
        scale = values.abs().amax(dim=1, keepdim=True) / steps
        return scale * ~(scale < LEAST)

    def decoded(self, values: Tensor) -> Tensor:
        """Return the nearest multiples of the scales; a sample with a NaN or an infinity becomes NaN."""
        scale = self.scale(values)
        # Where the scale is 0 any divisor will do.
        return (values / scale.where(scale != 0, scale + 1.0)).round() * scale

    def bytes(self, features: int) -> int:
        """Return one a number and those of the scale."""
        return features + SCALE_BYTES


@compressions.register
class Integers(Compression):
    """Whole numbers of 8 bits with a scale a sample: about a quarter of the bytes."""

    rule: Literal["int8"] = "int8"
    gradients: bool = True
    """Cut gradients have 8 bits too; if false they stay float32."""

    def link(self) -> Link:
        """Return a link of 8-bit numbers."""
        from hpcfsl.training.compression.codes import CodedLink

        return CodedLink(ByteCode(), gradients=self.gradients)
