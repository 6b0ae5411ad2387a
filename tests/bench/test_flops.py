from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hpcfsl.bench.flops import count_layers, training_flops
from hpcfsl.models.recurrent import Gru

LENET = nn.Sequential(
    *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
)


def test_a_perceptron_by_hand() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    # The first layer has no gradient of its input.
    assert training_flops(module, torch.zeros(1, 64)) == 2 * 2 * 64 * 32 + 3 * 2 * 32 * 10


def test_lenet_by_hand() -> None:
    forward = [28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 400 * 120, 120 * 84, 84 * 10]
    layers = count_layers(LENET, torch.zeros(1, 1, 28, 28))
    assert [layer.forward for layer in layers] == [2 * products for products in forward]
    assert [layer.name for layer in layers] == ["0", "3", "7", "9", "11"]
    assert sum(layer.training for layer in layers) == 2 * (3 * sum(forward) - forward[0])


def test_groups_of_channels_by_hand() -> None:
    module = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(36, 5))
    assert training_flops(module, torch.zeros(1, 4, 8)) == 2 * 2 * (6 * 6) * (2 * 3) + 3 * 2 * 36 * 5


def test_a_recurrent_model_by_hand() -> None:
    module = nn.Sequential(nn.Embedding(90, 8), Gru(8, 128), nn.Linear(128, 90))
    products = 80 * (3 * 128 * (8 + 128) + 128 * 90)
    # The embedding needs the gradient of its output, so nothing is saved.
    assert training_flops(module, torch.zeros(1, 80, dtype=torch.int64)) == 3 * 2 * products


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (LENET, (1, 28, 28)),
        (nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(36, 5)), (4, 8)),
        (nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(36, 3)), (2, 8, 8)),
    ],
)
def test_what_torch_counts_while_it_computes(module: nn.Module, shape: tuple[int, ...]) -> None:
    sample = torch.randn(1, *shape)
    with FlopCounterMode(display=False) as counter:
        functional.cross_entropy(module(sample), torch.zeros(1, dtype=torch.int64)).backward()
    assert training_flops(module, sample) == counter.get_total_flops()


def test_the_module_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    training_flops(module, torch.zeros(1, 3))
    assert module.training
    assert not module[0]._forward_hooks


def test_a_layer_that_it_cannot_count() -> None:
    module = nn.Sequential(nn.PReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="layer '0', a PReLU"):
        training_flops(module, torch.zeros(1, 3))
