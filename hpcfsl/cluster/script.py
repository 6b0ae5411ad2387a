"""The batch script of a job, from the template job.sh.j2.

Every value is one word to whoever reads it: to bash through `quote`, to sbatch through `header_word`. The template only
puts words together.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from hpcfsl.cluster.job import Job
from hpcfsl.cluster.words import check_text, header_path, header_word, quote, write_time
from hpcfsl.errors import UserError, shorten

JOB_FOLDER = "job"
_MOST_TRIES = 3


def render_run(job: Job, run: Path) -> str:
    """Return the script of a job that runs one configuration.

    Args:
        job: What it asks for.
        run: The run folder, absolute; the configuration is `job/config.toml` in it.

    Raises:
        UserError: A value cannot be written into a script, or jinja2 is missing.
    """
    check_path("--out", run)
    array = f"1-{job.array}%1" if job.restart == "array" else ""
    log = "slurm-%A_%a.out" if array else "slurm-%j.out"
    header = header_options(job, name=f"hpcfsl-{run.name}", array=array, log=(run / JOB_FOLDER, log))
    title = f"hpcfsl run on {job.nodes} {'node' if job.nodes == 1 else 'nodes'} with {job.ranks} ranks"
    return _fill(job, title=title, header=header, run=quote(str(run)), runs="")


def check_path(key: str, path: Path) -> None:
    """Raise where a path cannot be given to sbatch as the place of a log file."""
    check_text(key, str(path))
    if "\\" in str(path):
        raise UserError(f"{key} {shorten(str(path))}: sbatch cannot write a log to a path with a backslash in it")


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
    yield f"--job-name={header_word(name)}"
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
    yield f"--output={header_path(str(log[0]))}/{log[1]}"
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
