"""Resampling and spectra against slow definitions and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcfsl.data.sound import bring_to_length, log_mel, mfcc, normalise_rows, resample

RATES = [8000, 11025, 16000, 22050, 44100, 48000]


def noise(frames: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, frames).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.sampled_from(RATES), st.sampled_from(RATES))
def test_resampling_is_that_of_scipy(frames: int, rate: int, new_rate: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    divisor = math.gcd(rate, new_rate)
    expected = signal.resample_poly(noise(frames).astype(float), new_rate // divisor, rate // divisor)
    np.testing.assert_allclose(resample(noise(frames), rate, new_rate), expected, atol=1e-6)


def slow_resample(sound: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float64]:
    """Put zeros between the frames, filter, take every so many: the definition."""
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    half = 10 * max(up, down)
    taps = np.sinc(np.arange(-half, half + 1) / max(up, down)) * np.kaiser(2 * half + 1, 5.0)
    fine = np.zeros(len(sound) * up)
    fine[::up] = sound
    return np.convolve(fine, taps * up / taps.sum())[half : half + len(fine)][::down]


@pytest.mark.parametrize(("rate", "new_rate"), [(3, 2), (2, 3), (7, 11), (11, 1), (1, 5), (8000, 8000)])
def test_resampling_is_the_definition(rate: int, new_rate: int) -> None:
    found = resample(noise(50), rate, new_rate)
    assert len(found) == -(-50 * new_rate // rate)
    expected = noise(50) if rate == new_rate else slow_resample(noise(50), rate, new_rate)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_tone_stays_the_same_tone() -> None:
    old, new = np.arange(44_100) / 44_100, np.arange(16_000) / 16_000
    found = resample(np.sin(2 * np.pi * 440 * old).astype(np.float32), 44_100, 16_000)
    np.testing.assert_allclose(found[200:-200], np.sin(2 * np.pi * 440 * new)[200:-200], atol=2e-3)
    above = resample(np.sin(2 * np.pi * 12_000 * old).astype(np.float32), 44_100, 16_000)
    assert np.abs(above[200:-200]).max() < 0.05  # it would come back as 4,000 Hz


def test_one_length() -> None:
    assert bring_to_length(noise(3), 5).tolist() == [*noise(3), 0, 0]
    assert bring_to_length(noise(5), 3).tolist() == noise(5)[:3].tolist()


def slow_log_mel(sound: NDArray[np.float32], rate: int, bands: int, window: int, step: int) -> NDArray[np.float64]:
    """Every sum written out; the Fourier transform by its definition."""

    def mel(frequency: float) -> float:
        return 2595 * math.log10(1 + frequency / 700)

    edges = [700 * (10 ** (mel(rate / 2) * edge / (bands + 1) / 2595) - 1) for edge in range(bands + 2)]
    starts = range(0, len(sound) - window + 1, step)
    result = np.zeros((bands, len(starts)))
    for column, start in enumerate(starts):
        hann = [0.5 - 0.5 * math.cos(2 * math.pi * frame / window) for frame in range(window)]
        for bin_ in range(window // 2 + 1):
            turns = [-2j * math.pi * bin_ * frame / window for frame in range(window)]
            total = sum(float(sound[start + n]) * hann[n] * np.exp(turns[n]) for n in range(window))
            frequency = bin_ * rate / window
            for band in range(bands):
                low, centre, high = edges[band : band + 3]
                height = min((frequency - low) / (centre - low), (high - frequency) / (high - centre))
                result[band, column] += max(height, 0) * abs(total) ** 2 / window
    return np.log(np.maximum(result, 1e-10))


@pytest.mark.parametrize(("bands", "window", "step"), [(4, 16, 8), (6, 17, 5), (2, 32, 40)])
def test_log_mel_is_the_definition(bands: int, window: int, step: int) -> None:
    found = log_mel(noise(70), 1000, bands=bands, window=window, step=step)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_log_mel(noise(70), 1000, bands, window, step), rtol=1e-4, atol=1e-4)


def test_mfcc_is_the_cosine_transform_of_log_mel() -> None:
    bands = slow_log_mel(noise(60), 1000, 5, 16, 8)
    expected = np.zeros((3, bands.shape[1]))
    for row in range(3):
        scale = math.sqrt((1 if row == 0 else 2) / 5)
        for band in range(5):
            expected[row] += scale * bands[band] * math.cos(math.pi * row * (2 * band + 1) / 10)
    found = mfcc(noise(60), 1000, coefficients=3, bands=5, window=16, step=8)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_are_normalised_over_their_steps() -> None:
    spectrum = np.stack([noise(50) * 9 + 100, np.full(50, 3, np.float32)])
    found = normalise_rows(spectrum)
    np.testing.assert_allclose(found[0], (spectrum[0] - spectrum[0].mean()) / spectrum[0].std(), atol=1e-4)
    assert not found[1].any()


def test_silence_is_a_number() -> None:
    silence = log_mel(np.zeros(64, np.float32), 1000, bands=4, window=16, step=16)
    np.testing.assert_allclose(silence, math.log(1e-10), rtol=1e-6)
