from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.seeding import Purpose, random_words
from hpcfsl.training import dropout
from hpcfsl.training.dropout import keep_masks

CPU = torch.device("cpu")


def make_layer(p: float = 0.3, layer: int = 2, features: tuple[int, ...] = (2, 3)) -> KeyedDropout:
    made = KeyedDropout(p, layer)
    made.features = features
    return made


def masks_of(layer: KeyedDropout, clients: list[int], steps: list[int], batch: int = 3) -> np.ndarray:
    return keep_masks(
        layer, seed=9, round=4, clients=np.array(clients), steps=np.array(steps), batch=batch, device=CPU
    ).numpy()


@given(
    st.floats(0.01, 0.99),
    st.integers(0, MAX_LAYERS - 1),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**4)), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_masks_are_those_of_the_documented_words(
    p: float, number: int, whose: list[tuple[int, int]], batch: int, features: int
) -> None:
    layer = make_layer(p, number, (features,))
    found = masks_of(layer, [client for client, _ in whose], [step for _, step in whose], batch)
    for row, (client, step) in enumerate(whose):
        words = random_words(
            9, Purpose.DROPOUT, round=4, entity=client, lane=step * 64 + number, count=batch * features
        )
        wanted = np.where(words < round(p * 2**32), 0.0, 1.0 / (1.0 - p)).astype(np.float32)
        assert np.array_equal(found[row * batch : (row + 1) * batch].ravel(), wanted)


def test_shapes_company_and_batch_size_do_not_matter() -> None:
    layer = make_layer()
    together = masks_of(layer, [3, 8], [5, 6])
    assert together.shape == (6, 2, 3)
    assert np.array_equal(together[3:], masks_of(layer, [8], [6]))
    assert np.array_equal(together[3:5], masks_of(layer, [8], [6], batch=2))
    assert not np.array_equal(together[:3], together[3:])


def test_long_masks_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer(features=(5, 7))
    whole = masks_of(layer, [3, 8], [5, 6])
    monkeypatch.setattr(dropout, "_BLOCKS", 8)
    assert np.array_equal(masks_of(layer, [3, 8], [5, 6]), whole)


def test_as_many_are_dropped_as_asked_for_and_the_mean_stays() -> None:
    mask = masks_of(make_layer(0.25, features=(40_000,)), [1], [0], batch=1)
    assert float((mask == 0).mean()) == pytest.approx(0.25, abs=0.01)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)
