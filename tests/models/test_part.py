from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.models.layout import Layout
from hpcfsl.models.part import Part

layouts = st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8)


@given(layouts, st.lists(st.integers(1, 3), max_size=2))
def test_a_part_and_the_rest_are_all_in_the_order_of_the_layout(
    tensors: list[tuple[int, bool]], lead: list[int]
) -> None:
    names = tuple(f"client.{place}" for place in range(len(tensors)))
    layout = Layout(names=names, shapes=tuple((size,) for size, _ in tensors), client_size=sum(s for s, _ in tensors))
    part = Part(layout, [name for name, (_, chosen) in zip(names, tensors, strict=True) if chosen])
    which = torch.tensor([chosen for size, chosen in tensors for _ in range(size)])
    vectors = torch.randn(*lead, layout.size)
    assert (part.size, part.rest_size) == (int(which.sum()), int((~which).sum()))
    assert torch.equal(part.take(vectors), vectors[..., which])
    assert torch.equal(part.take_rest(vectors), vectors[..., ~which])
    built = torch.full_like(vectors, torch.nan)
    part.put(built, part.take(vectors))
    part.put_rest(built, part.take_rest(vectors))
    assert torch.equal(built, vectors)
    part.put(built, 0.0)
    assert torch.equal(built, torch.where(which, 0.0, vectors))
    assert part.names == tuple(name for name, (_, chosen) in zip(names, tensors, strict=True) if chosen)
