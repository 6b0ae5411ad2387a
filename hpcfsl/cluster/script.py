"""The batch script of a job, from the template job.sh.j2.

Every value is one word to whoever reads it: to bash through `quote`, to sbatch through `header_word`. The template only
puts words together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hpcfsl.cluster.job import Job
from hpcfsl.cluster.words import check_text, header_pattern, header_word, quote, write_time
from hpcfsl.errors import UserError, shorten

# What lies in the run folder (of a sweep: in its folder) for a job.
JOB_FOLDER, CONFIG, SCRIPT, RUNS = "job", "config.toml", "job.sh", "runs.txt"
_MOST_TRIES = 3
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.+=-]+")


def render_run(job: Job, run: Path) -> str:
    """Return the script of a job that runs one configuration.

    Args:
        job: What it asks for.
        run: The run folder, absolute; the configuration is `job/config.toml` in it.

    Raises:
        UserError: A value cannot be written into a script, or jinja2 is missing.
    """
    check_path(job, run)
    array = f"1-{job.array}%1" if job.restart == "array" else ""
    log = "slurm-%A_%a.out" if array else "slurm-%j.out"
    header = header_options(job, name=f"hpcfsl-{run.name}", array=array, log=(run / JOB_FOLDER, log))
    title = f"hpcfsl run on {_size(job)}"
    return _fill(job, title=title, header=header, run=quote(str(run)), runs="")


def render_sweep(job: Job, folder: Path, elements: Sequence[int], at_once: int | None) -> str:
    """Return the script of a job array, one element a run.

    Args:
        job: What each element asks for.
        folder: The sweep's folder, absolute; `job/runs.txt` in it has a run folder a line.
        elements: Lines to run, counted from 1, ascending.
        at_once: Elements that may run at the same time; None for as many as there is room for.

    Raises:
        UserError: As `render_run`.
    """
    check_path(job, folder)
    array = write_ranges(elements) + ("" if at_once is None else f"%{at_once}")
    log = (folder / JOB_FOLDER, "slurm-%A_%a.out")
    header = header_options(job, name=f"hpcfsl-{folder.name}", array=array, log=log)
    title = f"hpcfsl sweep of {len(elements)} runs, each on {_size(job)}"
    return _fill(job, title=title, header=header, run="", runs=quote(str(folder / JOB_FOLDER / RUNS)))


def write_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as Slurm writes elements of an array: `1,4-7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def check_path(job: Job, path: Path) -> None:
    """Raise where a run folder or a sweep's cannot be given to those that read it from the script."""
    text = check_text("--out", str(path))
    if "\\" in text:
        raise UserError(f"--out {shorten(text)}: sbatch writes no log to a path with a backslash; choose another")
    if job.site.container and set(text) & set(":,"):
        raise UserError(f"--out {shorten(text)}: a container's --bind takes no path with : or , in it; choose another")


def _size(job: Job) -> str:
    nodes, ranks = ("" if count == 1 else "s" for count in (job.nodes, job.ranks))
    return f"{job.nodes} node{nodes} with {job.ranks} rank{ranks}"


def header_options(job: Job, *, name: str, array: str, log: tuple[Path, str]) -> list[str]:
    """Return the words after `#SBATCH`, one option an entry.

    Args:
        job: What it asks for.
        name: The job's name.
        array: Elements of a job array; empty for none.
        log: Folder of the log, and the pattern of its name.
    """
    return list(_options(job, name, array, log))


def _options(job: Job, name: str, array: str, log: tuple[Path, str]) -> Iterator[str]:
    site = job.site
    yield f"--job-name={_UNUSUAL.sub('-', name)}"
    for option in ("partition", "account", "qos"):
        if getattr(site, option):
            yield f"--{option}={header_word(getattr(site, option))}"
    yield f"--nodes={job.nodes}"
    yield f"--ntasks-per-node={job.ranks_per_node}"
    yield f"--cpus-per-task={job.threads}"
    if site.gpus_per_node:
        kind = f"{site.gpu_type}:" if site.gpu_type else ""
        yield f"--gpus-per-node={kind}{site.gpus_per_node}"
    yield f"--time={write_time(job.seconds)}"
    yield f"--signal=B:USR2@{site.signal_seconds}"
    yield "--requeue" if job.restart == "requeue" else "--no-requeue"
    if array:
        yield f"--array={array}"
    if site.mail:
        yield f"--mail-user={header_word(site.mail)}"
        yield "--mail-type=END,FAIL"
    yield from (header_word(option) for option in site.options)
    yield f"--chdir={header_word(check_text('current folder', str(job.workdir)))}"
    yield f"--output={header_pattern(str(log[0]), log[1])}"
    yield "--open-mode=append"


def launch_lines(job: Job) -> list[str]:
    """Return the command line that starts the ranks, in lines of words for bash; `$run` and `$config` are set there."""
    lines = [_launcher_words(job)]
    if job.site.container:
        lines.append(_container_words(job))
    lines.append([*map(quote, job.program), "run", '"$config"', "--out", '"$run"'])
    return [" ".join(words) for words in lines]


def _launcher_words(job: Job) -> list[str]:
    site, per_node, threads = job.site, job.ranks_per_node, job.threads
    extra = [*map(quote, site.launcher_options)]
    if site.launcher == "mpirun":
        cores = f":pe={threads}" if site.bind == "core" else ""
        return [
            *("mpirun", "-n", str(job.ranks), "--map-by", f"ppr:{per_node}:node{cores}", "--bind-to", site.bind),
            *extra,
        ]
    words = ["srun", f"--mpi={site.launcher.removeprefix('srun-')}", f"--nodes={job.nodes}", f"--ntasks={job.ranks}"]
    words += [f"--ntasks-per-node={per_node}", f"--cpus-per-task={threads}", "--kill-on-bad-exit=1"]
    words += [f"--cpu-bind={'cores' if site.bind == 'core' else 'none'}"]
    return words + extra


def _container_words(job: Job) -> list[str]:
    container = job.site.container
    assert container is not None
    words = [quote(container.program), "exec", *(["--nv"] if job.site.gpus_per_node else [])]
    words += ["--bind", '"$run"', *(word for folder in container.bind for word in ("--bind", quote(folder)))]
    return [*words, *map(quote, container.options), quote(container.image)]


def _fill(job: Job, **values: Any) -> str:
    site = job.site
    text: str = _template().render(
        **values,
        modules=[quote(name) for name in site.modules],
        environment=site.environment,
        threads=job.threads,
        scratch=quote(site.scratch) if site.scratch else "",
        launcher=site.launcher,
        launch=launch_lines(job),
        restart=job.restart,
        most_tries=_MOST_TRIES,
    )
    return text


def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise UserError("job scripts need jinja2: pip install 'hpcfsl[cluster]'") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # no autoescaping: this is no markup, and `quote` escapes for the shell
    return environment.from_string(files("hpcfsl.cluster").joinpath("job.sh.j2").read_text(encoding="utf-8"))
