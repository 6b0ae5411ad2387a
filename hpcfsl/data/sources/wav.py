"""Spoken words from a folder of WAV files.

Two ways to name the files are known:

| name | as in |
|---|---|
| `{label}_{speaker}_{number}.wav`, all in one folder | Free Spoken Digit Dataset: `7_jackson_32.wav` |
| `{label}/{speaker}_nohash_{number}.wav`, a folder for each label | Warden's Speech Commands (2018) |

Speakers are natural clients. Folders whose name starts with `_` (Speech Commands' noise) are left out, and files that
`testing_list.txt` names, where there is one, are the test set. Every file is brought to one rate, one channel and one
length when it is loaded, and there too, if asked for, to a spectrum; `hpcfsl.data.sound` says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sound import bring_to_length, log_mel, mfcc, normalise_rows, resample
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.files import (
    check_fits,
    check_is_file,
    file_error,
    find_folder,
    number_labels,
    number_owners,
    number_test_owners,
)
from hpcfsl.data.sources.wav_file import read_wav
from hpcfsl.errors import ConfigError, DataError, one_line

_FIX = "set it to a folder of files named {label}_{speaker}_{number}.wav or {label}/{speaker}_nohash_{number}.wav"
_WAV = "*.[wW][aA][vV]"
_NO_HASH = "_nohash_"
_TEST_LIST = "testing_list.txt"
_MARGIN_SECONDS = 0.1  # what resampling needs to know beyond the end
_FULL_SCALE = 32768.0
_MOST_PHASES = 200_000  # of the filter that resamples; more take seconds and gigabytes a file


@sources.register
class Wav(Source):
    """Spoken words from a folder of WAV files, with their speakers."""

    reads: ClassVar[tuple[str, ...]] = ("folder",)
    uses_seed: ClassVar[bool] = False

    source: Literal["wav"] = "wav"
    """A folder of WAV files, named by label and speaker: spoken digits, Speech Commands."""

    folder: str = Field(min_length=1)
    """Folder of files {label}_{speaker}_{number}.wav, or of folders {label} with {speaker}_nohash_{number}.wav."""

    labels: tuple[str, ...] = Field((), max_length=10_000)
    """Only these labels; empty for all."""

    rate: int = Field(8000, ge=1000, le=192_000)
    """Numbers a second; files of another rate are resampled."""

    seconds: float = Field(1.0, gt=0.0, le=60.0)
    """Length of a sample: the end of a longer file is cut off, a shorter one gets silence after it."""

    features: Literal["waveform", "log-mel", "mfcc"] = "waveform"
    """The sound itself [1, numbers]; or the logarithm of the power in mel bands [1, bands, steps]; or its cepstrum
    [1, coefficients, steps]."""

    bands: int = Field(40, ge=2, le=512)
    """log-mel, mfcc: mel bands between 0 Hz and half the rate."""

    coefficients: int = Field(13, ge=1, le=512)
    """mfcc: cepstral coefficients, at most `bands`."""

    window_seconds: float = Field(0.032, gt=0.0, le=1.0)
    """log-mel, mfcc: length of a window."""

    step_seconds: float = Field(0.016, gt=0.0, le=1.0)
    """log-mel, mfcc: from the start of a window to that of the next."""

    normalise: bool = True
    """log-mel, mfcc: whether each row of a spectrum is brought to mean 0 and standard deviation 1 over its steps."""

    def load(self, seed: int) -> Dataset:
        """Return int16 [n, 1, numbers] (32768 is full scale), or float32 spectra; `seed` changes nothing.

        Raises:
            DataError: The folder has no such files, or one of them is broken.
            ConfigError: Labels that no file has, or windows that do not fit.
        """
        self._check()
        folder = find_folder("folder", self.folder, _FIX)
        recordings = self._find(folder)
        in_test = _named_for_test(folder)
        train = [each for each in recordings if each.name not in in_test]
        test = [each for each in recordings if each.name in in_test]
        if not train:
            raise DataError(one_line(f"data.folder = {self.folder!r}: has no such WAV files; {_FIX}"))
        classes = number_labels([each.label for each in recordings])
        return Dataset(
            name=self.folder,
            inputs=self._read(folder, train),
            targets=np.array([classes[each.label] for each in train]),
            owners=number_owners([each.speaker for each in train]),
            test_owners=number_test_owners(*([each.speaker for each in part] for part in (train, test)))
            if test
            else None,
            num_classes=len(classes),
            test_inputs=self._read(folder, test) if test else None,
            test_targets=np.array([classes[each.label] for each in test]) if test else None,
        )

    @property
    def _frames(self) -> int:
        return max(1, round(self.seconds * self.rate))

    @property
    def _window(self) -> int:
        return round(self.window_seconds * self.rate)

    @property
    def _step(self) -> int:
        return max(1, round(self.step_seconds * self.rate))

    def _check(self) -> None:
        if self.features == "waveform":
            return
        if not 2 <= self._window <= self._frames:
            fix = (
                f"is {self._window} of the {self._frames} numbers of a sample; give it 2 or more, and no more than all"
            )
            raise ConfigError("data.window_seconds", self.window_seconds, fix)
        if self.features == "mfcc" and self.coefficients > self.bands:
            raise ConfigError("data.coefficients", self.coefficients, f"must not exceed data.bands = {self.bands}")

    def _find(self, folder: Path) -> list[_Recording]:
        """Return the recordings whose labels are asked for, sorted by name."""
        flat = [_by_name(path) for path in sorted(folder.glob(_WAV))]
        found = flat or [_by_folder(path) for path in sorted(folder.glob(f"[!_]*/{_WAV}"))]
        missing = set(self.labels) - {each.label for each in found}
        if found and missing:
            known = ", ".join(sorted({each.label for each in found})[:20])
            raise ConfigError("data.labels", sorted(missing)[0], f"no file has this label; choose from {known}")
        return [each for each in found if not self.labels or each.label in self.labels]

    def _read(self, folder: Path, recordings: list[_Recording]) -> NDArray[Any]:
        first = self._convert(folder / recordings[0].name)
        check_fits(folder, f"the sound of {len(recordings)} files", len(recordings) * first.nbytes)
        result = arena.empty((len(recordings), *first.shape), first.dtype)
        for place, recording in enumerate(recordings):
            result[place] = self._convert(folder / recording.name)
        return result

    def _convert(self, path: Path) -> NDArray[Any]:
        check_is_file(path)
        sound, rate = read_wav(path, self.seconds + _MARGIN_SECONDS)
        if max(rate, self.rate) > _MOST_PHASES * gcd(rate, self.rate):
            trouble = f"its rate of {rate} Hz has too small a factor in common with data.rate = {self.rate}"
            raise file_error(path, f"{trouble}, so that resampling would take all memory; convert it to that rate")
        if not len(sound):
            raise file_error(path, "has no sound; remove it")
        sound = bring_to_length(resample(sound, rate, self.rate), self._frames)
        if self.features == "waveform":
            whole: NDArray[np.int16] = np.clip(np.rint(sound * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(
                np.int16
            )
            return whole[None]
        spectrum = self._spectrum(sound)
        return (normalise_rows(spectrum) if self.normalise else spectrum)[None]

    def _spectrum(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.features == "log-mel":
            return log_mel(sound, self.rate, bands=self.bands, window=self._window, step=self._step)
        return mfcc(
            sound,
            self.rate,
            coefficients=self.coefficients,
            bands=self.bands,
            window=self._window,
            step=self._step,
        )


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """A file, by its name below the folder, and what its name says."""

    name: str
    label: str
    speaker: str


def _by_name(path: Path) -> _Recording:
    parts = path.stem.split("_")
    if len(parts) < 3 or not all(parts):
        raise file_error(path, "is not named {label}_{speaker}_{number}.wav; rename or remove it")
    return _Recording(name=path.name, label=parts[0], speaker="_".join(parts[1:-1]))


def _by_folder(path: Path) -> _Recording:
    speaker, separator, _ = path.stem.partition(_NO_HASH)
    if not separator or not speaker:
        raise file_error(path, "is not named {speaker}_nohash_{number}.wav; rename or remove it")
    return _Recording(name=f"{path.parent.name}/{path.name}", label=path.parent.name, speaker=speaker)


def _named_for_test(folder: Path) -> set[str]:
    path = folder / _TEST_LIST
    try:
        return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()
    except (OSError, ValueError) as error:
        raise file_error(path, f"cannot be read ({error}); get the file again") from None
