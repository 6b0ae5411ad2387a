"""Job scripts: what `--dry-run` prints is compared with recorded files, linted, and any path survives in it.

`HPCFSL_RECORD=1 pytest tests/cluster/test_scripts.py` writes the recorded files anew; read what changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.slurm_fakes import Fakes, make_fakes

from hpcfsl.cli import main
from hpcfsl.cluster.job import Job, Request, make_job
from hpcfsl.cluster.script import render_run, write_ranges
from hpcfsl.cluster.site import Container, Site, load_site
from hpcfsl.cluster.words import check_text, header_pattern, header_word, read_time, write_time
from hpcfsl.errors import UserError

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
SITES = ROOT / "jobs" / "sites"
# What a case adds to `hpcfsl submit CONFIG --out RUN --no-check --dry-run`.
CASES = {
    "no-site": ["--nodes", "2", "--ranks-per-node", "4"],
    "no-requeue": ["--ranks-per-node", "1", "--no-requeue", "--time", "90"],
    "cpu": ["--site", "cpu", "--nodes", "2"],
    "cpu-all-options": [
        *("--site", "cpu", "--nodes", "4", "--ranks-per-node", "32", "--time", "2-12", "--partition", "long"),
        *("--account", "other-5", "--qos", "high", "--mail", "ada@example.org", "--signal-seconds", "900"),
        *("--set", "run.threads=4"),
    ],
    "gpu4": ["--site", "gpu4", "--nodes", "2"],
    "gpu4-two-of-four": ["--site", "gpu4", "--gpus-per-node", "2", "--array", "12"],
    "gpu8": ["--site", "gpu8"],
    "gpu8-array": ["--site", "gpu8", "--nodes", "2", "--array", "20"],
}
SWEEP = {"base": "config.toml", "seeds": [0, 1], "grid": {"training.learning_rate": [0.1, 0.3]}}
needs_shellcheck = pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt install shellcheck")


def dry_run(command: str, *arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [command, *map(str, arguments), "--no-check", "--dry-run"])
    assert result.exit_code == 0, result.output
    return result.stdout


def compare_with_recorded(name: str, script: str) -> None:
    path = RECORDED / f"{name}.sh"
    if os.environ.get("HPCFSL_RECORD"):
        path.write_text(script, encoding="utf-8")
    assert script == path.read_text(encoding="utf-8")


@pytest.fixture
def at_ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path) -> Callable[[str], str]:
    """Work in a folder with the example sites; return what makes a script independent of the machine."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "sites").symlink_to(SITES)
    monkeypatch.chdir(tmp_path)
    assert config.is_file()
    return lambda text: text.replace(str(tmp_path), "/home/ada").replace(sys.executable, "/home/ada/.venv/bin/python")


