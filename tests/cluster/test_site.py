"""Site files: every mistake is one line that names the file, the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcfsl.cluster.job import Request, make_job
from hpcfsl.cluster.site import Site, load_site
from hpcfsl.errors import UserError


def write(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "here.toml").write_text(text, encoding="utf-8")
    return str(folder / "here.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('laucher = "mpirun"', "site.laucher = 'mpirun': unknown; did you mean 'launcher'?"),
        ('launcher = "aprun"', "site.launcher = 'aprun': input should be 'mpirun'"),
        ("gpus_per_node = -1", "site.gpus_per_node = -1: input should be greater"),
        ('modules = ["a b"]', "site.modules.0 = 'a b': use letters, digits"),
        ('modules = "gcc"', "site.modules = 'gcc'"),
        ('environment = ["a\\nb"]', "site.environment.0 = 'a\\nb': holds a line end"),
        ('environment = [" "]', "site.environment.0 = ' ': must not be empty"),
        ('options = ["--exclusive --mem=0"]', "site.options.0 = '--exclusive --mem=0': write one option"),
        ('options = ["exclusive"]', "site.options.0 = 'exclusive': write one option of sbatch an entry"),
        ('options = ["--comment=a\\nb"]', "site.options.0"),
        ('time = "tomorrow"', "site.time = 'tomorrow': write it as hours"),
        ('partition = "-x"', "site.partition = '-x': use letters"),
        ('[container]\nbind = ["/a"]', "site.container.image = None: must be given"),
        ('[container]\nimage = "x"\nbind = ["/a,/b"]', "site.container.bind.0 = '/a,/b': write one folder"),
        ("container = 3", "site.container = 3"),
        ("= 3", "is not TOML"),
    ],
)
def test_a_mistake(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_site(write(tmp_path, text))
    assert words in str(caught.value)
    assert str(tmp_path / "here.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not TOML"):
        load_site(str(tmp_path / "here.toml"))


def test_names_are_looked_up_here_and_then_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match=r"--site here: .*none is known here"):
        load_site("here")
    write(tmp_path / "home" / "hpcfsl" / "sites", 'partition = "home"')
    assert load_site("here").partition == "home"
    with pytest.raises(UserError, match=r"--site there: .*known here: here"):
        load_site("there")
    write(tmp_path / "jobs" / "sites", 'partition = "local"')
    assert load_site("here").partition == "local"


def test_no_site_is_the_defaults() -> None:
    assert load_site(None) == Site()


@pytest.mark.parametrize(
    ("site", "threads", "ranks"),
    [
        (Site(cores_per_node=64), 1, 64),
        (Site(cores_per_node=64), 4, 16),
        (Site(cores_per_node=2), 4, 1),
        (Site(cores_per_node=64, gpus_per_node=4), 1, 4),
    ],
)
def test_ranks_of_a_node(site: Site, threads: int, ranks: int) -> None:
    if ranks * threads > (site.cores_per_node or 0):
        with pytest.raises(UserError, match="needs 4 cores, and a node has 2"):
            make_job(site, Request(), threads)
    else:
        assert make_job(site, Request(nodes=3), threads).ranks == 3 * ranks


def test_the_command_line_comes_before_the_site() -> None:
    site = Site(partition="a", account="b", time="2:00:00", gpus_per_node=4)
    job = make_job(site, Request(partition="c", gpus_per_node=0, ranks_per_node=3), 1)
    assert (job.site.partition, job.site.account, job.site.gpus_per_node, job.seconds) == ("c", "b", 0, 7200)


@pytest.mark.parametrize(
    ("site", "request_", "restart"),
    [
        (Site(), Request(ranks_per_node=1), "requeue"),
        (Site(requeue=False), Request(ranks_per_node=1), "none"),
        (Site(), Request(ranks_per_node=1, no_requeue=True), "none"),
        (Site(), Request(ranks_per_node=1, array=3), "array"),
    ],
)
def test_how_a_run_goes_on(site: Site, request_: Request, restart: str) -> None:
    assert make_job(site, request_, 1).restart == restart
