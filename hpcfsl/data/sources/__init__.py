"""The data sets a run can train on. One file a source; `sources` is the registry.

| choose | when |
|---|---|
| `digits` | trying things out, tests: small, real, with natural clients, no download |
| `fashion-mnist` | an image data set that others use too, or any other of MNIST's family |
| `npz` | your own data, as arrays |
| `synthetic` | benchmarks of any shape and size |

A source outside this tree subclasses `Source`, and its package names it in the entry point group `hpcfsl.data`.
"""

from __future__ import annotations

from hpcfsl.data.sources import arrays, digits, fashion_mnist, synthetic
from hpcfsl.data.sources.base import Source, sources

__all__ = ["Source", "arrays", "digits", "fashion_mnist", "sources", "synthetic"]
