from __future__ import annotations

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
    assert watch.current == "start"
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


def test_what_a_rank_does_is_named_until_it_is_over() -> None:
    watch = Stopwatch(5.0)
    assert (watch.current, watch.round, watch.group, watch.exchange, watch.arrivals) == ("start", None, None, None, 0)
    watch.enter("build")
    with watch.in_group(3), watch.phase("record", called="commit"):
        assert (watch.current, watch.group) == ("commit", 3)
    assert (watch.current, watch.group) == ("build", None)
    assert set(watch.take()) == {"record"}
    with pytest.raises(ZeroDivisionError), watch.in_group(4), watch.phase("train"):
        raise ZeroDivisionError
    assert (watch.current, watch.group) == ("train", 4)


def test_every_change_is_a_step_and_every_exchange_an_arrival() -> None:
    watch, seen = Stopwatch(), [0]
    with watch.phase("gather"):
        seen.append(watch.steps)
        with watch.at_exchange("barrier"):
            assert (watch.exchange, watch.arrivals) == ("barrier", 1)
            seen.append(watch.steps)
        seen.append(watch.steps)
        with pytest.raises(ZeroDivisionError), watch.at_exchange("broadcast"):
            raise ZeroDivisionError
        assert (watch.exchange, watch.arrivals) == (None, 2)
    seen.append(watch.steps)
    assert seen == sorted(set(seen))


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
