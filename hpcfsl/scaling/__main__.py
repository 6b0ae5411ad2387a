"""`python -m hpcfsl.scaling --out docs`: the same as `hpcfsl bench --scaling`."""

from __future__ import annotations

from pathlib import Path

import click

from hpcfsl.scaling.command import Choice, bench_scaling

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--out", type=FILE, help="Folder for scaling.png and scaling.md.")
@click.option("--json", type=FILE, help="File for all numbers.")
@click.option("--rates", type=FILE, help="File for the fitted rates.")
@click.option("--reuse", type=FILE, help="Use the rates of a file of --json; measure nothing.")
@click.option("--passes", type=click.IntRange(1, 100), default=2, show_default=True, help="Measurements of the design.")
@click.option("--rounds", type=click.IntRange(2, 1000), default=3, show_default=True, help="Timed rounds of a setting.")
def main(out: Path | None, json: Path | None, rates: Path | None, reuse: Path | None, passes: int, rounds: int) -> None:
    """Measure the design, fit the cost model, compare, draw."""
    bench_scaling(Choice(out=out, json=json, rates=rates, reuse=reuse, passes=passes, rounds=rounds))


if __name__ == "__main__":
    main()
