"""The commands `submit`, `sweep` and `sweep-table`: nothing but parsing and calling; `hpcfsl.cli` enters them.

Everything they call is imported when a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcfsl.arguments import FILE, FOLDER, with_overrides
from hpcfsl.errors import UserError, one_line

if TYPE_CHECKING:
    from hpcfsl.cluster.array import Runs

_CLUSTER_OPTIONS = (
    click.option("--nodes", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Nodes of the job."),
    click.option("--ranks-per-node", type=click.IntRange(1, 65536), help="Default: one a GPU, else what fits a node."),
    click.option("--site", metavar="FILE|NAME", help="What the cluster is like: a file, or one of jobs/sites."),
    click.option("--time", metavar="H:MM:SS", help="Time limit of the job; a run that is not done goes on after it."),
    click.option("--partition", metavar="NAME", help="Queue."),
    click.option("--account", metavar="NAME", help="Project that pays."),
    click.option("--qos", metavar="NAME", help="Quality of service."),
    click.option("--mail", metavar="ADDRESS", help="Write there when the job ends or fails."),
    click.option("--gpus-per-node", type=click.IntRange(0, 64), help="GPUs to ask for on each node."),
    click.option("--signal-seconds", type=click.IntRange(10, 7200), help="Warn the run so long before the limit."),
    click.option("--no-requeue", is_flag=True, help="Do not go back into the queue when the time is up."),
    click.option("--no-check", "check", flag_value=False, default=True, help="Build no data and no model here first."),
    click.option("--dry-run", is_flag=True, help="Print what would be submitted; submit and write nothing."),
)


def _on_a_cluster(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_CLUSTER_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("config", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Run folder; a folder that holds this run continues it.")
@with_overrides
@_on_a_cluster
@click.option("--array", type=click.IntRange(2, 10_000), help="Where requeueing is forbidden: so many jobs in a row.")
def submit(
    config: Path, out: Path, overrides: tuple[str, ...], site: str | None, check: bool, dry_run: bool, **request: Any
) -> None:
    """Run a configuration as a Slurm job, which goes back into the queue until the run is finished.

    The job gets a copy of the configuration: what is edited later does not reach it. The same command again, once the
    job is gone, continues the run.
    """
    from hpcfsl.cluster.job import Request
    from hpcfsl.cluster.site import load_site
    from hpcfsl.cluster.submit import plan_run
    from hpcfsl.cluster.submit import submit as hand_over
    from hpcfsl.config import load

    plan = plan_run(load(config, overrides), out, load_site(site), Request(**request), measure=check)
    _warn(plan.warnings)
    click.echo(plan.script if dry_run else f"submitted job {hand_over(plan)}: {out}\n", nl=False)


@click.command()
@click.argument("sweep", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Folder of the sweep; only runs that are left are done.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting of all.")
@click.option("--local", is_flag=True, help="Run here, one after the other, and not under Slurm.")
@click.option(
    "--at-once", type=click.IntRange(min=1), help="Runs at the same time; else what the cluster has room for."
)
@_on_a_cluster
def sweep(
    sweep: Path, out: Path, overrides: tuple[str, ...], local: bool, check: bool, dry_run: bool, **options: Any
) -> None:
    """Run every combination of settings and seeds of a sweep file: a Slurm job array, or here with --local.

    The same command again only does what is not finished. `hpcfsl sweep-table FOLDER` prints what came out.
    """
    from hpcfsl.cluster import array
    from hpcfsl.cluster.sweep import read_sweep

    runs = array.look(read_sweep(sweep, overrides), out)
    _warn(runs.warnings)
    click.echo(f"{len(runs.members)} runs: {runs.counts()}", err=True)
    if check:
        array.check_settings(runs)
    if local:
        _sweep_here(runs, dry_run, **options)
    elif runs.left:
        _sweep_array(runs, dry_run, **options)


def _sweep_here(runs: Runs, dry_run: bool, ranks_per_node: int | None, nodes: int, **of_jobs: Any) -> None:
    from hpcfsl.cluster.array import run_here

    for name, value in {"nodes": nodes if nodes > 1 else None, **of_jobs}.items():
        if value:
            raise UserError(f"--{name.replace('_', '-')}: is for Slurm jobs, and --local starts none; leave one out")
    if dry_run:
        click.echo("".join(f"{runs.members[place].name}\n" for place in runs.left), nl=False)
        return
    program = (sys.executable, "-m", "hpcfsl")
    failed = run_here(runs, program, ranks_per_node or 1, lambda text: click.echo(text, err=True))
    if failed:
        click.echo(f"hpcfsl: {len(failed)} runs did not finish: {', '.join(failed)}", err=True)
        sys.exit(1)


def _sweep_array(runs: Runs, dry_run: bool, site: str | None, at_once: int | None, **request: Any) -> None:
    from hpcfsl.cluster.array import plan_array, submit_array
    from hpcfsl.cluster.job import Request
    from hpcfsl.cluster.site import load_site

    script, warnings = plan_array(runs, load_site(site), Request(**request), at_once)
    _warn(warnings)
    click.echo(script if dry_run else f"submitted job {submit_array(runs, script)}: {len(runs.left)} runs\n", nl=False)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--csv", "path", type=FILE, help="Write one line a run to this file.")
@click.option("--metric", "metrics", multiple=True, metavar="[POPULATION:]METRIC", help="Show this one; give several.")
def sweep_table(folder: Path, path: Path | None, metrics: tuple[str, ...]) -> None:
    """Print what came out of a sweep: mean and standard deviation over seeds, and runs that are not finished.

    `--metric rmse --metric held-out-clients:rmse --metric naive:rmse` chooses columns by the names of the table
    `metrics` of a trace; a metric without a population is that of the global test set.
    """
    from hpcfsl.cluster.results import measures, print_table, problems, read_rows, write_csv
    from hpcfsl.trace.folder import folder_errors

    shown = measures(metrics)
    rows = read_rows(folder, shown)
    if path is not None:
        with folder_errors(path), path.open("w", encoding="utf-8", newline="") as stream:
            write_csv(rows, stream, shown)
    print_table(rows, shown)
    for line in problems(rows):
        click.echo(line)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"hpcfsl: warning: {one_line(warning)}", err=True)
