"""Puts a page together and writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcfsl.errors import UserError, one_line
from hpcfsl.report import curves, detection, groups, losses, overview, quality, timing, traffic, weights
from hpcfsl.report.view import View, views
from hpcfsl.trace.folder import folder_errors, write_atomic

if TYPE_CHECKING:
    from hpcfsl.trace.reader import Run

_NEEDS = ("matplotlib", "jinja2")


@dataclass(frozen=True, kw_only=True)
class _Details:
    """What the foot of the page says about a run."""

    label: str
    config: str
    provenance: str


def render(runs: Sequence[Run], out: Path) -> Path:
    """Write one self-contained HTML page about `runs` and return its path.

    The page loads nothing and runs nothing: it can be mailed, archived or opened where there is no network.

    Args:
        runs: Runs, finished or not; several are drawn into the same curves.
        out: The file to write; its folder is made where there is none.

    Raises:
        UserError: There is no run, or matplotlib or jinja2 is missing.
        RunFolderError: A run is damaged, or `out` cannot be written.
    """
    if not runs:
        raise UserError("report: no run was given; name at least one run folder")
    for name in _NEEDS:
        _require(name)
    text = _page(views(runs))
    out = Path(out)
    with folder_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text.encode())
    return out


def _page(shown: list[View]) -> str:
    lossy = (losses,) if losses.is_wanted(shown) else ()
    parts = (overview, curves, quality, *lossy, detection, weights, groups, traffic, timing)
    sections = [part.section(shown) for part in parts]
    text: str = _template().render(
        labels=[view.label for view in shown],
        cards=[overview.cards(view) for view in shown],
        sections=sections,
        details=[_details(view) for view in shown],
        versions={name: version(name) for name in ("hpcfsl", *_NEEDS)},
        style=_resource("style.css"),
    )
    return text


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html.j2"))


def _details(view: View) -> _Details:
    return _Details(
        label=view.label,
        config=view.run.config_text,
        provenance=json.dumps(view.run.provenance, indent=2, ensure_ascii=False),
    )


def _resource(name: str) -> str:
    return (files("hpcfsl.report") / name).read_text("utf-8")


def _require(name: str) -> None:
    try:
        import_module(name)
    except ImportError as error:
        fix = "install it with pip install 'hpcfsl[report]'"
        raise UserError(one_line(f"report: {name} cannot be imported ({error}); {fix}")) from error
