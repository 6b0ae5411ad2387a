"""hpcfsl: secure federated split learning, simulated on HPC clusters.

`hpcfsl.run` runs a simulation from Python, `hpcfsl.open` reads what it recorded. Both load what they need on first use:
reading traces takes neither torch nor MPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcfsl.api import run
    from hpcfsl.trace.reader import Run, open

__all__ = ["Run", "__version__", "open", "run"]

_HOMES = {"run": "hpcfsl.api", "open": "hpcfsl.trace.reader", "Run": "hpcfsl.trace.reader"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hpcfsl")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcfsl' has no attribute {name!r}")
