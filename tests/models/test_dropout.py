"""Dropout layers of a split model: swapped, numbered, measured; what cannot be keyed is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpcfsl.errors import ConfigError
from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.models.recurrent import Gru
from hpcfsl.models.split import cut_points, split


class Branching(nn.Module):
    """Not a chain, so it is traced; `drop` stands between its two layers."""

    def __init__(self, calls: int = 1) -> None:
        super().__init__()
        self.first, self.gru, self.drop, self.last = nn.Linear(6, 6), Gru(2, 4), nn.Dropout(0.5), nn.Linear(4, 3)
        self.calls = calls

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.gru(self.first(inputs).reshape(-1, 3, 2))
        for _ in range(self.calls):
            hidden = self.drop(hidden)
        return self.last(hidden.mean(1))


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.5), nn.Linear(4, 6), nn.Sequential(nn.ReLU(), nn.Dropout(0.25)), nn.Dropout(0.0), nn.Linear(6, 2)
    )


def layers_of(model: nn.Module) -> list[KeyedDropout]:
    return [layer for layer in model.modules() if isinstance(layer, KeyedDropout)]


def test_every_dropout_is_swapped_numbered_and_measured():
    module = chain()
    model = split(module, "1", (4,))
    found = layers_of(model.whole)
    assert [(layer.p, layer.layer, layer.features) for layer in found] == [(0.5, 0, (4,)), (0.25, 1, (6,))]
    assert layers_of(model.client_half) == found[:1]
    assert layers_of(model.server_half) == found[1:]
    assert isinstance(module[0], nn.Dropout)
    assert repr(found[1]) == "KeyedDropout(p=0.25, layer=1)"


def test_a_dropout_may_be_the_whole_of_a_cut_and_no_mask_means_no_dropout():
    model = split(chain(), "2.1", (4,))
    weights, inputs = model.layout.unflatten(model.initial_weights(1)), torch.randn(5, 4)
    assert torch.equal(model.forward(weights, inputs), model.forward(weights, inputs))


def test_masks_count_in_training_only():
    model = split(Branching(), "gru", (6,))
    (layer,) = layers_of(model.whole)
    assert layers_of(model.server_half) == [layer]
    assert layer.features == (3, 4)
    weights, inputs = model.layout.unflatten(model.initial_weights(1)), torch.randn(5, 6)
    plain = model.forward(weights, inputs)
    layer.mask = torch.zeros(5, 3, 4)
    assert torch.equal(model.forward(weights, inputs), weights["server.last.bias"].expand(5, 3))
    layer.eval()
    assert torch.equal(model.forward(weights, inputs), plain)


def test_a_recurrent_layer_and_a_dropout_stay_whole_when_traced():
    assert cut_points(Branching()) == ["first", "gru", "drop"]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Branching(calls=2), "model = 'drop': must be called once"),
        (Branching(calls=0), "model = 'drop': must be called once"),
        (
            nn.Sequential(nn.Linear(6, 3), *[nn.Dropout(0.1) for _ in range(MAX_LAYERS + 1)]),
            "model = '65 dropout layers': use at most 64",
        ),
        (
            nn.Sequential(nn.Linear(6, 3), nn.GRU(3, 3, num_layers=2, dropout=0.1)),
            "model = '1 (GRU)': drops by random numbers that no key decides; set dropout=0",
        ),
    ],
)
def test_what_has_no_mask_of_its_own_is_refused(module, text):
    with pytest.raises(ConfigError) as caught:
        split(module, "none", (6,))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
