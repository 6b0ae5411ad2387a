"""The seam for compressions: what crosses the cut in the place of float32 numbers, and how many bytes it takes.

A compression loses something for good: what the server's half sees in training it sees in testing too. Every sample is
coded by itself, so that who trains beside whom changes nothing, and by a rule without random numbers. Choose `fp16`
first (half the bytes, hardly an error), then `int8` (a quarter), then `top-k` (as few as the model bears).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcfsl.settings import Registry, Settings

if TYPE_CHECKING:
    from hpcfsl.models.link import Link


class Compression(Settings):
    """A compression. Subclasses add `rule: Literal["its-name"] = "its-name"`."""

    rule: str

    @property
    def is_on(self) -> bool:
        """Whether anything is compressed at all."""
        return True

    def link(self) -> Link:
        """Return what lies between the halves of the model."""
        raise AssertionError("every compression makes its link")


compressions: Registry[Compression] = Registry("compression", default="none")
