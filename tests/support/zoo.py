"""Small models of every kind of layer, with data for them, for tests of local training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hpcfsl.models import models
from hpcfsl.models.recurrent import Gru
from hpcfsl.models.split import SplitModel, split
from hpcfsl.training.reference import train_client
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData

torch.set_num_threads(1)  # as in a run

CLASSES, SYMBOLS, POSITIONS = 3, 7, 5
RAGGED, CLIENTS = (5, 1, 8, 3), (2, 3, 7, 11)


class Block(nn.Module):
    """A transformer block over 5 positions, with a causal mask and the mean of all positions at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, 8)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, CLASSES)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(POSITIONS))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens)
        normed = self.norm(hidden)
        hidden = hidden + self.attention(normed, normed, normed, attn_mask=self.mask, need_weights=False)[0]
        hidden = hidden + self.wide(hidden)
        return self.head(hidden.mean(dim=1))


class Residual(nn.Module):
    """Convolutions in one dimension with a shortcut, and a function of torch instead of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(2, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.conv2 = nn.Conv1d(4, 4, 3, padding="same", groups=2, padding_mode="circular")
        self.head = nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.conv1(inputs)))
        hidden = hidden + torch.tanh(self.conv2(hidden))
        return self.head(hidden.amax(dim=2))


class LastState(nn.Module):
    """torch's own GRU, of two layers, without biases; the class of the last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 6, num_layers=2, bias=False, batch_first=True)
        self.norm = nn.RMSNorm(6)
        self.head = nn.Linear(6, CLASSES, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, last = self.gru(inputs)
        return self.head(self.norm(outputs[:, -1] + last[0]))


class Scaled(nn.Module):
    """A parameter of the module's own, which no stacked layer knows; `torch.func` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.hidden = nn.Linear(6, 5)
        self.head = nn.Linear(5, CLASSES)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(inputs * self.scale)))


class Branching(nn.Module):
    """Control flow on values: nothing can stack it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.hidden(inputs)
        return self.head(torch.relu(hidden) if float(hidden.detach().sum()) > 0 else torch.tanh(hidden))


def _next_symbol() -> nn.Module:
    return nn.Sequential(
        OrderedDict(embed=nn.Embedding(SYMBOLS, 4), gru=Gru(4, 6), drop=nn.Dropout(0.3), linear=nn.Linear(6, SYMBOLS))
    )


def _dropouts() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(27, 3),
    )


def _shipped(name: str, shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: models.parse({"name": name}).build(shape, CLASSES)


# Name: module, shape of a sample, where it is cut.
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "mlp": (_shipped("mlp", (6,)), (6,), "relu1"),
    "digits-cnn": (_shipped("digits-cnn", (1, 8, 8)), (1, 8, 8), "relu1"),
    "lenet5": (_shipped("lenet5", (1, 28, 28)), (1, 28, 28), "pool1"),
    "cifar-cnn": (_shipped("cifar-cnn", (3, 8, 8)), (3, 8, 8), "relu2"),
    "residual": (Residual, (2, 6), "none"),
    "next-symbol": (_next_symbol, (POSITIONS,), "gru"),
    "last-state": (LastState, (4, 3), "norm"),
    "block": (Block, (POSITIONS,), "embed"),
    "dropouts": (_dropouts, (1, 8, 8), "2"),
    "scaled": (Scaled, (6,), "none"),
    "branching": (Branching, (6,), "none"),
}
TOKENS, EACH_POSITION = ("next-symbol", "block"), ("next-symbol",)


def zoo_model(name: str, cut: str | None = None) -> SplitModel:
    build, shape, usual = ZOO[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build()
    return split(
        module,
        cut or usual,
        shape,
        target_shape=(POSITIONS,) if name in EACH_POSITION else (),
        vocabulary=SYMBOLS if name in TOKENS else 0,
    )


def zoo_data(name: str, counts: tuple[int, ...] = RAGGED, clients: tuple[int, ...] = CLIENTS) -> LocalData:
    rng = np.random.default_rng(0)
    shape, total = ZOO[name][1], sum(counts)
    tokens = rng.integers(0, SYMBOLS, (total, *shape))
    numbers = rng.normal(size=(total, *shape)).astype(np.float32)
    targets = tokens[:, ::-1].copy() if name in EACH_POSITION else rng.integers(0, CLASSES, total)
    return LocalData(
        clients=np.array(clients),
        counts=np.array(counts),
        inputs=torch.from_numpy(tokens if name in TOKENS else numbers),
        targets=torch.from_numpy(targets),
    )


def zoo_reference(model: SplitModel, data: LocalData, settings: TrainingSettings, *, seed: int, round: int) -> Tensor:
    """Return the updates of the slow reference, [clients, params]."""
    start, rows = model.initial_weights(1), []
    for row, client in enumerate(data.clients):
        own = slice(int(data.starts[row]), int(data.starts[row] + data.counts[row]))
        inputs, targets = data.inputs[own], data.targets[own]
        rows.append(train_client(model, start, inputs, targets, settings, seed=seed, round=round, client=int(client)))
    return torch.stack(rows)
