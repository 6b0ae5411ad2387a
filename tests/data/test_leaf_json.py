"""LEAF's folders: numbers and text with their users, and broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.characters import ALPHABET
from hpcfsl.errors import ConfigError, DataError


def load(folder: Path, **changes: Any) -> Dataset:
    return sources.parse({"source": "leaf-json", "folder": str(folder), **changes}).load(0)


def leaf(users: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        part, _, stem = name.partition("_")
        (folder / part).mkdir(exist_ok=True)
        (folder / part / f"{stem}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_images_in_several_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        train_b=leaf({"f3": ([[1.0, 0.5, 0, 0]], [2])}),
        train_a=leaf({"f9": ([[0, 1, 2, 3], [4, 5, 6, 7]], [61, 0]), "f1": ([], [])}),
        test_a=leaf({"f9": ([[9, 9, 9, 9]], [3])}),
    )
    dataset = load(tmp_path, shape=[1, 2, 2])
    assert dataset.inputs.dtype == np.float32
    np.testing.assert_array_equal(dataset.inputs, [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]], [[[1, 0.5], [0, 0]]]])
    assert dataset.targets.tolist() == [61, 0, 2]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [1, 1, 0]
    assert dataset.num_classes == 62
    assert dataset.test_targets is not None
    assert dataset.test_targets.tolist() == [3]
    assert load(tmp_path).sample_shape == (4,)


def test_text_whose_class_is_the_next_character(tmp_path: Path) -> None:
    write(tmp_path, train_a=leaf({"HAMLET": (["to b", "o be"], ["e", " "])}), test_a=leaf({"GHOST": (["ark "], ["m"])}))
    dataset = load(tmp_path, positions=4)
    assert "".join(ALPHABET[symbol] for symbol in dataset.inputs[0]) == "to b"
    assert dataset.targets.tolist() == [1, 0]
    assert dataset.num_classes == 3
    assert dataset.vocabulary == len(ALPHABET)


def test_text_among_other_fields_is_brought_to_one_length(tmp_path: Path) -> None:
    tweets = [["1", "Mon", "q", "me", "hi ünd ho"], ["2", "Tue", "q", "you", "a long tweet"]]
    dataset = load(write(tmp_path, train_a=leaf({"me": (tweets, [1, 0])})), positions=9)
    texts = ["".join(ALPHABET[symbol] for symbol in sample) for sample in dataset.inputs]
    assert texts == [" hi nd ho", "a long tw"]
    assert load(tmp_path, positions=3, text_field=1).inputs.shape == (2, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.json: is no JSON"),
        ("[" * 100_000, r"a\.json: is no JSON"),
        ('{"users": ' + "9" * 5000, r"a\.json: is no JSON"),
        ([], r"a\.json: has no users and user_data"),
        ({"users": ["u"], "user_data": {}}, r"a\.json: user 0 \('u'\) is not in user_data"),
        ({"users": [["u"]], "user_data": {}}, r"a\.json: user 0 \(\['u'\]\) is not in user_data"),
        ({"users": ["u"], "user_data": {"u": []}}, r"a\.json: user 'u' has no lists x and y of one length"),
        ({**leaf({"u": ([[1], [2]], [0, 1])}), "num_samples": [3]}, "has 2 samples, and num_samples says 3"),
        (leaf({"u": ([[1]], [0, 1])}), "has no lists x and y of one length"),
        (leaf({"u": ([[1], [2]], [0, 0.5])}), r"user 'u': class 0\.5 of sample 1 is neither"),
        (leaf({"u": ([[1], [2]], [0, None])}), r"class None of sample 1 is neither"),
        (leaf({"u": ([[1], [2, 3]], [0, 1])}), "user 'u': x is not a list of vectors"),
        (leaf({"u": ([1, 2], [0, 1])}), "user 'u': x is not a list of vectors"),
        (leaf({"u": ([[1], ["a"]], [0, 1])}), "user 'u': x is not a list of vectors"),
        (leaf({"u": ([[1], [10**400]], [0, 1])}), "user 'u': x is not a list of vectors"),
        (leaf({"u": ([[1], [1e300]], [0, 1])}), "row 1 of inputs has a value that is not finite"),
        (leaf({"u": (["a", [1]], [0, 1])}), "user 'u': sample 1 has no text"),
        (leaf({"u": ([[1], [2]], [0, "b"])}), "some classes are numbers and some are text"),
        (leaf({"u": ([[1], [2]], [0, -1])}), r"has classes -1 \.\. 0"),
        (leaf({"u": ([[1], [2]], [0, 10**30])}), r"has classes 0 \.\. 10"),
        (leaf({"u": ([[1]], [0]), "v": ([[1, 2]], [0])}), r"user 'v' has samples float32 \(2,\)"),
        (leaf({"u": ([], [])}), r"has no samples in train/\*\.json; set it to a folder of LEAF"),
    ],
)
def test_broken_files(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, train_a=content))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shape_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path, train_a=leaf({"u": ([[1, 2]], [0])}))
    with pytest.raises(ConfigError, match=r"data\.shape = \(1, 3\): user 'u' of .* has samples of shape \[2\]"):
        load(tmp_path, shape=[1, 3])


def test_folders_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.folder = .*: there is no such folder"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match=r"has no samples in train/\*\.json"):
        load(tmp_path)


GOOD = json.dumps(leaf({"u": ([[1, 2], [3, 4]], [0, 1]), "v": ([[5, 6]], [1])})).encode()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "u"]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    broken(GOOD)
    | st.fixed_dictionaries({"users": JSON | st.just(["u"]), "user_data": JSON}).map(json.dumps)
    | st.tuples(JSON, JSON).map(
        lambda xy: json.dumps({"users": ["u"], "user_data": {"u": {"x": [xy[0]], "y": [xy[1]]}}})
    )
)
def test_a_broken_file_is_never_a_traceback(tmp_path: Path, content: bytes | str) -> None:
    (tmp_path / "train").mkdir(exist_ok=True)
    (tmp_path / "train/a.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "Traceback" not in complaint(lambda: load(tmp_path, positions=2))
