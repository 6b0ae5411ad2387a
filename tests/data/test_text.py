"""Text: generated chains, and the docstrings of Python's library."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import python_docstrings, sources
from hpcfsl.data.sources.characters import ALPHABET
from hpcfsl.data.sources.python_docstrings import read_docstrings
from hpcfsl.errors import ConfigError, DataError


def chain(seed: int = 0, **tree: Any) -> Dataset:
    return sources.parse({"source": "synthetic-text", **tree}).load(seed)


def test_generated_text_has_the_shape_asked_for() -> None:
    dataset = chain(symbols=30, positions=12, samples=50, test_samples=20, owners=6)
    assert dataset.test_inputs is not None
    assert dataset.inputs.shape == dataset.targets.shape == (50, 12)
    assert dataset.test_inputs.shape == (20, 12)
    assert (dataset.vocabulary, dataset.num_classes, dataset.num_owners, dataset.target_shape) == (30, 30, 6, (12,))
    np.testing.assert_array_equal(dataset.inputs[:, 1:], dataset.targets[:, :-1])


def test_generated_text_depends_on_the_seed_alone() -> None:
    np.testing.assert_array_equal(chain(5).inputs, chain(5).inputs)
    assert not np.array_equal(chain(5).inputs, chain(6).inputs)


def test_every_symbol_has_as_many_successors_as_branches_in_both_parts() -> None:
    dataset = chain(symbols=11, branches=3, positions=60)
    pairs = np.stack([dataset.inputs.reshape(-1), dataset.targets.reshape(-1)])
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    assert np.bincount(found[0]).tolist() == np.bincount(found[1]).tolist() == [3] * 11
    np.testing.assert_allclose(counts, pairs.shape[1] / 33, rtol=0.1)
    assert dataset.test_inputs is not None
    assert dataset.test_targets is not None
    tested = np.stack([dataset.test_inputs.reshape(-1), dataset.test_targets.reshape(-1)])
    np.testing.assert_array_equal(np.unique(tested, axis=1), found)


def test_generated_text_without_a_test_set() -> None:
    assert chain(test_samples=0).test_inputs is None


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"symbols": 3, "branches": 4}, "data.branches = 4: there are only 3 symbols"),
        ({"samples": 2**31 - 1, "positions": 1_000_000}, "data.samples = 2147483647: with data.positions they take"),
    ],
)
def test_text_that_cannot_be_generated(tree: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chain(**tree)
    assert text in str(caught.value)


LIBRARY = {
    "json/__init__.py": '"""Top."""\nclass A:\n    """In A."""\n    def b(self):\n        """In b."""\n',
    "json/tool.py": "async def c():\n    '''In c.'''\n    def inner():\n        '''Not this.'''\n",
    "json/tests/test_tool.py": '"""No tests."""',
    "json/tests.py": "x = 1",
    "turtle.py": '"""Ünder the sea\tshell."""',
    "wave.py": "x = 1",
    "string.py": "def broken(:",
    "enum.py": '"""Bad \x00 byte."""',
    "test/support.py": '"""No tests."""',
    "site-packages/mine.py": '"""Not of the library."""',
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in LIBRARY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    fake = types.SimpleNamespace(get_path=lambda name: str(tmp_path))
    monkeypatch.setattr(python_docstrings, "sysconfig", fake)
    return tmp_path


def test_docstrings_of_the_library_alone_are_read(library: Path) -> None:
    assert read_docstrings(library) == {"json": "Top.\n\nIn A.\n\nIn b.\n\nIn c.", "turtle": "Ünder the sea   shell."}


def test_docstrings_become_windows_of_symbols(library: Path) -> None:
    dataset = sources.parse({"source": "python-docstrings", "positions": 5, "min_samples": 4}).load(0)
    texts = ["".join(ALPHABET[symbol] for symbol in row) for row in dataset.inputs]
    assert texts == ["Top.\n", "\nIn A", ".\n\nIn", " b.\n\n", "nder ", "the s", "ea   ", "shell"]
    assert ["".join(ALPHABET[symbol] for symbol in row) for row in dataset.targets][:2] == ["op.\n\n", "In A."]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert dataset.vocabulary == dataset.num_classes == 96


def test_modules_that_are_too_short_are_left_out(library: Path) -> None:
    assert sources.parse({"source": "python-docstrings", "positions": 6, "min_samples": 4}).load(0).num_owners == 1
    with pytest.raises(ConfigError, match=r"data\.min_samples = 20: no module has so many samples of 80 symbols"):
        sources.parse({"source": "python-docstrings"}).load(0)


def test_a_python_without_its_library(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Python files in .*; choose 'synthetic-text'"):
        read_docstrings(tmp_path)


def test_the_real_library_has_real_clients() -> None:
    before = set(sys.modules)
    dataset = sources.parse({"source": "python-docstrings"}).load(0)
    assert dataset.num_owners > 50
    assert np.bincount(dataset.owners).min() >= 20  # type: ignore[arg-type]
    assert "turtle" not in set(sys.modules) - before


@pytest.mark.parametrize("unit", ["word", "byte-pair"])
def test_tokens_are_learnt_from_the_training_text_alone(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {name: "old words " * 200 + "brand new " * 50 for name in ("io", "json")}
    monkeypatch.setattr("hpcfsl.data.sources.python_docstrings.read_docstrings", lambda _: texts)
    tree = {"source": "python-docstrings", "unit": unit, "positions": 8, "min_samples": 1, "test_share": 0.2}
    dataset = sources.parse(tree).load(0)
    assert dataset.num_classes == dataset.vocabulary == (4 if unit == "word" else dataset.vocabulary)
    assert dataset.test_inputs is not None
    assert dataset.test_owners is not None
    assert (dataset.num_owners, np.unique(dataset.test_owners).tolist()) == (2, [0, 1])
    assert dataset.inputs.min() > 1
    used, unseen = np.unique(dataset.inputs), np.unique(dataset.test_inputs)
    # A word that was never learnt is symbol 1; parts of words fall apart into characters.
    assert set(unseen.tolist()) <= {1} if unit == "word" else unseen.max() <= 96 < used.max()
    with pytest.raises(ConfigError, match=rf"data\.unit = '{unit}': is learnt from the training text"):
        sources.parse({**tree, "test_share": 0.0}).load(0)
