"""One self-contained HTML page about one or several runs.

Layer 4. It reads traces only, so it works on a laptop without torch and without MPI; matplotlib and jinja2 are imported
when a page is made.
"""

from __future__ import annotations

from hpcfsl.report.page import render

__all__ = ["render"]
