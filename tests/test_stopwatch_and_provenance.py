from __future__ import annotations

import faulthandler
import json
import socket
from typing import Any

import pytest

from hpcfsl import provenance
from hpcfsl.stopwatch import PHASES, Stopwatch


def test_seconds_add_up_by_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 20.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.phase("train"):
        assert watch.current == "train"
    with watch.phase("score"):
        pass
    with watch.phase("train"):
        pass
    assert watch.current == "other"
    assert watch.take() == {"train": 1.5, "score": 2.0}
    assert watch.take() == {}


def test_a_failure_leaves_the_phase_named_and_timed() -> None:
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.phase("gather"):
        raise ZeroDivisionError
    assert watch.current == "gather"
    assert "gather" in watch.take()


def test_unknown_phases_are_defects() -> None:
    assert len(set(PHASES)) == len(PHASES)
    with pytest.raises(AssertionError), Stopwatch().phase("lunch"):
        pass


def test_every_phase_arms_and_disarms_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit, **_: calls.append((seconds, exit)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append("cancel"))
    with Stopwatch(7.5).phase("train"):
        pass
    assert calls == [(7.5, True), "cancel"]
    watch = Stopwatch()
    with watch.phase("train"):
        pass
    assert len(calls) == 2
    watch.set_deadline(2.0)
    with watch.phase("train"):
        pass
    assert calls[2:] == [(2.0, True), "cancel"]


def test_provenance_is_plain_data_about_this_process() -> None:
    found = provenance.provenance()
    assert json.loads(json.dumps(found)) == found
    assert set(found["versions"]) <= set(provenance.PACKAGES)
    assert {"numpy", "torch"} <= set(found["versions"])


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-of-anybody"))
    assert list(provenance.package_versions()) == ["numpy"]


@pytest.mark.parametrize("lines", ["flags: fpu\nmodel name : Fast 9000\n", "flags: fpu\n", None])
def test_the_processor_has_some_name(lines: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    if lines is not None:
        info.write_text(lines)
    monkeypatch.setattr("builtins.open", lambda *_, **__: info.open(encoding="utf-8"))
    name = provenance.processor_name()
    assert name == "Fast 9000" if lines and "Fast" in lines else name


def test_a_node_has_slurms_name_in_a_job_and_else_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    assert provenance.node_name() == "n7"
    monkeypatch.delenv("SLURMD_NODENAME")
    assert provenance.node_name() == socket.gethostname()
