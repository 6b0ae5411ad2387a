from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.errors import UserError
from hpcfsl.parallel.alike import change_since, describe_process, mix_of_ranks, ranges, require_same

ALIKE = {"hpcfsl": "1.0", "processor": "Fast 9000", "MPI": "Open MPI"}


class TestRanks:
    def test_that_are_alike_are_not_warned_about(self) -> None:
        assert mix_of_ranks([ALIKE] * 5) is None

    def test_that_differ_are_named_with_what_they_have(self) -> None:
        other = {**ALIKE, "processor": "Slow 1000"}
        assert mix_of_ranks([ALIKE, ALIKE, other, ALIKE, other]) == (
            "the ranks differ, which may change bits of the result: "
            "processor: Fast 9000 on ranks 0 to 1, 3, Slow 1000 on ranks 2, 4"
        )

    def test_what_a_rank_does_not_have_is_none(self) -> None:
        found = mix_of_ranks([ALIKE, {"hpcfsl": "1.0", "MPI": "Open MPI"}])
        assert found is not None
        assert found.endswith("processor: Fast 9000 on rank 0, none on rank 1")


class TestStarts:
    def test_on_the_same_are_not_warned_about(self) -> None:
        assert change_since(ALIKE, ALIKE) is None

    def test_another_mpi_is_free(self) -> None:
        assert change_since(ALIKE, {**ALIKE, "MPI": "none"}) is None

    def test_what_an_older_checkpoint_does_not_say_is_not_compared(self) -> None:
        assert change_since({}, ALIKE) is None

    def test_on_something_else_are(self) -> None:
        assert change_since(ALIKE, {**ALIKE, "processor": "Slow 1000"}) == (
            "continued with something else, which may change bits of the result: "
            "processor: Fast 9000 then, Slow 1000 now"
        )


@given(st.sets(st.integers(0, 30), min_size=1))
def test_ranges_name_each_rank_once(ranks: set[int]) -> None:
    text = ranges(sorted(ranks)).removeprefix("ranks ").removeprefix("rank ")
    listed, _, more = text.partition(" and ")
    found: list[int] = []
    for part in listed.split(", "):
        first, _, last = part.partition(" to ")
        found += range(int(first), int(last or first) + 1)
    rest = int(more.split()[0]) if more else 0
    assert found == sorted(ranks)[: len(found)]
    assert len(found) + rest == len(ranks)


def test_a_process_is_described_by_what_bears_on_bits() -> None:
    found = describe_process(torch.device("cpu"), "none")
    assert found["numpy"] == np.__version__
    assert found["device"] == "cpu"
    assert {"hpcfsl", "torch", "Python", "processor", "kernels"} <= set(found)


def test_other_settings_on_one_rank_are_everybodys_error() -> None:
    def action(communicator: ThreadCommunicator) -> str:
        settings = {"run": {"seed": 1 if communicator.rank == 2 else 0, "rounds": 5}}
        with pytest.raises(UserError) as found:
            require_same(communicator, "1.0", settings)
        return str(found.value)

    (text,) = set(on_ranks(3, action))
    assert text.startswith("the ranks have different settings: run.seed on ")


def test_the_same_settings_are_fine() -> None:
    on_ranks(3, lambda communicator: require_same(communicator, "1.0", {"run": {"seed": 1}}))
