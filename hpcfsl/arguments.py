"""What commands of `hpcfsl` have in common: kinds of paths, and options that many of them take. Layer 4."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)

with_overrides = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting."
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
