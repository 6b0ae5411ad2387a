"""Which models the compiled engine takes, which it refuses and why, and chains that nobody wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.chains import Chain, assert_close, reference, runnable, train_natively, using
from support.random_chains import CHAIN_KINDS, random_chain
from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.launch import launch
from hpcfsl.models.recurrent import Gru
from hpcfsl.models.split import split
from hpcfsl.native.library import library
from hpcfsl.training.native import executor
from hpcfsl.training.native.binding import NativeEngine
from hpcfsl.training.native.executor import why_not
from hpcfsl.training.native.layers import Plan
from hpcfsl.training.native.program import compile_program
from hpcfsl.training.settings import TrainingSettings

pytestmark = pytest.mark.skipif(library() is None, reason="the kernels were not built")

TRAINING = st.builds(
    TrainingSettings,
    batch_size=st.integers(1, 9),
    local_epochs=st.integers(1, 2),
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    proximal=st.sampled_from([0.0, 1.0]),
    clip_norm=st.sampled_from([0.0, 0.5]),
)


@pytest.mark.parametrize("kind", CHAIN_KINDS)
@examples(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), settings=TRAINING, counts=st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_random_chains(kind: str, data: st.DataObject, settings: TrainingSettings, counts: list[int]) -> None:
    chain = random_chain(data.draw, kind)
    model, samples = chain.model(), chain.data(tuple(counts), (4, 9, 77)[: len(counts)])
    assert why_not(model) is None
    wanted = reference(model, samples, settings)
    for name in runnable():
        with using(name):
            assert_close(model, train_natively(model, samples, settings).updates, wanted)


IMAGE, LINE, ROW, TEXT = (3, 6, 6), (3, 6), (6,), (4,)


def image(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features(IMAGE, *layers), 3))


def line(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features(LINE, *layers), 3))


def features(shape: tuple[int, ...], *layers: nn.Module) -> int:
    return int(nn.Sequential(*layers)(torch.zeros(1, *shape))[0].numel())


class Custom(nn.Module):
    """A module whose `forward` is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._forward(self, inputs)


def hooked() -> nn.Module:
    layer = nn.Linear(6, 3)
    layer.register_forward_hook(lambda _, __, output: 2 * output)
    return nn.Sequential(layer)


def tied() -> nn.Module:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


def twice(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.ReLU(), layer)


def linears(**sizes: int) -> dict[str, nn.Module]:
    return {name: nn.Linear(6, size) for name, size in sizes.items()}


