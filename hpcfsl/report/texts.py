"""Numbers as people read them. A dash stands for what is unknown."""

from __future__ import annotations

import math

UNKNOWN = "–"  # noqa: RUF001 - a dash is meant
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share of 1 as a percentage; a small share never reads as none."""
    if share is None or not math.isfinite(share):
        return UNKNOWN
    least = 10.0 ** -(digits + 2)
    return f"< {100 * least:g} %" if 0 < share < least / 2 else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits; infinities as a sign."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def byte_unit(size: float) -> tuple[float, str]:
    """Return the decimal unit in which `size` bytes reads best, as (bytes in it, name)."""
    power = min(int(math.log10(max(size, 1)) // 3), len(BYTE_UNITS) - 1)
    return 1000.0**power, BYTE_UNITS[power]


def byte_size(size: float) -> str:
    """Return a number of bytes in decimal units."""
    factor, unit = byte_unit(size)
    return f"{size:.0f} {unit}" if factor == 1 else f"{size / factor:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time in the unit that reads best."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def join_words(words: list[str]) -> str:
    """Return words as an enumeration: "one", "one and two", "one, two and three"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
