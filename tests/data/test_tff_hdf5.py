"""Federated HDF5 files: images and text with their clients, and broken files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.characters import ALPHABET, encode
from hpcfsl.errors import ConfigError, DataError

Clients = dict[str, dict[str, Any]]


def load(path: Path, **changes: Any) -> Dataset:
    return sources.parse({"source": "tff-hdf5", "file": str(path), **changes}).load(0)


def write(file: Path | io.BytesIO, clients: Clients) -> Any:
    with h5py.File(file, "w") as opened:
        for name, arrays in clients.items():
            for key, value in arrays.items():
                opened[f"examples/{name}/{key}"] = value
    return file


def digits(count: int, first: int = 0) -> dict[str, Any]:
    pixels = np.arange(first, first + count * 6, dtype=np.float32).reshape(count, 2, 3)
    return {"pixels": pixels, "label": np.arange(count, dtype=np.int32) % 3}


def test_images_of_writers(tmp_path: Path) -> None:
    path = write(tmp_path / "train.h5", {"f2": digits(2), "f1": digits(3, 100)})
    test = write(tmp_path / "test.h5", {"f1": {**digits(1), "label": np.array([7])}})
    dataset = load(path, test_file=str(test))
    assert dataset.inputs.shape == (5, 1, 2, 3)
    assert dataset.inputs.dtype == np.float32
    np.testing.assert_array_equal(dataset.inputs[3:, 0], digits(2)["pixels"])
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0, 0, 1, 1]
    assert dataset.targets.tolist() == [0, 1, 2, 0, 1]
    assert dataset.num_classes == 8
    assert dataset.test_inputs is not None
    assert dataset.test_inputs.shape == (1, 1, 2, 3)


def test_colour_images_come_channels_first_and_clients_can_be_few(tmp_path: Path) -> None:
    image = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    clients = {name: {"image": image + place, "label": [place, 1]} for place, name in enumerate("abc")}
    dataset = load(write(tmp_path / "train.h5", clients), clients=2)
    assert dataset.inputs.shape == (4, 3, 4, 5)
    np.testing.assert_array_equal(dataset.inputs[2], (image[0] + 1).transpose(2, 0, 1))
    assert dataset.targets.tolist() == [0, 1, 1, 1]
    assert dataset.test_inputs is None


def test_text_of_roles(tmp_path: Path) -> None:
    snippets = {"HAMLET": ["To be,\tor", "not. Ünd"], "GHOST": ["Mark me!"], "PAGE": ["Ay"]}
    clients: Clients = {name: {"snippets": texts} for name, texts in snippets.items()}
    path = write(tmp_path / "train.h5", clients)
    dataset = load(path, positions=3, test_file=str(path))
    text = "To be,or\nnot. nd"  # what the alphabet lacks is dropped; the end of a snippet is that of a line
    expected = [encode(part[: 3 + 1]) for part in ("Mark", "k me", *(text[at : at + 4] for at in (0, 3, 6, 9, 12)))]
    np.testing.assert_array_equal(np.column_stack([dataset.inputs, dataset.targets[:, -1]]), expected)
    np.testing.assert_array_equal(dataset.inputs[:, 1:], dataset.targets[:, :-1])
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert (dataset.vocabulary, dataset.num_classes) == (len(ALPHABET), len(ALPHABET))
    np.testing.assert_array_equal(dataset.test_inputs, dataset.inputs)
    with pytest.raises(ConfigError, match=r"data\.positions = 99: no client of data\.file has so many characters"):
        load(path, positions=99)


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ({"pixels": np.zeros((2, 2, 3), "f4")}, "client 'b' has no pixels"),
        ({"pixels": np.zeros((2, 2, 3), "f4"), "label": [0]}, "client 'b' has 2 images and 1 labels"),
        ({"pixels": np.zeros((2, 2, 3), "f4"), "label": [0, -1]}, r"client 'b' has labels -1 \.\. 0"),
        ({"pixels": np.zeros((2, 2, 3), "f4"), "label": [0.5, 1]}, "client 'b' has labels of type float64"),
        ({"pixels": np.zeros((2, 3, 3), "f4"), "label": [0, 1]}, r"client 'b' has images float32 \(3, 3\), unlike 'a'"),
        ({"pixels": np.zeros((0, 2, 3), "f4"), "label": []}, "client 'b' has no pixels"),
        ({"snippets": ["only text"]}, "client 'b' has no pixels"),
        ({"pixels": ["a", "b"], "label": [0, 1]}, "client 'b' has no pixels"),
    ],
)
def test_a_broken_client_is_named(tmp_path: Path, client: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "train.h5", {"a": digits(2), "b": client})
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"file {path}: ")
    assert str(caught.value).endswith("; get the file again")


def test_damage_inside_a_client_names_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "ab":
            file[f"examples/{name}/label"] = [0, 1]
            pixels = np.arange(12.0).reshape(2, 2, 3) + ord(name)
            file.create_dataset(f"examples/{name}/pixels", data=pixels, chunks=(2, 2, 3), fletcher32=True)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content.replace(np.float64(ord("b") + 11).tobytes(), np.float64(0).tobytes()))
    with pytest.raises(DataError, match=r"client 'b' cannot be read \(.*\); get the file again"):
        load(tmp_path / "a.h5")


def test_files_that_are_not_federated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.file = .*there is no such file; set it to a file such as"):
        load(tmp_path / "none.h5")
    with pytest.raises(DataError, match=r"data\.test_file = .*there is no such file"):
        load(write(tmp_path / "a.h5", {"a": digits(1)}), test_file="nowhere")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(DataError, match="has no group /examples; it is no federated file"):
        load(tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file.create_group("examples")
    with pytest.raises(DataError, match="has no client in examples"):
        load(tmp_path / "b.h5")


def good_file() -> bytes:
    stream = io.BytesIO()
    write(stream, {"a": {"snippets": ["one text", "another"]}, "b": {"snippets": ["more"]}})
    return stream.getvalue()


def good_images() -> bytes:
    stream = io.BytesIO()
    write(stream, {"a": digits(2), "b": digits(1)})
    return stream.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(good_file()) | broken(good_images()))
def test_a_broken_file_is_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    assert "Traceback" not in complaint(lambda: load(tmp_path / "a.h5", positions=3))
