"""No compression: the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hpcfsl.training.compression.compression import Compression, compressions

if TYPE_CHECKING:
    from hpcfsl.models.link import Link


@compressions.register
class NoCompression(Compression):
    """Smashed data and cut gradients cross as they are, in float32."""

    rule: Literal["none"] = "none"

    @property
    def is_on(self) -> bool:
        """False."""
        return False

    def link(self) -> Link:
        """Return a plain link."""
        from hpcfsl.models.link import Link

        return Link()
