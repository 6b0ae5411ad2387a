from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.models.layout import Layout

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


def layout_of(client: list[tuple[int, ...]], server: list[tuple[int, ...]]) -> Layout:
    names = [f"client.{i}" for i in range(len(client))] + [f"server.{i}" for i in range(len(server))]
    client_size = sum(torch.Size(shape).numel() for shape in client)
    return Layout(names=tuple(names), shapes=(*client, *server), client_size=client_size)


@given(client=SHAPES, server=SHAPES, lead=st.lists(st.integers(1, 3), max_size=2))
def test_flatten_undoes_unflatten(client, server, lead):
    layout = layout_of(client, server)
    vector = torch.arange(float(torch.Size(lead).numel() * layout.size)).reshape(*lead, layout.size)
    tensors = layout.unflatten(vector)
    assert [tuple(t.shape) for t in tensors.values()] == [(*lead, *shape) for shape in layout.shapes]
    assert torch.equal(layout.flatten(tensors), vector)


@given(client=SHAPES, server=SHAPES)
def test_slices_tile_the_vector_and_halves_are_views(client, server):
    layout = layout_of(client, server)
    vector = torch.arange(float(layout.size)).expand(2, -1)
    pieces = [vector[..., layout.slices[name]] for name in layout.names]
    assert torch.equal(torch.cat(pieces, dim=-1), vector)
    assert [layout.slices[name].start for name in layout.names] == list(layout.offsets)
    halves = [layout.client_half(vector), layout.server_half(vector)]
    assert torch.equal(torch.cat(halves, dim=-1), vector)
    assert halves[0].shape == (2, layout.client_size)


def test_unflatten_gives_views_of_the_vector():
    layout = layout_of([(2, 3)], [()])
    vector = torch.zeros(layout.size)
    tensors = layout.unflatten(vector)
    tensors["client.0"][1, 2] = 5
    tensors["server.0"].fill_(7)
    assert vector.tolist() == [0, 0, 0, 0, 0, 5, 7]


def test_unflatten_views_columns_of_a_transposed_matrix():
    layout = layout_of([(2, 2)], [(1,)])
    vector = torch.arange(10.0).reshape(5, 2).T
    assert torch.equal(layout.flatten(layout.unflatten(vector)), vector)


def test_wrong_sizes_are_refused():
    layout = layout_of([(2, 3)], [(4,)])
    with pytest.raises(ValueError, match="the layout holds 10 numbers, the vector 9"):
        layout.unflatten(torch.zeros(9))
    tensors = layout.unflatten(torch.zeros(10))
    with pytest.raises(ValueError, match=r"client\.0 has shape \[3, 2\]"):
        layout.flatten({**tensors, "client.0": torch.zeros(3, 2)})


def test_layouts_that_contradict_themselves_are_refused():
    with pytest.raises(AssertionError):
        Layout(names=("a", "a"), shapes=((1,), (1,)), client_size=1)
    with pytest.raises(AssertionError):
        Layout(names=("a", "b"), shapes=((2,), (2,)), client_size=1)
