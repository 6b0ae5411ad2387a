from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcfsl
from hpcfsl import simulation
from hpcfsl.aggregate import global_aggregations, group_operations
from hpcfsl.config import SECTIONS
from hpcfsl.defense.grouping import groupings
from hpcfsl.defense.scoring import scores
from hpcfsl.defense.weighting.influence import influences
from hpcfsl.defense.weighting.normalisation import normalisations
from hpcfsl.display import print_summary
from hpcfsl.errors import UserError
from hpcfsl.presets import PRESETS
from hpcfsl.simulation import Progress
from hpcfsl.threats import threats
from hpcfsl.trace.compare import compare
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.reader import Run

Maker = Callable[..., dict[str, dict[str, Any]]]
Runner = Callable[..., Run]
# A median of coordinates knows no weights of groups.
ACROSS = {*product(global_aggregations.names(), ("survivors", "equal"))} - {("coordinate-median", "survivors")}


@pytest.fixture
def run(tmp_path: Path, tiny: Maker) -> Runner:
    """Return what runs a tiny configuration with some sections changed; `out` names the folder."""

    def runner(out: str = "run", listener: Any = None, **sections: dict[str, Any]) -> Run:
        return hpcfsl.run(tiny(**sections), out=tmp_path / out, listener=listener)

    return runner


def check_consistent(run: Run, rounds: int) -> None:
    """Hold the tables of a run against each other."""
    clients, groups, each = run.table("participation"), run.table("group_rounds"), run.table("rounds")
    assert run.status == "finished"
    assert each["round"].tolist() == list(range(rounds))
    for row, number in enumerate(each["round"]):
        mine, members = groups["round"] == number, clients["round"] == number
        assert each["num_participants"][row] == members.sum() == groups["num_clients"][mine].sum()
        assert each["num_groups"][row] == mine.sum()
        assert each["num_excluded"][row] == np.isin(clients["status"][members], [1, 2]).sum()
        assert each["moved"][row] == (each["num_used_groups"][row] > 0)
    assert np.isfinite(each["test_loss"]).all()
    first_seen = run.table("clients")["client"]
    assert sorted(first_seen.tolist()) == sorted(set(clients["client"].tolist()))
    run.verify()


class TestEveryChoiceRuns:
    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("protocol", ["fedavg", "splitfed-v1"])
    def test_presets_and_protocols(self, run: Runner, preset: str, protocol: str) -> None:
        done = run(run={"preset": preset, "rounds": 2, "device": "cpu"}, protocol={"name": protocol})
        check_consistent(done, 2)
        smashed = done.column("participation", "bytes_smashed_up")
        assert (smashed > 0).all() == (protocol != "fedavg")

    @pytest.mark.parametrize("reading", ["model", "aggregation"])
    @pytest.mark.parametrize("scope", ["group", "pooled", "memory"])
    def test_readings_and_scopes(self, run: Runner, reading: str, scope: str) -> None:
        done = run(weights={"reading": reading}, threshold={"rule": "mad", "scope": scope, "window": 2})
        check_consistent(done, 3)
        seen = len(np.unique(done.column("participation", "raw_threshold")))
        assert seen == 3 if scope == "pooled" else seen > 3

    @pytest.mark.parametrize(("rule", "masses"), sorted(ACROSS))
    def test_rules_across_groups(self, run: Runner, rule: str, masses: str) -> None:
        check_consistent(run(global_aggregation={"rule": rule, "masses": masses}), 3)

    @pytest.mark.parametrize(
        ("section", "key", "choice"),
        [
            *(("groups", "rule", name) for name in groupings.names()),
            *(("score", "rule", name) for name in scores.names()),
            *(("influence", "rule", name) for name in influences.names()),
            *(("normalisation", "rule", name) for name in normalisations.names()),
            *(("group_operation", "rule", name) for name in group_operations.names()),
        ],
    )
    def test_rules_of_the_method(self, run: Runner, section: str, key: str, choice: str) -> None:
        assert section in SECTIONS
        check_consistent(run(**{section: {key: choice}}, run={"rounds": 2}), 2)

    @pytest.mark.parametrize("attack", [name for name in threats.names() if name not in ("none", "fault")])
    def test_threats(self, run: Runner, attack: str) -> None:
        done = run(threat={"attack": attack, "clients": 3, "first_round": 1})
        check_consistent(done, 3)
        assert done.table("rounds")["num_attackers"].tolist() == [0, 3, 3]
        assert done.table("clients")["attacker"].sum() == 3

    @pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
    def test_executors(self, run: Runner, executor: str) -> None:
        check_consistent(run(training={"executor": executor, "momentum": 0.5, "local_epochs": 2}), 3)

    def test_perturbation_and_memory_of_scores(self, run: Runner) -> None:
        done = run(perturbation={"rule": "gaussian", "clip": 0.1}, score={"rule": "composite", "memory": 0.5})
        check_consistent(done, 3)
        assert not np.array_equal(done.column("participation", "norm"), done.column("participation", "uploaded_norm"))

    def test_digits_with_the_default_model(self, tmp_path: Path) -> None:
        done = hpcfsl.run({"run": {"rounds": 2, "device": "cpu"}}, out=tmp_path / "run")
        check_consistent(done, 2)
        assert sorted(set(done.table("clients")["owner"].tolist())) == list(range(14))


