"""Texts from tables: classes and numbers, clients, and a vocabulary that knows no test text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.tokens import split_words
from hpcfsl.errors import ConfigError, DataError

ROWS = [("good and good", 2.0, "ann"), ("bad", -1.0, "bea"), ("so so \u00fc", 0.0, "ann"), ("fine", 0.5, "ann")]


def write(path: Path, rows: list[tuple[str, float, str]]) -> Path:
    texts, ratings, names = zip(*rows, strict=True)
    if path.suffix == ".npz":
        np.savez(path, text=np.array([text.encode() for text in texts]), rating=ratings, who=names)
    elif path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        table = arrow.table({"text": texts, "rating": ratings, "who": names})
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        lines = ["text,rating,who", *(f'"{text}",{rating},{name}' for text, rating, name in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


def load(path: Path, seed: int = 0, **changes: Any) -> Dataset:
    tree = {"source": "text-table", "file": str(path), "text": "text", "label": "rating", "positions": 4, **changes}
    return sources.parse(tree).load(seed)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_numbers_from_each_format(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", ROWS)
    dataset = load(path, test_file=str(path), target="number", client="who")
    assert dataset.inputs.tolist() == [[0, 2, 4, 2], [0, 0, 0, 5], [0, 3, 3, 7], [0, 0, 0, 6]]
    assert dataset.targets.tolist() == [[2.0], [-1.0], [0.0], [0.5]]
    assert (dataset.num_classes, dataset.num_outputs, dataset.vocabulary) == (0, 1, 8)
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 1, 0, 0]
    np.testing.assert_array_equal(dataset.test_inputs, dataset.inputs)
    np.testing.assert_array_equal(dataset.test_owners, dataset.owners)


def test_thresholds_make_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    dataset = load(path, test_file=str(path), thresholds=[-0.5, 0.5])
    assert dataset.targets.tolist() == [2, 0, 1, 2]
    assert (dataset.num_classes, dataset.owners) == (3, None)


def test_labels_are_classes_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    dataset = load(path, test_file=str(path), label="who")
    assert (dataset.targets.tolist(), dataset.num_classes) == ([0, 1, 0, 0], 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.sampled_from(["word", "byte-pair"]))
def test_nothing_is_learnt_from_test_texts(tmp_path_factory: pytest.TempPathFactory, seed: int, unit: str) -> None:
    names = [chr(ord("a") + place // 26) + chr(ord("a") + place % 26) for place in range(60)]
    rows = [(f"{name * 3} {name * 3}", float(place), "ab"[place % 2]) for place, name in enumerate(names)]
    path = write(tmp_path_factory.mktemp("texts") / "a.csv", rows)
    dataset = load(path, seed, target="number", client="who", test_share=0.3, unit=unit)
    assert dataset.test_inputs is not None
    assert dataset.test_targets is not None
    assert dataset.test_owners is not None
    assert sorted(np.concatenate([dataset.targets, dataset.test_targets])[:, 0].tolist()) == list(range(60))
    assert np.bincount(dataset.test_owners).tolist() == [9, 9]
    np.testing.assert_array_equal(dataset.test_owners, dataset.test_targets[:, 0] % 2)
    trained = [rows[int(target)] for target in dataset.targets[:, 0]]
    if unit == "word":
        assert set(dataset.test_inputs.reshape(-1).tolist()) == {0, 1}
        assert dataset.vocabulary == 2 + len({word for text, _, _ in trained for word in split_words(text)})
    again = write(tmp_path_factory.mktemp("trained") / "a.csv", trained)
    alone = load(again, target="number", client="who", test_file=str(path), unit=unit)
    np.testing.assert_array_equal(alone.inputs, dataset.inputs)


def test_the_seed_chooses_the_test_set(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [(f"text {number}", float(number), "a") for number in range(50)])
    first, again, other = (load(path, seed, target="number") for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.targets, again.targets)
    assert (first.targets != other.targets).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "txt"}, r"data\.text = 'txt': unknown; did you mean 'text'"),
        ({"client": "whose"}, r"data\.client = 'whose': unknown"),
        ({"thresholds": [1.0, 0.0]}, r"data\.thresholds = \[1\.0, 0\.0\]: make classes of numbers, in rising order"),
        ({"thresholds": [1.0], "target": "number"}, r"data\.thresholds"),
        ({"test_share": 0.1, "client": "who"}, r"data\.test_share = 0\.1: holds out no text, because clients have"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    with pytest.raises(ConfigError, match=message):
        load(path, **changes)


def test_a_label_that_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,rating\nfine,1\nbad,two\n")
    with pytest.raises(DataError, match=r"a\.csv: row 2, column 'rating': 'two' is no finite number; mend it"):
        load(tmp_path / "a.csv", target="number")
