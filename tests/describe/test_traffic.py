from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.made import small_config, small_world

from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.describe.traffic import DOWN, UP, configured_traffic, example_traffic, markdown, short_markdown
from hpcfsl.training.protocols import WireBytes, protocols


@pytest.mark.parametrize("protocol", ["fedavg", "splitfed-v1", "parallel"])
def test_a_configurations_traffic_is_that_of_its_run(protocol: str) -> None:
    config = small_config(training={"batch_size": 4, "local_epochs": 3})
    (found,) = configured_traffic(config, (protocol,))
    world = small_world(resolve({**config.tree(), "protocol": {"name": protocol}}))
    clients = np.arange(world.population.num_clients)
    wire = world.wire_bytes(world.population.train_counts(clients), clients)
    assert (found.model, found.protocol, found.cut) == ("mlp", protocol, world.model.cut)
    assert found.means == {kind: getattr(wire, kind).mean() for kind in (*UP, *DOWN)}
    assert (found.up, found.down) == pytest.approx((wire.up.mean(), wire.down.mean()))


def test_every_kind_of_bytes_is_counted_once() -> None:
    assert sorted((*UP, *DOWN)) == sorted(WireBytes.__dataclass_fields__)


def test_scaffold_sends_its_variates_down_too() -> None:
    plain, scaffold = (
        next(configured_traffic(small_config(training={"batch_size": 4, "drift": drift}), ()))
        for drift in ("none", "scaffold")
    )
    assert scaffold.means["model_down"] == 2 * plain.means["model_down"]
    assert scaffold.up == plain.up


def test_examples_of_models_under_compression() -> None:
    base = resolve({"compression": {"rule": "int8", "gradients": False}})
    rows = list(example_traffic(base, ("digits-cnn", "mlp"), ("fedavg", "splitfed-v1"), 10))
    digits = {row.protocol: row for row in rows if row.model == "digits-cnn"}
    # 16 maps of 8 x 8, a byte each and four for the scale.
    assert digits["splitfed-v1"].means["smashed_up"] == 10 * (16 * 64 + 4)
    assert digits["splitfed-v1"].means["gradients_down"] == 10 * 16 * 64 * 4
    assert "sends no smashed data" in digits["fedavg"].problem
    text = markdown(rows)
    assert text.count("\n| mlp |") == 1
    assert "digits-cnn, fedavg: compression.rule = 'int8'" in text
    assert short_markdown(rows).splitlines()[2].startswith("| digits-cnn, relu1 | - | ")


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(small_config().to_toml())
    called = CliRunner().invoke(main, ["bytes", str(path), "--protocol", "fedavg", "--protocol", "splitfed-v1"])
    assert called.exit_code == 0
    lines = called.output.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["fedavg", "splitfed-v1"]
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    short = CliRunner().invoke(main, ["bytes", "--model", "mlp", "--samples", "7", "--short"])
    assert short.output.splitlines()[0] == f"| model, cut | {' | '.join(protocols.names())} |"
    assert len(short.output.splitlines()) == 3
    for option, name in (("--protocol", "fedavgg"), ("--model", "mlpp")):
        refused = CliRunner().invoke(main, ["bytes", option, name])
        assert refused.exit_code == 2
        assert refused.output.count("\n") == 1


def test_the_page_shows_what_the_command_prints() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    models = ["--model", "digits-cnn", "--model", "gru-lm", "--model", "tcn"]
    printed = CliRunner().invoke(main, ["bytes", "--short", "--samples", "100", *models]).output.splitlines()
    assert len(printed) == 5
    assert [line for line in printed if line not in page.splitlines()] == []