# Name: module, shape of a sample, what `why_not` says.
REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "layer": (lambda: image(nn.Conv2d(3, 2, 1), nn.GELU()), IMAGE, "layer GELU"),
    "groups": (lambda: image(nn.Conv2d(3, 6, 1, groups=3)), IMAGE, "groups=3"),
    "padding-mode": (lambda: image(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")), IMAGE, "reflect"),
    "padding-by-name": (lambda: image(nn.Conv2d(3, 2, 3, padding="same")), IMAGE, "padding=same"),
    "padding-beyond-kernel": (lambda: image(nn.Conv2d(3, 2, 2, padding=2)), IMAGE, "padding=(2, 2)"),
    "ceil": (lambda: image(nn.MaxPool2d(4, 4, ceil_mode=True)), IMAGE, "ceil_mode=True"),
    "ceil-average": (lambda: image(nn.AvgPool2d(4, 4, ceil_mode=True)), IMAGE, "layer AvgPool2d"),
    "uncounted-padding": (lambda: image(nn.AvgPool2d(2, padding=1, count_include_pad=False)), IMAGE, "AvgPool2d"),
    "divisor": (lambda: image(nn.AvgPool2d(2, divisor_override=3)), IMAGE, "layer AvgPool2d"),
    "adaptive-grid": (lambda: image(nn.AdaptiveAvgPool2d(2)), IMAGE, "output_size=2"),
    "adaptive-as-it-is": (lambda: image(nn.AdaptiveAvgPool2d((None, 1))), IMAGE, "(None, 1)"),
    "max-of-rows": (lambda: line(nn.MaxPool2d(2)), LINE, "layer MaxPool2d"),
    "average-of-rows": (lambda: line(nn.Conv1d(3, 4, 3), nn.AvgPool2d(2)), LINE, "layer AvgPool2d"),
    "adaptive-of-rows": (lambda: line(nn.Conv1d(3, 4, 3), nn.AdaptiveMaxPool2d(1)), LINE, "layer AdaptiveMaxPool2d"),
    "flatten-from-2": (lambda: line(nn.Conv1d(3, 4, 3), nn.Flatten(2)), LINE, "Flatten(start_dim=2"),
    "linear-on-image": (lambda: image(nn.ReLU(), nn.Linear(6, 4)), IMAGE, "layer Linear"),
    "group-norm-of-row": (lambda: nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(2, 4), nn.Linear(4, 3)), ROW, "flat [4]"),
    "norm-of-image": (lambda: image(nn.LayerNorm([3, 6, 6])), IMAGE, "layer LayerNorm"),
    "norm-without-scale": (lambda: image(nn.GroupNorm(3, 3, affine=False)), IMAGE, "affine=False"),
    "norm-without-bias": (lambda: nn.Sequential(nn.LayerNorm(6, bias=False), nn.Linear(6, 3)), ROW, "layer LayerNorm"),
    "padding-symbol": (lambda: nn.Sequential(nn.Embedding(6, 3, padding_idx=0), nn.Flatten(), nn.Linear(12, 3)), TEXT,
                       "padding_idx=0"),
    "renormed": (lambda: nn.Sequential(nn.Embedding(6, 3, max_norm=1.0), nn.Flatten(), nn.Linear(12, 3)), TEXT,
                 "max_norm=1.0"),
    "hooks": (hooked, ROW, "layer Linear with hooks"),
    "tied": (tied, ROW, "parameter"),
    "one-layer-twice": (lambda: twice(nn.Linear(6, 6)), ROW, "is used 2 times"),
    "bare": (lambda: nn.Linear(6, 3), ROW, "no straight line"),
    "unused": (lambda: Custom(lambda own, x: own.used(x), **linears(used=3, unused=3)), ROW, "unused.weight is used 0"),
    "branches": (lambda: Custom(lambda own, x: own.a(x) + own.b(x), **linears(a=3, b=3)), ROW, "no straight line"),
    "control-flow": (lambda: Custom(lambda own, x: own.a(x) if x.sum() > 0 else own.b(x), **linears(a=3, b=3)), ROW,
                     "control flow"),
    "function": (lambda: Custom(lambda own, x: functional.leaky_relu(own.a(x)), **linears(a=3)), ROW,
                 "call of leaky_relu"),
    "method": (lambda: Custom(lambda own, x: own.a(x).softmax(1), **linears(a=3)), ROW, "call of softmax"),
    "flatten-nothing": (lambda: Custom(lambda own, x: own.a(x).flatten(end_dim=0), **linears(a=3)), ROW,
                        "Flatten(start_dim=0, end_dim=0)"),
    "flatten-all": (lambda: Custom(lambda own, x: torch.flatten(own.a(x)).reshape(-1, 3), **linears(a=3)), ROW,
                    "call of reshape"),
    "named-input": (lambda: Custom(lambda own, x: torch.tanh(input=own.a(x)), **linears(a=3)), ROW, "call of tanh ("),
    "image-out": (lambda: Custom(lambda own, x: own.a(x).mean((2, 3)), a=nn.Conv2d(3, 3, 1)), IMAGE, "call of mean"),
    "many-dimensions": (lambda: nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)), (2, 2, 2, 2),
                        "samples of shape [2, 2, 2, 2]"),
    "rare-dropout": (lambda: nn.Sequential(nn.Dropout(1 - 1e-12), nn.Linear(6, 3)), ROW, "KeyedDropout"),
    "no-features": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(0, 3)), (2, 0), "layer Flatten on nothing"),
    "no-classes": (lambda: nn.Sequential(nn.Linear(6, 0)), ROW, "its output is flat [0]"),
    "layers": (lambda: nn.Sequential(nn.Linear(6, 3), *(nn.ReLU() for _ in range(256))), ROW, "257 layers"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_refuses(name: str) -> None:
    build, shape, reason = REFUSED[name]
    model = split(build(), "none", shape, vocabulary=6 if shape == TEXT else 0)
    assert reason in (why_not(model) or "it is taken")


# Name: module, shape of a sample.
TAKEN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functions": (
        lambda: Custom(
            lambda own, x: own.head(torch.flatten(functional.max_pool2d(torch.tanh(own.conv(x)), 2, 1).relu(), 1)),
            conv=nn.Conv2d(3, 4, 3),
            head=nn.Linear(36, 3),
        ),
        IMAGE,
    ),
    "pooling-functions": (
        lambda: Custom(
            lambda own, x: own.head(
                functional.adaptive_avg_pool2d(
                    functional.avg_pool2d(functional.relu(own.conv(x), inplace=True), 2, stride=1, padding=1), 1
                ).flatten(start_dim=1)
            ),
            conv=nn.Conv2d(3, 4, 3),
            head=nn.Linear(4, 3),
        ),
        IMAGE,
    ),
    "line-functions": (
        lambda: Custom(
            lambda own, x: own.head(functional.avg_pool1d(functional.max_pool1d(own.conv(x), 2), 2).flatten(1)),
            conv=nn.Conv1d(3, 4, 3),
            head=nn.Linear(4, 3),
        ),
        LINE,
    ),
    "without-consequence": (lambda: Custom(lambda own, x: [own.a(x), x.exp()][0], **linears(a=3)), ROW),
    "methods": (lambda: Custom(lambda own, x: own.a(x).sigmoid().tanh().flatten(1), **linears(a=3)), ROW),
    "inside-others": (lambda: nn.Sequential(nn.Sequential(nn.Identity(), nn.Linear(6, 5)), nn.Linear(5, 3)), ROW),
    "in-place": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), ROW),
    "only-flattened": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Flatten(), nn.Identity()), ROW),
    "all-layers": (lambda: nn.Sequential(nn.Linear(6, 3), *(nn.ReLU() for _ in range(255))), ROW),
    "gru-of-one": (lambda: nn.Sequential(Gru(3, 1), nn.Flatten(), nn.Linear(6, 3)), (6, 3)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_odd_models_that_the_engine_takes(name: str) -> None:
    build, shape = TAKEN[name]
    torch.manual_seed(0)
    model = split(build(), "none", shape)
    assert why_not(model) is None
    settings, data = TrainingSettings(batch_size=2, learning_rate=0.3), Chain(layers=list, shape=shape).data()
    assert_close(model, train_natively(model, data, settings).updates, reference(model, data, settings))


def test_a_batch_beyond_all_memory_is_a_clean_error() -> None:
    model = split(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), "none", (6,))
    program = compile_program(model, Plan(batch=1 << 40, seen=1 << 40, rate=0.0, server_rate=0.0))
    with pytest.raises(MemoryError, match=r"training\.batch_size"):
        NativeEngine(program.words)


def test_a_run_that_does_not_fit_says_so_in_one_line(
    tiny: Callable[..., dict[str, dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compiled = executor.compile_program
    monkeypatch.setattr(executor, "compile_program", lambda model, plan: compiled(model, replace(plan, batch=1 << 40)))
    config = tmp_path / "tiny.toml"
    config.write_text(tomli_w.dumps(tiny()))
    assert launch(config, tmp_path / "run", ()) == 2
    told = [line for line in capfd.readouterr().err.splitlines() if "AddressSanitizer" not in line]
    assert len(told) == 1
    assert told[0].startswith(
        "hpcfsl: out of memory while data and model were made (the model's activations do not fit"
    )
