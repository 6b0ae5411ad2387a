"""Broken files: ways to break a good one, and what a loader may say about it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from hpcfsl.errors import UserError


def complaint(load: Callable[[], object]) -> str:
    """Return the text of the UserError that `load` raises, empty where it raises none; nothing else may escape."""
    try:
        load()
    except UserError as error:
        text = str(error)
        assert "\n" not in text
        return text
    return ""


def broken(good: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for a good file with up to four bytes changed, a piece cut out or doubled, or any bytes."""
    place = st.integers(0, len(good) - 1)
    changed = st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4).map(lambda at: _change(good, at))
    cut = st.tuples(place, place).map(lambda ends: good[: min(ends)] + good[max(ends) :])
    doubled = st.tuples(place, place).map(lambda ends: good[: max(ends)] + good[min(ends) :])
    return st.one_of(changed, changed, cut, doubled, place.map(lambda end: good[:end]), st.binary(max_size=200))


def _change(good: bytes, changes: list[tuple[int, int]]) -> bytes:
    content = bytearray(good)
    for place, byte in changes:
        content[place] = byte
    return bytes(content)
