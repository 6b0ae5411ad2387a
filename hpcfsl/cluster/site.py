"""What a cluster is like: how jobs are asked for, how ranks are started, what the nodes have. One TOML file a cluster.

A site file is written once, by whoever knows the cluster, and shared; the command line overrides what changes from job
to job. Everything has a default, so a cluster without queues to choose from needs no file.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hpcfsl.cluster.words import check_text, read_time
from hpcfsl.errors import UserError, one_line
from hpcfsl.settings import Settings, parse

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:@+=/-]*")
_OPTION = re.compile(r"--[a-z][a-z0-9-]*(=.*)?")


def _one_word(text: str) -> str:
    if text and not _WORD.fullmatch(text):
        raise ValueError("use letters, digits and _ . , : @ + = / - only")
    return text


def _one_line(text: str) -> str:
    try:
        return check_text("", text)
    except UserError:
        raise ValueError("holds a line end or a control character; leave it out") from None


def _some_line(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return _one_line(text)


def _option(text: str) -> str:
    if not _OPTION.fullmatch(text):
        raise ValueError("write one option of sbatch an entry, --name or --name=value")
    return _one_line(text)


def _time(text: str) -> str:
    try:
        read_time("", text)
    except UserError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    return text


def _mount(text: str) -> str:
    if "," in text:
        raise ValueError("write one folder an entry, without a comma")
    return _some_line(text)


Word = Annotated[str, AfterValidator(_one_word)]
Line = Annotated[str, AfterValidator(_some_line)]
Lines = tuple[Line, ...]


class Container(Settings):
    """An image that the program runs in (table `[container]`)."""

    image: Line
    """The image file, made from `container/hpcfsl.def`."""
    program: Line = "apptainer"
    """What runs images here: `apptainer`, or `singularity` on older clusters."""
    bind: tuple[Annotated[str, AfterValidator(_mount)], ...] = ()
    """Folders of the cluster that the program must see, beside the run folder, the home folder and the one that the
    job was submitted from."""
    options: Lines = ()
    """Further arguments of `exec`, one an entry."""


class Site(Settings):
    """A cluster (a site file)."""

    partition: Word = ""
    """The queue; empty for the cluster's default."""
    account: Word = ""
    """The project that pays."""
    qos: Word = ""
    """Quality of service."""
    mail: Word = ""
    """Where Slurm writes when a job ends or fails; empty for nowhere."""
    time: Annotated[str, AfterValidator(_time)] = "1:00:00"
    """Time limit of a job, as Slurm writes it: `4:00:00`, `2-12:00:00`."""
    requeue: bool = True
    """Whether a job may put itself back into the queue when its time is up."""
    signal_seconds: int = Field(300, ge=10, le=7200)
    """How long before its time limit a run is told to stop: longer than a round and a checkpoint take. Slurm may be
    up to a minute early."""
    options: tuple[Annotated[str, AfterValidator(_option)], ...] = ()
    """Further options of sbatch, one an entry: `--exclusive`, `--constraint=rome`."""
    cores_per_node: int | None = Field(None, ge=1, le=65536)
    """Cores of a node; without `--ranks-per-node`, a rank for every `run.threads` of them."""
    gpus_per_node: int = Field(0, ge=0, le=64)
    """GPUs of a node that a job asks for; without `--ranks-per-node`, a rank for each."""
    gpu_type: Word = ""
    """Which GPUs, where the cluster has several kinds: `a100`."""
    modules: tuple[Word, ...] = ()
    """Modules to load, in this order."""
    environment: Lines = ()
    """Lines of shell that make the program and its launcher available, run before the program starts."""
    program: Lines = ()
    """How the program is called on the nodes, one word an entry. Empty for the Python that submits, or `hpcfsl` in a
    container."""
    launcher: Literal["mpirun", "srun-pmix", "srun-pmi2"] = "mpirun"
    """What starts the ranks: Open MPI's `mpirun`, or `srun` with PMIx (Open MPI) or PMI-2 (MPICH's family)."""
    launcher_options: Lines = ()
    """Further arguments of the launcher, one an entry."""
    bind: Literal["core", "none"] = "core"
    """Whether each rank keeps to cores of its own; `none` where jobs share nodes without Slurm keeping them apart."""
    scratch: Annotated[str, AfterValidator(_one_line)] = ""
    """A folder on every node for scratch files, as TMPDIR; empty leaves TMPDIR as it is."""
    container: Container | None = None
    """Run in an image."""


def load_site(name: str | None) -> Site:
    """Return the settings of a site: a file, the name of one in a folder of site files, or None for the defaults.

    Names are looked for in `jobs/sites` under the current folder and in the user's own `hpcfsl/sites` under
    XDG_CONFIG_HOME (`~/.config`).

    Raises:
        UserError: There is no such file, it is not TOML, or a setting cannot be used.
    """
    if name is None:
        return Site()
    path = _find(name)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(one_line(f"--site {name}: cannot be read: {error.strerror or error}")) from None
    except ValueError as error:  # not UTF-8 or not TOML
        raise UserError(one_line(f"--site {name}: {path} is not TOML: {error}")) from None
    try:
        return parse(Site, tree, "site")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def site_folders() -> list[Path]:
    """Return the folders in which names of sites are looked for."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path("jobs/sites"), home / "hpcfsl" / "sites"]


def _find(name: str) -> Path:
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    for folder in site_folders():
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in site_folders() for path in folder.glob("*.toml")})
    there = f"known here: {', '.join(known)}" if known else "none is known here"
    raise UserError(one_line(f"--site {name}: there is no such site; name a file, FILE.toml ({there})"))
