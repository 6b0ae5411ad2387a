"""What the results say: medians, ratios inside repeats, shares of the machine's speed.

Everything is computed from the tables of a JSON file, so that a table can be printed again without measuring again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A number measured in several repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Ours at its best over another side at its best, repeat by repeat.

    Attributes:
        side: The other side.
        ours: Name of our best contender.
        other: Name of the other side's best.
        value: The ratio.
    """

    side: str
    ours: str
    other: str
    value: Spread


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contender in a table; what is not known is None.

    Attributes:
        name: The contender.
        rate: Clients a second.
        flops_per_second: Operations a second, by the count of `hpcfsl.bench.flops`.
        of_peak: Their share of the matrix product's on as many cores.
        memory_bytes: Peak resident memory of the largest process.
        joules: Energy for a client.
        ready_seconds: From the start of the program to the first round.
    """

    name: str
    rate: Spread
    flops_per_second: float | None
    of_peak: Spread | None
    memory_bytes: float | None
    joules: float | None
    ready_seconds: float | None


def spread(values: list[float]) -> Spread:
    """Return median, least and largest of some values."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def best(result: Row, side: str) -> Row | None:
    """Return the contender of a side with the highest median rate, or None where it has none."""
    rows = [row for row in result["contenders"] if row["side"] == side]
    return max(rows, key=lambda row: statistics.median(row["series"]["rate"]), default=None)


def ratios(result: Row) -> list[Ratio]:
    """Return our best over each other side's best."""
    found = []
    ours = best(result, "ours")
    for side in ("pfl", "flower", "pair"):
        other = best(result, side)
        if ours is not None and other is not None:
            pairs = zip(ours["series"]["rate"], other["series"]["rate"], strict=True)
            value = spread([mine / theirs for mine, theirs in pairs])
            found.append(Ratio(side=side, ours=ours["name"], other=other["name"], value=value))
    return found


def lines(result: Row) -> list[Line]:
    """Return one line a contender; the matrix product itself has none."""
    peaks = {row["processes"]: row["series"]["rate"] for row in result["contenders"] if row["side"] == "gemm"}
    return [_line(row, result, peaks) for row in result["contenders"] if row["side"] != "gemm"]


def peak_rates(result: Row) -> dict[int, float]:
    """Return the median speed of the matrix product by number of processes, operations a second."""
    return {
        row["processes"]: statistics.median(row["series"]["rate"])
        for row in result["contenders"]
        if row["side"] == "gemm"
    }


def _line(row: Row, result: Row, peaks: dict[int, list[float]]) -> Line:
    series, flops = row["series"], result.get("flops_per_client")
    rate = spread(series["rate"])
    # On a GPU there is one speed, whoever shares it.
    peak = peaks.get(row["processes"] * row["threads"], next(iter(peaks.values())) if len(peaks) == 1 else None)
    known = flops is not None and peak is not None
    shares = [flops * mine / most for mine, most in zip(series["rate"], peak or [], strict=True)] if known else []
    return Line(
        name=row["name"],
        rate=rate,
        flops_per_second=None if flops is None else flops * rate.median,
        of_peak=spread(shares) if shares else None,
        memory_bytes=_median([max(sizes) for sizes in series["peak_memory_bytes"] if sizes]),
        joules=_median(series["joules_per_unit"]),
        ready_seconds=_median(series["ready_seconds"]),
    )


def _median(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None