class TestParticipation:
    def test_a_number_of_clients(self, run: Runner) -> None:
        done = run(participation={"rule": "number", "clients": 7})
        check_consistent(done, 3)
        assert done.table("rounds")["num_participants"].tolist() == [7, 7, 7]

    def test_a_fraction_in_fixed_groups_of_which_some_stay_empty(self, run: Runner) -> None:
        done = run(participation={"rule": "fraction", "fraction": 0.5}, groups={"rule": "fixed", "number": 6})
        assert done.table("rounds")["num_participants"].tolist() == [6, 6, 6]
        assert done.table("rounds")["num_groups"].max() <= 6

    def test_ten_clients_of_twenty_million(self, run: Runner) -> None:
        done = run(
            partition={"rule": "drawing", "clients": 20_000_000, "samples": 8},
            participation={"rule": "number", "clients": 10},
            threat={"attack": "sign-flip", "clients": 1000},
            evaluation={"clients_every": 2, "clients": 5},
        )
        check_consistent(done, 3)
        assert done.table("clients")["client"].max() > 1_000_000
        assert len(done.table("evaluation")["client"]) == 5


class TestEvaluation:
    def test_only_when_due(self, run: Runner) -> None:
        done = run(evaluation={"every": 2, "clients_every": 3, "shard": 7}, run={"rounds": 5, "device": "cpu"})
        assert np.isnan(done.table("rounds")["test_accuracy"]).tolist() == [True, False, True, False, True]
        assert set(done.table("evaluation")["round"].tolist()) == {2}
        assert len(done.table("evaluation")["client"]) == 12
        assert np.isfinite(done.table("rounds")["client_accuracy_p10"]).tolist() == [False, False, True, False, False]

    def test_the_same_clients_each_time(self, run: Runner) -> None:
        rows = run(evaluation={"clients_every": 1, "clients": 4}).table("evaluation")
        by_round = rows["client"].reshape(3, 4)
        assert (by_round == by_round[0]).all()

    def test_the_accuracy_does_not_depend_on_the_shard(self, run: Runner) -> None:
        first, second = run("a", evaluation={"shard": 1}), run("b", evaluation={"shard": 40})
        name = ("rounds", "test_accuracy")
        assert first.column(*name).tolist() == second.column(*name).tolist()
        assert np.allclose(first.column("rounds", "test_loss"), second.column("rounds", "test_loss"))


class TestBadClients:
    @pytest.mark.parametrize("value", ["nan", "infinity", "huge"])
    def test_they_are_excluded_and_the_model_stays_finite(self, run: Runner, value: str) -> None:
        number = 1 if value == "huge" else 4  # finite ones in the same group could outvote the rest of it
        done = run(threat={"attack": "non-finite", "clients": number, "value": value})
        check_consistent(done, 3)
        bad = done.column("participation", "attacker") == 1
        status = done.labels("participation", "status")
        if value != "huge":
            assert set(done.column("participation", "status")[bad].tolist()) == {status.index("non-finite")}
        assert np.isfinite(done.weights()).all()

    def test_with_no_survivor_anywhere_the_model_stays(self, run: Runner) -> None:
        done = run(threat={"attack": "non-finite", "clients": 12, "first_round": 1})
        rows = done.table("rounds")
        assert rows["moved"].tolist() == [1, 0, 0]
        assert len(set(rows["model_hash"].tolist())) == 1
        assert rows["update_norm"][1:].tolist() == [0.0, 0.0]
        assert [key.round for key in done.update_keys() if key.kind == "global"] == [0]

    def test_a_step_out_of_the_finite_numbers_is_not_taken(self, run: Runner) -> None:
        done = run(
            run={"preset": "averaging", "device": "cpu", "rounds": 2},
            threat={"attack": "sign-flip", "clients": 12, "scale": 1e30},
            training={"server_learning_rate": 100.0, "learning_rate": 100.0, "local_epochs": 9},
            global_aggregation={"rule": "weighted", "masses": "equal"},
        )
        assert np.isfinite(done.weights()).all()

    def test_too_few_survivors_withhold_the_group(self, run: Runner) -> None:
        done = run(groups={"min_survivors": 5})  # groups of four
        assert set(done.column("group_rounds", "status").tolist()) == {1}
        assert done.table("rounds")["moved"].tolist() == [0, 0, 0]