class TestRecorded:
    @pytest.mark.parametrize("name", CASES)
    def test_submit(self, name: str, at_ada: Callable[[str], str]) -> None:
        script = dry_run("submit", "config.toml", "--out", "runs/first", *CASES[name])
        compare_with_recorded(name, at_ada(script))

    def test_sweep(self, at_ada: Callable[[str], str]) -> None:
        Path("sweep.toml").write_text(tomli_w.dumps(SWEEP), encoding="utf-8")
        script = dry_run("sweep", "sweep.toml", "--out", "runs/rates", "--site", "cpu", "--at-once", "2")
        compare_with_recorded("sweep", at_ada(script))

    def test_an_awkward_path(self, at_ada: Callable[[str], str]) -> None:
        script = dry_run("submit", "config.toml", "--out", "my $(runs) `x` 'y' \"z\" 100% #1", *CASES["no-site"])
        compare_with_recorded("awkward", at_ada(script))

    def test_a_dry_run_writes_nothing(self, at_ada: Callable[[str], str], fakes: Fakes, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        dry_run("submit", "config.toml", "--out", "runs/first", *CASES["cpu"])
        assert sorted(tmp_path.rglob("*")) == before
        assert fakes.calls("sbatch") == []

    def test_nothing_recorded_is_left_over(self) -> None:
        assert {path.stem for path in RECORDED.glob("*")} == {*CASES, "sweep", "awkward"}


@needs_shellcheck
@pytest.mark.parametrize("name", [*CASES, "sweep", "awkward"])
def test_shellcheck_finds_nothing(name: str) -> None:
    done = subprocess.run(["shellcheck", str(RECORDED / f"{name}.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# What can stand in a path or on a line: everything but line ends, control characters and halves of characters.
lines = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20)
names = lines.filter(lambda text: "/" not in text and "\\" not in text and text not in (".", ".."))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return make_fakes(tmp_path_factory.mktemp("bench") / "bin")


def make(site: Site, workdir: Path = Path("/home/ada")) -> Job:
    job = make_job(site, Request(ranks_per_node=2), threads=1)
    return Job(**{**vars(job), "workdir": workdir})


class TestQuoting:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=names, word=lines, image=lines, scratch=lines)
    def test_any_line_reaches_the_program_as_one_word(
        self, name: str, word: str, image: str, scratch: str, bench: Fakes
    ) -> None:
        bench.forget()
        bench.set("mpirun", f'printf %s "$TMPDIR" >"{bench.folder}/tmpdir"')
        word, image = word.strip() or "x", image.strip() or "x"
        run = bench.folder / name.translate({ord(":"): ".", ord(","): "."})  # which --bind cannot take
        site = Site(
            program=("hpcfsl", word),
            launcher_options=(word,),
            scratch=scratch,
            container=Container(image=image, bind=(image.replace(",", "."),), options=(word,)),
        )
        path = bench.folder.parent / "job.sh"
        path.write_text(render_run(make(site), run), encoding="utf-8")
        done = bench.run(path)
        (call,) = bench.calls("mpirun")
        start = ["-n", "2", "--map-by", "ppr:2:node:pe=1", "--bind-to", "core", word]
        container = ["apptainer", "exec", "--bind", str(run), "--bind", image.replace(",", "."), word, image]
        ours = ["hpcfsl", word, "run", f"{run}/job/config.toml", "--out", str(run)]
        assert call == [*start, *container, *ours], done.stderr
        assert (bench.folder / "tmpdir").read_text(encoding="utf-8") == scratch

    @given(text=lines)
    def test_sbatch_reads_a_header_word_as_it_was(self, text: str) -> None:
        assert read_like_sbatch(f"--chdir={header_word(text)} # more") == f"--chdir={text}"

    @given(text=lines)
    def test_percent_signs_of_a_path_are_no_pattern(self, text: str) -> None:
        assert read_like_sbatch(header_pattern(text, "%j")) == text.replace("%", "%%") + "/%j"

    @pytest.mark.parametrize("text", ["a\nb", "a\r", "\x00", "\x1b[1m", "a\u2028b", "\ud800", "\x85"])
    def test_what_breaks_a_line_is_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="control character"):
            check_text("--out", text)
        with pytest.raises(UserError, match=r"--out .*(control character|backslash)"):
            render_run(make(Site()), Path("/runs") / f"a{text}b")

    def test_a_backslash_in_the_path_of_a_log_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"--out .*backslash"):
            render_run(make(Site()), Path("/runs/a\\b"))

    @pytest.mark.parametrize("name", ["a:b", "a,b"])
    def test_a_path_that_a_container_cannot_bind_is_refused(self, name: str) -> None:
        with pytest.raises(UserError, match=r"--out .*--bind"):
            render_run(make(Site(container=Container(image="x.sif"))), Path("/runs") / name)
        assert render_run(make(Site()), Path("/runs") / name)

    def test_a_line_end_in_the_current_folder_is_refused(self) -> None:
        with pytest.raises(UserError, match="current folder"):
            render_run(make(Site(), Path("/home/a\nda")), Path("/runs/a"))


def read_like_sbatch(line: str) -> str:
    """Return the first word of an `#SBATCH` line, by the rules of sbatch (get_argument in its opt.c)."""
    word, escaped, quoted = "", False, ""
    for character in line:
        if not quoted and character.isspace():  # even an escaped one
            break
        if escaped:
            word, escaped = word + character, False
        elif character == "\\":
            escaped = True
        elif quoted:
            word, quoted = (word, "") if character == quoted else (word + character, quoted)
        elif character in "\"'":
            quoted = character
        elif character == "#":
            break
        else:
            word += character
    return word


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            *(("90", 5400), ("90:30", 5430), ("4:00:00", 14400), ("1-0", 86400), ("2-12", 216000)),
            *(("1-02:30", 95400), ("1-02:30:15", 95415), ("0:00:01", 1), (" 5 ", 300)),
        ],
    )
    def test_slurms_ways_of_writing_a_time(self, text: str, seconds: int) -> None:
        assert read_time("--time", text) == seconds

    @pytest.mark.parametrize(
        "text", ["", "x", "4h", "1:2:3:4", "-5", "1-", "0", "0:00", "1.5", "UNLIMITED", "\u0661\u0660"]
    )
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="--time"):
            read_time("--time", text)

    @given(st.integers(1, 10**7))
    def test_what_is_written_is_read_as_the_same(self, seconds: int) -> None:
        assert read_time("--time", write_time(seconds)) == seconds


@given(st.sets(st.integers(1, 40), min_size=1))
def test_ranges_of_an_array_name_each_element_once(numbers: set[int]) -> None:
    found: list[int] = []
    for part in write_ranges(sorted(numbers)).split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)


def test_without_jinja2_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"pip install 'hpcfsl\[cluster\]'"):
        render_run(make(Site()), Path("/runs/a"))


def test_the_example_sites_can_be_read() -> None:
    found: dict[str, Any] = {path.stem: load_site(str(path)) for path in SITES.glob("*.toml")}
    assert {name: site.gpus_per_node for name, site in found.items()} == {"cpu": 0, "gpu4": 4, "gpu8": 8}
