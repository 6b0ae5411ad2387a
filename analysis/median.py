"""Time of the coordinate median of a group: the package's sorting network against torch's sort.

Prints one line a group size; the two take turns and must agree bit for bit. Takes ten seconds:

    python analysis/median.py [--params 44426] [--clients 7 25 50]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from hpcfsl.defense.median import coordinate_median

REPETITIONS = 9


def sorted_median(updates: torch.Tensor) -> torch.Tensor:
    """Return the median of each coordinate by sorting it, [params]."""
    ordered, middle = updates.sort(dim=0).values, len(updates) // 2
    return ordered[middle] if len(updates) % 2 else ordered[middle - 1] * 0.5 + ordered[middle] * 0.5


def seconds(action: Callable[[torch.Tensor], torch.Tensor], updates: torch.Tensor) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    action(updates)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=int, default=44_426, help="parameters of the model (LeNet-5 by default)")
    parser.add_argument("--clients", type=int, nargs="+", default=[7, 25, 50], help="clients of the group")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| clients | network, ms | sort, ms | ratio |\n|---|---|---|---|")
    for clients in given.clients:
        updates = torch.randn(clients, given.params)
        assert torch.equal(coordinate_median(updates), sorted_median(updates))
        pairs = [(seconds(coordinate_median, updates), seconds(sorted_median, updates)) for _ in range(REPETITIONS)]
        network, sort = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"| {clients} | {network:.1f} | {sort:.1f} | {sort / network:.1f} |")


if __name__ == "__main__":
    main()