class TestRecording:
    @pytest.mark.parametrize(
        ("trace", "count"),
        [
            ({"updates": "none"}, 0),
            ({"updates": "global"}, 3),
            ({"updates": "group"}, 12),
            ({"updates": "client"}, 48),
            ({"updates": "group", "every": 2}, 8),
            ({"updates": "group", "dtype": "float16", "buffer_mib": 0.0001}, 12),
        ],
    )
    def test_updates(self, run: Runner, trace: dict[str, Any], count: int) -> None:
        done = run(trace=trace)
        assert len(done.update_keys()) == count
        done.verify()
        if count:
            recorded = np.linalg.norm(done.global_update(0).astype(np.float64))
            assert recorded == pytest.approx(done.column("rounds", "update_norm")[0], rel=1e-3)
            assert done.global_update(0).dtype == np.float32

    def test_a_float32_sum_says_so_and_how_far_it_is_off(self, run: Runner, capsys: pytest.CaptureFixture[str]) -> None:
        plain, exact = run("plain", global_aggregation={"reduction": "float32"}), run("exact")
        assert (plain.column("rounds", "reduction_difference") >= 0).all()
        assert (plain.column("rounds", "reduction_difference") < 1e-6).all()
        assert np.isnan(exact.column("rounds", "reduction_difference")).all()
        (text,) = plain.column("events", "text")[plain.column("events", "kind") == b"warning"].tolist()
        assert b"reduction is float32" in text
        assert b"warning" not in exact.column("events", "kind").tolist()
        print_summary(plain)
        assert "float32, so that bits and digest depend on the ranks" in capsys.readouterr().out
        print_summary(exact)
        assert "depend on the ranks" not in capsys.readouterr().out
        np.testing.assert_allclose(plain.weights(), exact.weights(), rtol=1e-3, atol=1e-5)

    def test_what_is_recorded_changes_no_bit(self, run: Runner) -> None:
        first, second = run("a", trace={"updates": "none"}), run("b", trace={"dtype": "float16"})
        assert first.column("rounds", "model_hash").tolist() == second.column("rounds", "model_hash").tolist()

    def test_checkpoints_by_time(self, run: Runner) -> None:
        done = run(run={"rounds": 4, "checkpoint_seconds": 1e-6, "device": "cpu"})
        assert len(list((done.path / "trace").glob("*.h5"))) == 4
        assert len(list((done.path / "checkpoints").glob("round_*.h5"))) == 2

    def test_checkpoints_by_rounds_change_no_digest(self, run: Runner) -> None:
        often, once = run("a", run={"rounds": 3, "checkpoint_rounds": 1, "device": "cpu"}), run("b")
        assert len(list((often.path / "trace").glob("*.h5"))) == 3
        assert digest(often) == digest(once)

    def test_progress_is_one_line_of_json_a_round(self, run: Runner) -> None:
        heard: list[Progress] = []
        done = run(listener=heard.append, evaluation={"every": 2})
        lines = [json.loads(line) for line in (done.path / "progress.jsonl").read_text().splitlines()]
        assert [line["round"] for line in lines] == [0, 1, 2]
        assert lines[0]["test_accuracy"] is None
        assert [(now.round, now.rounds) for now in heard] == [(0, 3), (1, 3), (2, 3)]


