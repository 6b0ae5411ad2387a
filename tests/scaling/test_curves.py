from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcfsl.cli import main
from hpcfsl.errors import UserError
from hpcfsl.scaling import command
from hpcfsl.scaling.calibrate import shipped_rates, write_rates
from hpcfsl.scaling.checks import check_estimates
from hpcfsl.scaling.command import Choice, bench_scaling
from hpcfsl.scaling.curves import RANKS, all_curves, what_if
from hpcfsl.scaling.design import Setting
from hpcfsl.scaling.page import BEGIN, END, insert, table

TWO = (
    Setting(name="small", hidden=(8,), groups=3, clients=9),
    Setting(name="other", hidden=(16,), groups=4, clients=12, rule="weighted", held_out=True),
)


def report() -> dict[str, object]:
    row = {"setting": "mlp", "ranks": 2, "held_out": True, "parameters": 10, "groups": 2, "clients": 4}
    return {
        "format": 1,
        "machine": {"cores": 2, "processor": "a processor"},
        "rates": json.loads(write_rates(shipped_rates())),
        "held_out_ranks": [3, 8],
        "settings": [{**row, "measured_seconds": 0.1, "predicted_seconds": 0.11, "error": 0.1}],
        "errors": {"all held out": [0.1, 0.2]},
        "estimates": [
            {"case": "a case", **{key: [2.0, 1.0] for key in ("round_seconds", "memory_bytes", "folder_bytes")}}
        ],
    }


class TestCurves:
    def test_efficiency_starts_at_one_and_many_ranks_are_less_efficient(self) -> None:
        for curve in all_curves(shipped_rates()):
            assert [point.ranks for point in curve.points] == list(RANKS)
            assert curve.points[0].efficiency == pytest.approx(1)
            assert 0 < curve.points[-1].efficiency < 1

    def test_strong_scaling_of_plain_sums_still_gains_at_every_step(self) -> None:
        found = [curve for curve in all_curves(shipped_rates()) if (curve.kind, curve.rule) == ("strong", "weighted")]
        assert found
        for curve in found:
            seconds = [point.round.seconds for point in curve.points]
            assert seconds == sorted(seconds, reverse=True)

    def test_what_ifs_name_predictions(self) -> None:
        found = list(what_if(shipped_rates()))
        assert {what for what, _, _ in found} >= {"ranks per node", "sum over ranks", "rule across groups"}
        for what, _, predictions in found:
            if what == "sum over ranks":
                sums = {name: each.terms["reduction"] for name, each in predictions.items()}
                assert sums["float32"] < sums["sharded"] < sums["int64"]


def test_estimates_of_memory_and_files_are_near_a_real_run() -> None:
    (found,) = check_estimates(("small MLP, 4,000 uneven clients",))
    assert found["memory_bytes"][0] == pytest.approx(found["memory_bytes"][1], rel=0.3)
    assert found["folder_bytes"][0] == pytest.approx(found["folder_bytes"][1], rel=0.1)
    assert min(found["round_seconds"]) > 0


class TestPage:
    def test_figures_take_the_place_of_the_old_ones(self) -> None:
        page = f"# Title\n\n{BEGIN}\n\nold\n\n{END}\n\nrest\n"
        assert insert(page, "new\n") == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"
        assert insert(insert("", "a\n"), "b\n") == insert("", "b\n")

    def test_a_table(self) -> None:
        assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]


class TestCommand:
    def test_writes_page_picture_and_rates_from_earlier_results(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "results.json").write_text(json.dumps(report()))
        bench_scaling(Choice(out=tmp_path / "docs", rates=tmp_path / "rates.json", reuse=tmp_path / "results.json"))
        page = (tmp_path / "docs" / "scaling.md").read_text()
        assert "| all held out | 10.0 % | 20.0 % |" in page
        assert "| a case | 2e+03 / 1e+03 = 2.00 |" in page
        assert "| weak | 1e6 | weighted mean |" in page
        assert page.split(BEGIN)[1].split(END)[0].strip() == capsys.readouterr().out.strip()
        assert (tmp_path / "docs" / "scaling.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "rates.json").read_text() == write_rates(shipped_rates())

    def test_measures_one_rank_of_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "DESIGN", TWO)
        monkeypatch.setattr(command, "RANKS", (1,))
        monkeypatch.setattr(command, "measure", _in_this_process)
        monkeypatch.setattr(command, "check_estimates", list)
        bench_scaling(Choice(json=tmp_path / "results.json", passes=1, rounds=2))
        found = json.loads((tmp_path / "results.json").read_text())
        assert [each["setting"] for each in found["settings"]] == ["small", "other"]
        assert all(each["measured_seconds"] > 0 < each["predicted_seconds"] for each in found["settings"])
        assert found["errors"]["other settings"][1] < 10

    def test_is_an_option_of_bench(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Choice] = []
        monkeypatch.setattr(command, "bench_scaling", asked.append)
        result = CliRunner().invoke(main, ["bench", "--scaling", "--out", "here", "--json", "there.json"])
        assert (result.exit_code, asked) == (0, [Choice(out=Path("here"), json=Path("there.json"))])
        result = CliRunner().invoke(main, ["bench", "--out", "here"])
        assert (result.exit_code, len(asked)) == (2, 1)
        assert "--scaling" in result.stderr

    @pytest.mark.parametrize("text", ["no json", "[]", '{"format": 99}'])
    def test_other_files_are_no_results(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "results.json"
        path.write_text(text)
        with pytest.raises(UserError, match=r"results\.json"):
            bench_scaling(Choice(reuse=path))


def _in_this_process(design: tuple[Setting, ...], ranks: tuple[int, ...], *, rounds: int, **_: object) -> object:
    """Measure on one rank without a launcher."""
    from tempfile import TemporaryDirectory

    from hpcfsl.parallel.communicator import SerialCommunicator
    from hpcfsl.scaling.cluster import one_node
    from hpcfsl.scaling.measure import Measurement, Observation, count
    from hpcfsl.scaling.ranks import measure_network, measure_setting

    found = []
    for setting in design:
        with TemporaryDirectory() as folder:
            measured = measure_setting(setting, rounds, Path(folder) / "run", SerialCommunicator())
        cluster = one_node(1, 2)
        found.append(Observation(setting=setting, work=count(setting), cluster=cluster, passes=(tuple(measured),)))
    return Measurement(observations=found, network={1: measure_network(SerialCommunicator())})
