"""What a page is made of: sections of plots, tables and notes. The template knows how each looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing with the words that go with it."""

    kind: ClassVar[str] = "plot"
    title: str
    """What is drawn; also read aloud in place of the drawing."""
    svg: str
    """Inline SVG, safe to put into a page as it is."""
    caption: str
    """What to look for, in plain words."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts."""

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    num_text_columns: int = 1
    """Leading columns that hold words; the others hold numbers and are set flush right."""
    highlighted: frozenset[int] = frozenset()
    """Numbers of rows to point out."""
    folded: bool = False
    """Whether only the title is shown until it is clicked."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence in place of something that cannot be shown."""

    kind: ClassVar[str] = "note"
    text: str


Block = Plot | Table | Note


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading.

    Args:
        key: Anchor within the page.
        title: Heading.
        lead: What this part answers, one or two sentences.
        blocks: What it shows, in order.
    """

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]