class TestContinuing:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "run"

    def stop_after(self, round: int) -> Callable[[Progress], None]:
        """Return a listener that asks for a stop as a person would, after a round."""

        def listen(now: Progress) -> None:
            if now.round == round:
                (self.folder / "stop").touch()

        return listen

    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {
                "weights": {"reading": "aggregation"},
                "threshold": {"rule": "mad", "scope": "memory", "window": 3},
                "score": {"memory": 0.3},
                "global_aggregation": {"rule": "centred-clipping"},
                "participation": {"rule": "number", "clients": 8},
            },
        ],
    )
    def test_a_stopped_and_continued_run_equals_an_undisturbed_one(
        self, run: Runner, sections: dict[str, dict[str, Any]]
    ) -> None:
        rounds = {"run": {"rounds": 5, "device": "cpu"}}
        stopped = run(listener=self.stop_after(1), **sections, **rounds)
        assert (stopped.status, stopped.rounds_done) == ("resumable", 2)
        stopped = run(listener=self.stop_after(3), **sections, **rounds)
        assert (stopped.status, stopped.rounds_done) == ("resumable", 4)
        continued = run(**sections, **rounds)
        assert continued.table("ranks")["first_round"].tolist() == [0, 2, 4]
        undisturbed = run("other", **sections, **rounds)
        assert compare(continued, undisturbed) is None
        assert digest(continued) == digest(undisturbed)

    def test_an_interrupted_run_starts_again_at_its_checkpoint(self, run: Runner) -> None:
        def die(now: Progress) -> None:
            if now.round == 2:
                raise KeyboardInterrupt

        settings = {"rounds": 4, "checkpoint_rounds": 2, "device": "cpu"}
        with pytest.raises(KeyboardInterrupt):
            run(listener=die, run=settings)
        assert hpcfsl.open(self.folder).status == "resumable"
        assert hpcfsl.open(self.folder).rounds_done == 2
        assert digest(run(run=settings)) == digest(run("other", run=settings))

    def test_more_rounds_extend_a_finished_run(self, run: Runner) -> None:
        assert run(run={"rounds": 2, "device": "cpu"}).rounds_done == 2
        extended = run(run={"rounds": 4, "device": "cpu"})
        assert extended.rounds_done == 4
        assert digest(extended) == digest(run("other", run={"rounds": 4, "device": "cpu"}))

    def test_a_finished_run_does_nothing(self, run: Runner) -> None:
        before = {path: path.stat().st_mtime_ns for path in run().path.rglob("*.h5")}
        heard: list[Progress] = []
        done = run(listener=heard.append)
        assert not heard
        assert {path: path.stat().st_mtime_ns for path in done.path.rglob("*.h5")} == before

    def test_cut_off_between_the_last_commit_and_the_status(self, run: Runner) -> None:
        (run().path / "status").write_text("running\n")
        assert hpcfsl.open(self.folder).status == "resumable"
        assert run().status == "finished"

    def test_changed_settings_are_named(self, run: Runner) -> None:
        run()
        with pytest.raises(UserError, match=r"of run\.seed \(0, not 5\), training\.learning_rate \(0\.1, not 0\.2\);"):
            run(run={"seed": 5, "rounds": 4}, training={"learning_rate": 0.2})
        assert hpcfsl.open(self.folder).status == "finished"

    def test_settings_that_bear_on_no_result_may_change(self, run: Runner) -> None:
        run(run={"rounds": 2, "device": "cpu"})
        done = run(run={"rounds": 3, "checkpoint_rounds": 1, "device": "cpu"}, trace={"updates": "global"})
        assert done.rounds_done == 3

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
    def test_a_signal_stops_in_order(self, run: Runner, number: int) -> None:
        before = signal.getsignal(number)
        stopped = run(listener=lambda now: os.kill(os.getpid(), number))
        assert (stopped.status, stopped.rounds_done) == ("resumable", 1)
        assert signal.getsignal(number) == before

    def test_asked_to_stop_in_the_last_round_it_is_finished(self, run: Runner) -> None:
        assert run(listener=self.stop_after(2)).status == "finished"


class TestFailures:
    def test_a_failure_is_written_down_and_the_run_goes_on_later(
        self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("in two\nlines")

        with monkeypatch.context() as patch:
            patch.setattr(simulation, "evaluate_round", fail)
            with pytest.raises(ZeroDivisionError) as caught:
                run()
        assert caught.value.__notes__ == ["hpcfsl: rank 0, phase evaluate, round 0"]
        assert hpcfsl.open(tmp_path / "run").status == "failed"
        last = json.loads((tmp_path / "run" / "progress.jsonl").read_text().splitlines()[-1])
        assert {name: last[name] for name in ("failure", "type", "rank", "phase", "round", "group")} == {
            "failure": "in two lines",
            "type": "ZeroDivisionError",
            "rank": 0,
            "phase": "evaluate",
            "round": 0,
            "group": None,
        }
        assert digest(run()) == digest(run("other"))

    def test_a_folder_in_use_is_refused(self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = RunFolder(tmp_path / "run")
        folder.create()
        waiting: Any = RunFolder.lock
        monkeypatch.setattr(waiting.__wrapped__, "__defaults__", (0.1,))
        with folder.lock(), pytest.raises(UserError, match=r"in use by .* wait for it"):
            run()

    def test_a_path_that_is_a_file_is_refused(self, run: Runner, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("")
        with pytest.raises(UserError, match="choose a path"):
            run()

    def test_all_damaged_checkpoints_are_refused(self, run: Runner, tmp_path: Path) -> None:
        for path in (run().path / "checkpoints").glob("*.h5"):
            path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(UserError, match="no checkpoint can be used"):
            run()


@pytest.fixture(autouse=True, scope="module")
def _no_signal_is_left() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == before
