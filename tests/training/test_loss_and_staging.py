from __future__ import annotations

import numpy as np
import torch

from hpcfsl.training.loss import mean_loss, sample_losses
from hpcfsl.training.staging import Fetched, Stager
from hpcfsl.training.updates import LocalData


def test_the_loss_of_a_class_for_each_sample() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    shares = logits.double().softmax(dim=1)
    wanted = [-float(shares[row, target].log()) for row, target in enumerate(targets)]
    np.testing.assert_allclose(sample_losses(logits, targets), wanted, rtol=1e-5)
    np.testing.assert_allclose(mean_loss(logits, targets), np.mean(wanted), rtol=1e-5)


def test_the_loss_of_a_class_at_each_position_is_their_mean() -> None:
    logits, targets = torch.randn(4, 5, 3), torch.randint(0, 3, (4, 5))
    found = sample_losses(logits, targets)
    for row in range(4):
        np.testing.assert_allclose(found[row], sample_losses(logits[row], targets[row]).mean(), rtol=1e-5)
    np.testing.assert_allclose(mean_loss(logits, targets), found.mean(), rtol=1e-5)


class Watched(Stager):
    """Writes down what is fetched and handed over when."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.log: list[str] = []

    def fetch(self, data: LocalData) -> Fetched:
        self.log.append(f"fetch {data.clients[0]}")
        return super().fetch(data)

    def hand_over(self, fetched: Fetched) -> LocalData:
        self.log.append(f"use {fetched.data.clients[0]}")
        return super().hand_over(fetched)


def make_data(clients: int) -> LocalData:
    counts = np.arange(clients) + 1
    total = int(counts.sum())
    inputs = torch.arange(2.0 * total).view(total, 2)
    return LocalData(clients=np.arange(clients), counts=counts, inputs=inputs, targets=torch.arange(total))


def test_each_chunk_is_fetched_before_the_one_before_is_used() -> None:
    stager = Watched()
    for chunk in stager.chunks(make_data(5), 2):
        stager.log.append(f"train {chunk.clients[0]}")
    wanted = "fetch 0, fetch 2, use 0, train 0, fetch 4, use 2, train 2, use 4, train 4"
    assert ", ".join(stager.log) == wanted


def test_chunks_are_the_whole_group_in_order() -> None:
    data = make_data(5)
    for size in (1, 2, 5, 9):
        pieces = list(Stager(torch.device("cpu")).chunks(data, size))
        assert np.concatenate([piece.counts for piece in pieces]).tolist() == data.counts.tolist()
        assert torch.equal(torch.cat([piece.inputs for piece in pieces]), data.inputs)
        assert torch.equal(torch.cat([piece.targets for piece in pieces]), data.targets)
    assert len(list(Stager(torch.device("cpu")).chunks(data, 2))) == 3
