"""The data sets a run can train on. One file a source; `sources` is the registry.

A source outside this tree subclasses `Source`, and its package names it in the entry point group `hpcfsl.data`.
"""

from __future__ import annotations

from hpcfsl.data.sources import digits
from hpcfsl.data.sources.base import Source, sources

__all__ = ["Source", "digits", "sources"]
