"""The command line: parses, calls, and turns a user's mistake into one line and exit status 2.

Layer 5. Everything it calls is imported when a command needs it, so `hpcfsl inspect` starts without torch and MPI.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcfsl.arguments import FILE, FOLDER, with_json, with_overrides
from hpcfsl.cluster.commands import submit, sweep, sweep_table
from hpcfsl.describe.commands import count_bytes, data, models
from hpcfsl.errors import UserError, one_line

if TYPE_CHECKING:
    from hpcfsl.trace.reader import Run


class Commands(click.Group):
    """The command group that prints a `UserError` as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit with status 2 on a user's mistake."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"hpcfsl: {one_line(str(error))}", err=True)
            sys.exit(2)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output left: `hpcfsl table RUN | head`
            sys.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpcfsl")
def main() -> None:
    """Secure federated split learning, simulated on HPC clusters."""


@main.command()
@click.argument("config", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Run folder; a folder that holds this run continues it.")
@with_overrides
def run(config: Path, out: Path, overrides: tuple[str, ...]) -> None:
    """Train: alone, or on every rank of `mpirun -n N hpcfsl run ...`.

    The same command again continues a run that was cut off.
    """
    from hpcfsl.launch import launch

    sys.exit(launch(config, out, overrides))


@main.command()
@click.argument("config", type=FILE)
@with_overrides
@click.option("--ranks", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Ranks of the run.")
@click.option("--ranks-per-node", type=click.IntRange(min=1), help="On a cluster; without, all share this machine.")
@click.option("--out", type=FOLDER, default=".", help="A folder on the disk that the run will write to.")
@click.option("--no-measure", is_flag=True, help="Train nothing: take --gflops for the speed of a core.")
@click.option(
    "--gflops", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="See above."
)
@with_json
def estimate(config: Path, overrides: tuple[str, ...], as_json: bool, no_measure: bool, **request: Any) -> None:
    """Say what a run will take before it is run: time, memory, files, bytes over the network.

    Trains a few clients for a couple of seconds to know this machine's speed.
    """
    from hpcfsl.config import load
    from hpcfsl.scaling.estimate import Request
    from hpcfsl.scaling.estimate import estimate as predict
    from hpcfsl.scaling.screen import print_estimate

    found = predict(load(config, overrides), Request(measure=not no_measure, **request))
    if as_json:
        click.echo(json.dumps(found.tree(), indent=2))
    else:
        print_estimate(found, config.name)


@main.command()
@click.argument("config", type=FILE)
@with_overrides
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many, from run.seed on.")
@click.option(
    "--passes", type=click.IntRange(min=0), default=0, help="Over the samples; without, as many as the run's."
)
@click.option("--clients", type=click.IntRange(min=0), default=0, help="Train so many alone; without, all.")
@with_json
def bounds(config: Path, overrides: tuple[str, ...], as_json: bool, **request: int) -> None:
    """Train the model on all clients' samples at once, and on each client's alone: what a run lies between.

    With the local steps of the configuration; a naive baseline beside them. Writes nothing.
    """
    from hpcfsl.bounds.find import Request, find_bounds
    from hpcfsl.bounds.screen import print_bounds, tree
    from hpcfsl.config import load

    found = find_bounds(load(config, overrides), Request(**request))
    if as_json:
        click.echo(json.dumps(tree(found), indent=2))
    else:
        print_bounds(found, config.name)


@main.command()
@click.argument("folder", type=FOLDER)
@with_json
def inspect(folder: Path, as_json: bool) -> None:
    """Say what ran, where, how it ended and what came out; check every file."""
    from hpcfsl.display import print_summary
    from hpcfsl.trace.inspect import summary

    opened = _open(folder)
    if as_json:
        click.echo(json.dumps(summary(opened), indent=2))
    else:
        print_summary(opened)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Say it once and leave.")
@click.option("--wait", is_flag=True, help="Stay while the run is stopped: its job may be queued again.")
def watch(folder: Path, interval: float, once: bool, wait: bool) -> None:
    """Show the progress of a run that goes on elsewhere; exit 0 finished, 1 failed, 3 stopped."""
    from hpcfsl.watch import watch as show

    sys.exit(show(folder, interval=interval, once=once, wait=wait))


@main.command()
@click.argument("folder", type=FOLDER)
def digest(folder: Path) -> None:
    """Print one sha256 over everything deterministic: equal runs have equal digests."""
    from hpcfsl.trace.digest import digest as digest_of

    click.echo(digest_of(_open(folder)))


@main.command()
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
@click.option("--rtol", type=click.FloatRange(min=0), default=0.0, help="Relative tolerance of floating point values.")
def compare(first: Path, second: Path, rtol: float) -> None:
    """Exit with 0 if two runs are equal, else name the first difference and exit with 1."""
    from hpcfsl.trace.compare import compare as compare_runs

    difference = compare_runs(_open(first), _open(second), rtol=rtol)
    click.echo("equal" if difference is None else difference.text)
    sys.exit(0 if difference is None else 1)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--what", default="participation", help="The table; `participation` has one row a client a round.")
@click.option("--csv", "path", type=FILE, help="Write to this file instead of standard output.")
def table(folder: Path, what: str, path: Path | None) -> None:
    """Write a table of the trace as CSV, for a spreadsheet or pandas."""
    from hpcfsl.settings import suggest
    from hpcfsl.trace.folder import folder_errors
    from hpcfsl.trace.schema import TABLES
    from hpcfsl.trace.table import write_csv

    if what not in TABLES:
        raise UserError(f"--what {what}: {suggest(what, list(TABLES))}")
    opened = _open(folder)
    if path is None:
        write_csv(opened, what, sys.stdout)
        return
    with folder_errors(path), path.open("w", encoding="utf-8", newline="") as stream:
        write_csv(opened, what, stream)


@main.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The HTML file to write.")
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Write one self-contained HTML page over one or several runs."""
    from hpcfsl.report import render

    click.echo(render([_open(folder) for folder in folders], out))


@main.command()
@click.option("--out", type=FILE, help="Write to this file instead of standard output.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of configuration files, so that editors can complete and check them."""
    from hpcfsl.config import json_schema
    from hpcfsl.trace.folder import write_atomic

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())


@main.command()
@click.argument("results", nargs=-1, type=FILE)
@click.option("--workload", "workloads", multiple=True, metavar="NAME", help="What to measure; again for more.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(["pfl", "flower"]), help="Whom to compare with.")
@click.option("--pfl-python", metavar="PATH", help="The Python of an environment that has pfl.")
@click.option("--pfl-plans", default="1x1,1x2,2x1", show_default=True, help="Processes x threads of pfl.")
@click.option("--flower-python", metavar="PATH", help="The Python of an environment that has Flower.")
@click.option("--ranks", default="1,2", show_default=True, help="Numbers of ranks of ours.")
@click.option("--variant", "variants", multiple=True, metavar="NAME:SECTION.KEY=VALUE,...", help="Compare settings.")
@click.option("--pair", is_flag=True, help="Ranks against as many runs of one rank each, started together.")
@click.option("--method", is_flag=True, help="The whole method against plain averaging.")
@click.option("--layers", is_flag=True, help="The native engine's time for each layer.")
@click.option("--overheads", is_flag=True, help="The exact sum against float32; trace and checkpoint in a round.")
@click.option(
    "--sizes", default="1e4,1e6,1e7,1e8", show_default=True, help="With --overheads: parameters that are summed."
)
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="Turns of everybody.")
@click.option("--seconds", type=click.FloatRange(0, 3600), default=4.0, show_default=True, help="Time rounds so long.")
@click.option("--cohort", type=click.IntRange(min=0), default=0, help="Clients in a round, not the workload's number.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting of ours.")
@click.option("--json", "out", type=FILE, help="Write everything measured to this file.")
@click.option("--markdown", is_flag=True, help="Measure nothing: print RESULTS, files of --json, as Markdown.")
@click.option("--scaling", is_flag=True, help="Fit the cost model on 1 to 8 ranks and draw its scaling curves.")
@click.option("--out", "folder", type=FOLDER, help="With --scaling: write scaling.md and scaling.png to this folder.")
def bench(
    results: tuple[Path, ...], markdown: bool, out: Path | None, scaling: bool, folder: Path | None, **choice: Any
) -> None:
    """Measure speed, memory and the cost of the method, beside other simulators."""
    from hpcfsl.bench.choice import read_choice
    from hpcfsl.bench.command import bench as measure
    from hpcfsl.bench.command import print_markdown

    if folder is not None and not scaling:
        raise UserError(f"--out {folder}: goes with --scaling; --json names a file for other results")
    if scaling:
        from hpcfsl.scaling.command import Choice, bench_scaling

        bench_scaling(Choice(out=folder, json=out))
    elif markdown:
        print_markdown(results)
    elif results:
        raise UserError(f"{results[0]}: files of results go with --markdown, which measures nothing")
    else:
        measure(read_choice(**choice), out)


@main.command()
@click.argument("config", type=FILE, required=False)
@click.option("--out", required=True, type=FILE, help="The table; entries for other models that it has are kept.")
@click.option("--turns", type=click.IntRange(1, 1000), default=5, show_default=True, help="Measurements of each.")
def calibrate(config: Path | None, out: Path, turns: int) -> None:
    """Measure which executor is the fastest for a model on this machine; training.table names the result.

    Without CONFIG, the models of the benchmarks.
    """
    from hpcfsl.bench.calibrate import calibrate as measure

    measure(config, out, turns=turns, say=click.echo)


for command in (submit, sweep, sweep_table, models, data, count_bytes):
    main.add_command(command)


@main.command()
def info() -> None:
    """Say which versions, MPI library, devices and compiled kernels a run would use."""
    from hpcfsl.launch import describe_machine

    for name, value in describe_machine().items():
        click.echo(f"{name:12} {value}")


def _open(folder: Path) -> Run:
    from hpcfsl.trace.reader import open as open_run

    return open_run(folder)
