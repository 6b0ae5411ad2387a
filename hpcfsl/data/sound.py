"""Sound as numbers: another rate, one length, and the two spectra that speech recognition starts from.

Pure functions of numpy arrays. `log_mel` uses Stevens, Volkmann and Newman's mel scale (1937) in the form
2595 log10(1 + f / 700) with triangular filters; `mfcc` is Davis and Mermelstein's cepstrum (1980), the orthonormal
DCT-II of it. Frames are windowed by a periodic Hann window, are not padded, and no pre-emphasis is applied.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_KAISER_BETA = 5.0
_HALF_WIDTH = 10
"""Zero crossings of the resampling filter to each side."""
_CHUNK = 4096
_CONSTANT = 1e-6
_FLOOR = 1e-10
"""Power below which everything is silence: 100 dB below that of a full-scale number."""


def resample(sound: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """Return a sound [frames] of `rate` Hz at `new_rate` Hz, ceil(frames * new_rate / rate) frames.

    A polyphase filter, a sinc in a Kaiser window (beta 5, 10 zero crossings to each side), with silence around the
    sound: what `scipy.signal.resample_poly` computes, in numpy. A rate that shares no factor with the new one, 44,101
    and 16,000 say, costs a filter of as many phases as the new rate has Hz.
    """
    if rate == new_rate or not len(sound):
        return sound
    divisor = gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    phases, reach = _phases(up, down)
    length = -(-len(sound) * up // down)
    padded = np.pad(sound.astype(np.float64), (reach, reach + 1))
    windows = sliding_window_view(padded, phases.shape[1])
    result = np.empty(length, np.float32)
    for start in range(0, length, _CHUNK):
        places = np.arange(start, min(start + _CHUNK, length)) * down
        result[start : start + _CHUNK] = np.einsum("fk,fk->f", windows[places // up], phases[places % up])
    return result


@lru_cache(maxsize=4)
def _phases(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """Return the filter of each phase, float64 [up, taps], and how many frames it reaches back."""
    slowest = max(up, down)
    half = _HALF_WIDTH * slowest
    steps = np.arange(-half, half + 1)
    taps = np.sinc(steps / slowest) * np.kaiser(2 * half + 1, _KAISER_BETA)
    taps *= up / taps.sum()
    # Output at step p of the fine grid sums taps[p - up * frame]; frames reach from -reach to +reach around p // up.
    reach = -(-half // up)
    offsets = np.arange(up)[:, None] - up * np.arange(-reach, reach + 2)
    return np.where(np.abs(offsets) <= half, taps[np.clip(offsets + half, 0, 2 * half)], 0.0), reach


def bring_to_length(sound: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return the first `frames` frames, with silence after them where there are fewer."""
    kept = sound[:frames]
    return np.pad(kept, (0, frames - len(kept)))


def log_mel(sound: NDArray[np.float32], rate: int, *, bands: int, window: int, step: int) -> NDArray[np.float32]:
    """Return the logarithm of the power in mel bands, float32 [bands, steps], natural, at least log(1e-10).

    Args:
        sound: Numbers in -1 .. 1 [frames].
        rate: Their rate in Hz.
        bands: Number of triangular filters, from 0 Hz to half the rate.
        window: Frames in a window; the sound must have as many.
        step: Frames from one window to the next.
    """
    windows = sliding_window_view(sound.astype(np.float64), window)[::step] * _hann(window)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2 / window
    return np.log(np.maximum(mel_filters(bands, window, rate) @ power.T, _FLOOR)).astype(np.float32)


def mfcc(
    sound: NDArray[np.float32], rate: int, *, coefficients: int, bands: int, window: int, step: int
) -> NDArray[np.float32]:
    """Return the first mel cepstral coefficients, float32 [coefficients, steps]; arguments as those of `log_mel`."""
    logarithms = log_mel(sound, rate, bands=bands, window=window, step=step)
    return (cosine_transform(coefficients, bands) @ logarithms).astype(np.float32)


def normalise_rows(spectrum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a spectrum [rows, steps] whose rows have mean 0 and, unless they are constant, standard deviation 1.

    Known as cepstral mean and variance normalisation: it takes out what a microphone or a room adds to every step.
    """
    deviation = spectrum.std(axis=1, keepdims=True, dtype=np.float64)
    centred = spectrum - spectrum.mean(axis=1, keepdims=True, dtype=np.float64)
    normal: NDArray[np.float32] = (centred / np.where(deviation > _CONSTANT, deviation, 1.0)).astype(np.float32)
    return normal


@lru_cache(maxsize=16)
def mel_filters(bands: int, window: int, rate: int) -> NDArray[np.float64]:
    """Return triangular filters of height 1 over the frequencies of a window's spectrum, [bands, window // 2 + 1]."""
    highest = 2595.0 * np.log10(1.0 + rate / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, highest, bands + 2) / 2595.0) - 1.0)
    frequencies = np.arange(window // 2 + 1) * rate / window
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


@lru_cache(maxsize=16)
def cosine_transform(coefficients: int, bands: int) -> NDArray[np.float64]:
    """Return the first rows of the orthonormal DCT-II, [coefficients, bands]."""
    rows, columns = np.arange(coefficients)[:, None], np.arange(bands)
    matrix: NDArray[np.float64] = np.sqrt(2.0 / bands) * np.cos(np.pi * rows * (2 * columns + 1) / (2 * bands))
    matrix[0] /= np.sqrt(2.0)
    return matrix


@lru_cache(maxsize=16)
def _hann(window: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
