"""WAV files of every kind, folders of them, and broken ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sound import normalise_rows
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.wav_file import read_wav
from hpcfsl.errors import ConfigError, DataError

TONE = np.round(np.sin(np.arange(40) / 3) * 2**14) / 2**15
KINDS = {"u1": (1, 8), "i2": (1, 16), "i3": (1, 24), "i4": (1, 32), "f4": (3, 32), "f8": (3, 64)}


def stored(kind: str, sound: NDArray[Any]) -> bytes:
    if kind.startswith("f"):
        return sound.astype(f"<{kind}").tobytes()
    bits = KINDS[kind][1]
    if bits == 8:
        return np.round(sound * 128 + 128).clip(0, 255).astype(np.uint8).tobytes()
    whole = np.round(sound * 2.0 ** (bits - 1)).clip(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1).astype("<i8")
    return whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(
    sound: NDArray[Any] = TONE, *, kind: str = "i2", rate: int = 8000, extensible: bool = False, **extra: bytes
) -> bytes:
    """Return a file; `sound` is [frames] or [frames, channels]; `extra` are chunks before the sound."""
    code, bits = KINDS[kind]
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    frame_bytes = channels * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * frame_bytes, frame_bytes, bits)
    if extensible:
        guid = struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
        form += struct.pack("<HHI", 22, bits, 0) + guid
    others = b"".join(chunk(name.encode(), content) for name, content in extra.items())
    content = b"WAVE" + chunk(b"fmt ", form) + others + chunk(b"data", stored(kind, sound))
    return b"RIFF" + struct.pack("<I", len(content)) + content


def read(folder: Path, content: bytes, seconds: float = 1.0) -> tuple[NDArray[np.float32], int]:
    (folder / "a.wav").write_bytes(content)
    return read_wav(folder / "a.wav", seconds)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_the_same_sound(tmp_path: Path, kind: str, channels: int, extensible: bool) -> None:
    sound = TONE if channels == 1 else np.stack([TONE * scale for scale in (1.0, 0.5, 0.25)[:channels]], axis=1)
    found, rate = read(tmp_path, wav(sound, kind=kind, rate=11_025, extensible=extensible))
    assert rate == 11_025
    assert found.dtype == np.float32
    expected = TONE if channels == 1 else sound.mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1 / 128 if kind == "u1" else 2.0**-15)


def test_extremes_stay_within_one(tmp_path: Path) -> None:
    extremes = np.array([-1.0, 1.0, 0.0])
    for kind in KINDS:
        found, _ = read(tmp_path, wav(extremes * (3 if kind.startswith("f") else 1), kind=kind))
        np.testing.assert_allclose(found, extremes, atol=1 / 128)
        assert np.abs(found).max() <= 1


def test_other_chunks_are_passed_over(tmp_path: Path) -> None:
    found, _ = read(tmp_path, wav(LIST=b"odd", fact=b"\x28\0\0\0", junk=b"data" * 3))
    np.testing.assert_allclose(found, TONE, atol=1e-6)


def test_an_unknown_length_goes_to_the_end_and_half_a_frame_is_left_out(tmp_path: Path) -> None:
    content = wav()
    place = content.index(b"data") + 4
    streamed = content[:place] + b"\xff" * 4 + content[place + 4 :] + b"\x01"
    np.testing.assert_allclose(read(tmp_path, streamed)[0], TONE, atol=1e-6)


def test_only_as_much_is_read_as_is_asked_for(tmp_path: Path) -> None:
    assert len(read(tmp_path, wav(), seconds=10 / 8000)[0]) == 10


def patched(place: int, code: str, value: int) -> bytes:
    """Return a file with a field of its format changed."""
    content = bytearray(wav())
    struct.pack_into(code, content, 20 + place, value)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not start as a WAV file does; convert it to WAV"),
        (b"OggS" + wav()[4:], "does not start as a WAV file does"),
        (wav()[:12], "is damaged (it has no sound)"),
        (wav()[:20], "is damaged (its format has 0 bytes, not 16)"),
        (wav()[:-10], "is damaged (it ends after 70 of 80 bytes of sound); record or get it again"),
        (wav()[:12] + wav()[36:], "is damaged (its sound comes before its format)"),
        (patched(0, "<H", 0x55), "is of format 0x0055 with 16 bits; convert it to WAV with 16 bits"),
        (patched(14, "<H", 12), "is of format 0x0001 with 12 bits"),
        (patched(2, "<H", 0), "its format says 0 channels"),
        (patched(4, "<I", 0), "1 channels, 0 Hz"),
        (patched(12, "<H", 4), "4 bytes a frame of 16 bits"),
        (wav(np.array([0.0, np.nan]), kind="f4"), "frame 1 is not a finite number; remove the file"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    found = complaint(lambda: read(tmp_path, content))
    assert found.startswith(f"file {tmp_path / 'a.wav'}: ")
    assert message in found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(wav(extensible=True, LIST=b"abc")) | broken(wav(kind="f4")))
def test_a_broken_file_is_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    assert "Traceback" not in complaint(lambda: read(tmp_path, content))


def load(folder: Path, **changes: Any) -> Dataset:
    return sources.parse({"source": "wav", "folder": str(folder), **changes}).load(0)


def write(folder: Path, *names: str, **changes: Any) -> Path:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(wav(TONE / (place + 1), **changes))
    return folder


def test_a_folder_of_digits(tmp_path: Path) -> None:
    write(tmp_path, "10_eve_0.WAV", "9_van_dam_0.wav", "9_eve_1.wav")
    (tmp_path / "README.md").write_text("not a sound")
    dataset = load(tmp_path, seconds=0.01)
    assert dataset.inputs.shape == (3, 1, 80)
    assert dataset.inputs.dtype == np.int16
    np.testing.assert_array_equal(dataset.inputs[0, 0], [*(TONE * 2**15), *[0] * 40])
    assert dataset.targets.tolist() == [1, 0, 0]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0, 1]
    assert (dataset.num_classes, dataset.test_inputs) == (2, None)


def test_speech_commands(tmp_path: Path) -> None:
    names = ["yes/a1_nohash_0.wav", "yes/b2_nohash_0.wav", "no/a1_nohash_0.wav", "up/c3_nohash_0.wav", "_noise_/x.wav"]
    write(tmp_path, *names, rate=16_000)
    (tmp_path / "testing_list.txt").write_text("yes/b2_nohash_0.wav\nup/c3_nohash_0.wav\n")
    dataset = load(tmp_path, rate=16_000, seconds=40 / 16_000)
    assert dataset.targets.tolist() == [0, 2]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0]
    assert dataset.test_targets is not None
    assert dataset.test_targets.tolist() == [1, 2]
    few = load(tmp_path, rate=16_000, seconds=40 / 16_000, labels=["yes", "no"])
    assert (few.num_classes, len(few), len(few.test_inputs)) == (2, 2, 1)
    np.testing.assert_array_equal(few.inputs[1, 0], TONE * 2**15)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"features": "log-mel", "bands": 12}, (1, 12, 6)),
        ({"features": "mfcc", "bands": 12, "coefficients": 5}, (1, 5, 6)),
        ({"rate": 11_025}, (1, 1102)),
    ],
)
def test_features(tmp_path: Path, changes: dict[str, Any], shape: tuple[int, ...]) -> None:
    write(tmp_path, "a_x_0.wav", "b_y_0.wav")
    dataset = load(tmp_path, seconds=0.1, window_seconds=0.02, step_seconds=0.016, **changes)
    assert dataset.sample_shape == shape
    assert dataset.inputs.dtype == (np.int16 if "rate" in changes else np.float32)
    if "features" in changes:
        raw = load(tmp_path, seconds=0.1, window_seconds=0.02, step_seconds=0.016, normalise=False, **changes)
        np.testing.assert_allclose(dataset.inputs[1, 0], normalise_rows(raw.inputs[1, 0]), atol=1e-6)
        assert np.abs(raw.inputs.mean(axis=3)).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["c"]}, r"data\.labels = 'c': no file has this label; choose from a, b"),
        ({"features": "log-mel", "seconds": 0.01}, r"data\.window_seconds = 0\.032: is 256 of the 80 numbers"),
        ({"features": "mfcc", "bands": 12}, r"data\.coefficients = 13: must not exceed data\.bands = 12"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path, "a_x_0.wav", "b_y_0.wav")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **changes)


@pytest.mark.parametrize("name", ["9.wav", "9_eve.wav", "9__1.wav", "yes/eve.wav", "yes/_nohash_1.wav"])
def test_files_named_in_another_way(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"is not named .*; rename or remove it"):
        load(write(tmp_path, name))


def test_folders_without_sound(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.folder = .*: there is no such folder; set it to"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match=r"data\.folder = .*: has no such WAV files; set it to"):
        load(tmp_path)
    (tmp_path / "a_b_0.wav").write_bytes(wav(TONE[:0]))
    with pytest.raises(DataError, match=r"a_b_0\.wav: has no sound; remove it"):
        load(tmp_path)
