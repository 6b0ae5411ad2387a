"""The whole page: what it loads (nothing), what it escapes, its edge cases, and what a browser makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcfsl
from hpcfsl.errors import RunFolderError, UserError
from hpcfsl.report import page as page_module
from hpcfsl.report import render

Write = Callable[..., hpcfsl.Run]
SECTIONS = ("runs", "curves", "detection", "weights", "groups", "traffic", "timing", "settings")
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Elements and attributes of a page; fails on a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(write: Write, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page about two runs."""
    folder = tmp_path_factory.mktemp("two")
    runs = [write(folder / "attacked"), write(folder / "quiet", attackers=0, rounds=2, ranks=1)]
    return render(runs, folder / "out" / "page.html").read_text("utf-8")


def test_a_page_loads_nothing_and_runs_nothing(text: str) -> None:
    outline = Outline(text)
    tags = {tag for tag, _ in outline.elements}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    for _, attributes in outline.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value is not None
                assert value.startswith(("#", "data:image/png;base64,"))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", text))


def test_every_reference_has_its_one_target(text: str) -> None:
    elements = Outline(text).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {value[1:] for _, attributes in elements if (value := attributes.get("href") or "").startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(ids)
    assert set(SECTIONS) <= set(ids)


def test_every_drawing_has_words_and_axes_have_labels(text: str) -> None:
    outline = Outline(text)
    drawings = [attributes for attributes in outline.named("div") if attributes.get("role") == "img"]
    assert len(drawings) == len(outline.named("svg")) == len(outline.named("figcaption")) >= 11
    assert all(attributes["aria-label"] for attributes in drawings)
    for words in ("test accuracy (%)", "mean loss a sample (nats)", "credit score", "round", "time of a round (ms)"):
        assert f">{words}<" in text
    assert "a higher credit score is more suspicious" in text


def test_the_page_follows_light_dark_and_paper(text: str) -> None:
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "currentColor" in text
    assert "#010203" not in text  # the ink that matplotlib drew with


def test_rates_and_sizes_are_those_of_the_trace(write: Write, tmp_path: Path) -> None:
    out = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    run = write(tmp_path / "run", rounds=2, clients=10, attackers=3, status=out)
    found = render([run], tmp_path / "page.html").read_text("utf-8")
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", found, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    summary = next(row for row in cells if row[:1] == ["run"] and " of " in row[1])
    assert summary[1:5] == ["4 of 6", "66.7 %", "2 of 14", "14.3 %"]
    clients = [row for row in cells if len(row) == 7 and row[1] in ("attacker", "honest")]
    assert [row[0] for row in clients[:4]] == ["0", "1", "3", "2"]
    assert clients[2][1:5] == ["honest", "2", "2", "100 %"]
    assert ["up", "smashed data", "20 kB (47.4 %)"] in cells
    assert ["digest", page_digest(run)] in cells


def page_digest(run: hpcfsl.Run) -> str:
    from hpcfsl.trace.digest import digest

    return digest(run)[:16]


def test_what_a_run_says_never_becomes_markup(write: Write, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&$x^2$"
    config = f"[run]\nseed = 1\n[threat]\nattack = '{evil}'\n[model]\nname = '\"><img src=x onerror=alert(1)>'\n"
    runs = [write(tmp_path / name, rounds=2, config=config) for name in ("<b>bold$a_1$", "&amp;")]
    found = render(runs, tmp_path / "page.html").read_text("utf-8")
    tags = {tag for tag, _ in Outline(found).elements}
    assert not tags & {"script", "img", "b>bold$a_1$"}
    assert "&lt;script&gt;alert(1)" in found
    assert "&lt;b&gt;bold$a_1$" in found
    assert "&amp;amp;" in found
    assert "node&lt;1&gt;" in found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attackers": 10}, "0 of 0"),
        ({"evaluated": False, "attackers": 0}, "evaluation.every"),
        ({"rounds": 0}, "No round was committed yet"),
        ({"clients": 1, "attackers": 0, "groups": 1, "ranks": 1, "rounds": 1}, "for 1 round<"),
        ({"threshold": float("inf")}, "only updates that are not finite can be excluded"),
        ({"threshold": np.linspace(1.5, 2, 10)}, "Thresholds differ between groups"),
        ({"weight": float("nan"), "coefficient": float("nan"), "scaling": float("nan")}, "weights are vectors"),
        ({"credit_score": float("inf"), "status": 2}, "not finite"),
        ({"credit_score": float("nan")}, "area under ROC curve"),
        ({"credit_score": np.logspace(-3, 6, 10)}, "10000"),
        ({"credit_score": -1.0}, "honest, kept"),
        ({"config": "threat = 3"}, "seed"),
        ({"ranks": 100, "rounds": 1}, "the 24 that trained longest and shortest of 100"),
        ({"rounds": 130, "clients": 2, "attackers": 1}, "A bar is the mean of 3 rounds"),
        ({"rounds": 420, "clients": 2, "attackers": 1}, "for 420 rounds"),
    ],
)
def test_odd_runs_have_a_page(write: Write, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    found = render([write(tmp_path / "run", **changes)], tmp_path / "page.html").read_text("utf-8")
    outline = Outline(found)
    assert words in found
    assert {attributes.get("id") for attributes in outline.named("section")} >= set(SECTIONS)


def test_a_large_run_stays_small(write: Write, tmp_path: Path) -> None:
    run = write(tmp_path / "run", rounds=100, clients=2000, attackers=300, groups=40, ranks=8, sketch=0.0)
    page = render([run], tmp_path / "page.html")
    assert page.stat().st_size < 5_000_000
    found = page.read_text("utf-8")
    assert "8,000 of 200,000 marks are drawn" in found
    assert "the 40 excluded most often of 2,000" in found
    assert "Attackers of run excluded least often" in found
    assert "48 of 2,000 clients have a line" in found
    assert found.count("data:image/png;base64,") >= 2  # many points are a picture


def test_the_same_runs_give_the_same_page(write: Write, tmp_path: Path) -> None:
    run = write(tmp_path / "run", clients=300, rounds=6)
    assert render([run], tmp_path / "a.html").read_bytes() == render([run], tmp_path / "b.html").read_bytes()


def test_many_runs_and_a_running_one(write: Write, tmp_path: Path) -> None:
    runs = [write(tmp_path / f"case-{number}", rounds=2, ranks=1) for number in range(5)]
    runs.append(write(tmp_path / "starting", rounds=0))
    found = render(runs, tmp_path / "page.html").read_text("utf-8")
    assert "<h1>6 runs</h1>" in found
    assert "resumable" in found
    assert "The first 3 runs are shown." in found
    assert found.count('<details class="folded">') == 5


def test_damage_and_bad_targets_are_told_in_one_line(write: Write, tmp_path: Path) -> None:
    run = write(tmp_path / "run")
    with pytest.raises(UserError, match="no run was given"):
        render([], tmp_path / "page.html")
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(RunFolderError, match="taken"):
        render([run], tmp_path / "taken" / "page.html")
    segment = next((tmp_path / "run" / "trace").iterdir())
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    with pytest.raises(RunFolderError):
        render([hpcfsl.open(tmp_path / "run")], tmp_path / "page.html")


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_a_missing_package_is_named(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} .*pip install 'hpcfsl\[report\]'"):
        page_module.render([write(tmp_path / "run")], tmp_path / "page.html")


def test_a_report_needs_neither_torch_nor_mpi(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "run")
    script = (
        "import sys, pathlib, hpcfsl\n"
        "from hpcfsl.report import render\n"
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules)\n"
        f"render([hpcfsl.open({str(tmp_path / 'run')!r})], pathlib.Path({str(tmp_path / 'page.html')!r}))\n"
        "assert not {'torch', 'mpi4py', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_browser_shows_the_page(write: Write, tmp_path: Path, browse: Callable[[Path], str]) -> None:
    run = write(tmp_path / "attacked", clients=300, attackers=30, rounds=6)
    dom = browse(render([run], tmp_path / "page.html"))
    outline = Outline(dom)
    assert {attributes.get("id") for attributes in outline.named("section")} >= set(SECTIONS)
    assert len(outline.named("svg")) == 8
    assert "<h1>attacked</h1>" in dom
    assert "attacker, excluded" in dom
    assert [
        attributes for attributes in outline.named("image") if (attributes["href"] or "").startswith("data:image/png")
    ]


def test_a_real_run_has_a_page(tiny: Callable[..., Any], tmp_path: Path) -> None:
    tree = tiny(threat={"attack": "sign-flip", "clients": 3, "scale": 5.0}, evaluation={"clients_every": 1})
    run = hpcfsl.run(tree, out=tmp_path / "real")
    found = render([run], tmp_path / "page.html").read_text("utf-8")
    assert "sign-flip, 3 attackers" in found
    assert "worst to best client" in found
