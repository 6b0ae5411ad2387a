"""Without the compiled kernels everything works, through torch and numpy, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.zoo import zoo_model

import hpcfsl
from hpcfsl.display import print_summary
from hpcfsl.errors import ConfigError
from hpcfsl.launch import describe_machine
from hpcfsl.native import columns, library
from hpcfsl.training.executors import describe, make_executor
from hpcfsl.training.settings import TrainingSettings

Maker = Callable[..., dict[str, dict[str, Any]]]
NO_COMPILER = "not native: the package was installed without a C++ compiler"


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the package look as it does where it was installed without a compiler."""
    library.library.cache_clear()
    monkeypatch.setattr(library, "util", SimpleNamespace(find_spec=lambda name: None))
    yield
    library.library.cache_clear()


@pytest.mark.usefixtures("no_kernels")
class TestWithoutKernels:
    def test_a_run_trains_through_torch_and_says_so(
        self, tiny: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = hpcfsl.run(tiny(), out=tmp_path / "run")
        assert run.provenance["executor"] == f"stacked ({NO_COMPILER})"
        print_summary(run)
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"executor stacked ({NO_COMPILER})" in shown

    @pytest.mark.parametrize(("name", "wanted"), [("mlp", "stacked"), ("digits-cnn", "one-by-one")])
    def test_auto_takes_what_torch_is_best_at(self, name: str, wanted: str) -> None:
        made = make_executor(zoo_model(name), TrainingSettings(), torch.device("cpu"))
        assert describe(made) == f"{wanted} ({NO_COMPILER})"

    def test_who_insists_on_kernels_is_told(self) -> None:
        with pytest.raises(ConfigError, match=r"training\.executor = 'native': .*without a C\+\+ compiler.*use 'auto'"):
            make_executor(zoo_model("mlp"), TrainingSettings(executor="native"), torch.device("cpu"))

    def test_the_machine_is_described(self) -> None:
        assert library.instruction_set() == "none"
        assert not columns.available()
        assert describe_machine()["kernels"].startswith("none, so training uses torch: install a C++ compiler")
        with pytest.raises(ValueError, match="cannot run kernels for 'avx2'"):
            library.use_instruction_set("avx2")


@pytest.mark.skipif(library.library() is None, reason="the kernels were not built")
class TestWithKernels:
    def test_both_ways_learn_the_same(self, tiny: Maker, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        quick = hpcfsl.run(tiny(), out=tmp_path / "native")
        assert quick.provenance["executor"] == f"native ({library.instruction_set()})"
        request.getfixturevalue("no_kernels")
        slow = hpcfsl.run(tiny(), out=tmp_path / "torch")
        for name in ("test_loss", "train_loss"):
            assert quick.column("rounds", name) == pytest.approx(slow.column("rounds", name), rel=1e-4)

    def test_the_machine_is_described(self) -> None:
        assert library.instruction_set() in ("base", "avx2", "avx512")
        assert describe_machine()["kernels"].startswith(f"{library.instruction_set()}, in which executor 'native'")
        with pytest.raises(ValueError, match="cannot run kernels for 'sse9'"):
            library.use_instruction_set("sse9")
