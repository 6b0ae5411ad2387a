"""The feed: raw data stays raw, statistics come from training rows only, test samples from where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.feed import Feed, mean_and_deviation
from hpcfsl.data.partitions import partitions
from hpcfsl.data.population import hold_out
from hpcfsl.errors import DataError


def make_dataset(inputs: NDArray[Any], test_inputs: NDArray[Any] | None = None) -> Dataset:
    return Dataset(
        name="made",
        inputs=inputs,
        targets=np.arange(len(inputs)) % 3,
        owners=None,
        num_classes=3,
        test_inputs=test_inputs,
        test_targets=None if test_inputs is None else np.arange(len(test_inputs)) % 3,
    )


def make_feed(dataset: Dataset, *, standardise: bool = True, **tree: Any) -> Feed:
    population = partitions.parse({"rule": "iid", "clients": 4, **tree}).divide(dataset, 1)
    return Feed(dataset=dataset, population=population, standardise=standardise)


def images(count: int = 40) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 2, 3, 4))
    pixels[:, 1] //= 10
    return pixels.astype(np.uint8)


def test_images_are_standardised_a_channel_at_a_time() -> None:
    feed = make_feed(make_dataset(images()))
    samples = feed.inputs(feed.population.train_pool())
    assert samples.dtype == np.float32
    assert samples.shape == (32, 2, 3, 4)
    np.testing.assert_allclose(samples.mean(axis=(0, 2, 3)), 0.0, atol=1e-6)
    np.testing.assert_allclose(samples.std(axis=(0, 2, 3)), 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (7, 5)])
def test_other_samples_are_standardised_a_feature_at_a_time(shape: tuple[int, ...]) -> None:
    inputs = np.random.default_rng(1).normal(50.0, [1.0, 2.0, 3.0, 4.0, 100.0], (40, *shape))
    feed = make_feed(make_dataset(inputs))
    samples = feed.inputs(feed.population.train_pool()).reshape(-1, 5)
    np.testing.assert_allclose(samples.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(samples.std(axis=0), 1.0, atol=1e-5)


def test_a_waveform_has_one_mean() -> None:
    inputs = np.random.default_rng(1).normal([[50.0, 60.0, 10.0]], 3.0, (40, 1, 3))
    samples = make_feed(make_dataset(inputs)).inputs(np.arange(40))
    np.testing.assert_allclose(np.diff(samples.mean(axis=(0, 1))) * inputs.std(), [10.0, -50.0], atol=2.0)


def test_statistics_never_see_a_test_row() -> None:
    dataset = make_dataset(images())
    feed = make_feed(dataset)
    spoilt = images()
    spoilt[feed.population.test_pool()] = 255
    rows = feed.population.train_pool()
    np.testing.assert_array_equal(make_feed(make_dataset(spoilt)).inputs(rows), feed.inputs(rows))


def test_statistics_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_and_deviation(images(), np.arange(40))
    monkeypatch.setattr("hpcfsl.data.feed._CHUNK_ROWS", 7)
    pieces = mean_and_deviation(images(), np.arange(40))
    np.testing.assert_allclose(pieces, whole, rtol=1e-14)
    np.testing.assert_allclose(whole[0][:, 0, 0], images().mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(whole[1][:, 0, 0], images().std(axis=(0, 2, 3)))


def test_a_constant_feature_becomes_zero() -> None:
    inputs = np.column_stack([np.full(40, 9.0), np.arange(40.0)])
    feed = make_feed(make_dataset(inputs))
    assert (feed.inputs(np.arange(40))[:, 0] == 0.0).all()


def test_without_standardisation_inputs_are_only_converted() -> None:
    dataset = make_dataset(images())
    feed = make_feed(dataset, standardise=False)
    samples = feed.inputs(np.array([3, 3, 0]))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, dataset.inputs[[3, 3, 0]])
    np.testing.assert_array_equal(feed.targets(np.array([3, 4])), [0, 1])


def test_raw_data_is_left_alone() -> None:
    floats = images().astype(np.float32)
    feed = make_feed(make_dataset(floats))
    feed.inputs(np.arange(40))[:] = 0
    np.testing.assert_array_equal(floats, images())


def test_the_test_set_is_the_held_out_rows() -> None:
    feed = make_feed(make_dataset(images()))
    pool = feed.population.test_pool()
    inputs, targets = feed.test_batch(2, 5)
    assert feed.num_test == len(pool) == 8
    np.testing.assert_array_equal(inputs, feed.inputs(pool[2:5]))
    np.testing.assert_array_equal(targets, feed.targets(pool[2:5]))
    assert len(feed.test_batch(6, 100)[1]) == 2


def test_the_test_set_is_the_sources_own() -> None:
    dataset = make_dataset(images(), images(15)[::-1])
    feed = make_feed(dataset, standardise=False)
    inputs, targets = feed.test_batch(0, 15)
    assert feed.num_test == 15
    assert dataset.test_inputs is not None
    np.testing.assert_array_equal(inputs, dataset.test_inputs)
    np.testing.assert_array_equal(targets, np.arange(15) % 3)


def test_a_clients_own_test_samples() -> None:
    own = make_feed(make_dataset(images(), images(15)))
    np.testing.assert_array_equal(own.client_test(2)[0], own.inputs(own.population.test_rows(2)))
    drawn = make_feed(make_dataset(images(), images(15)[::-1]), standardise=False, rule="drawing", samples=8)
    rows = drawn.population.test_rows(2)
    assert drawn.dataset.test_inputs is not None
    np.testing.assert_array_equal(drawn.client_test(2)[0], drawn.dataset.test_inputs[rows])
    np.testing.assert_array_equal(drawn.client_test(2)[1], rows % 3)


def test_a_client_may_have_no_test_sample() -> None:
    inputs, targets = make_feed(make_dataset(images(), images(5)), test_fraction=0.0).client_test(0)
    assert inputs.shape == (0, 2, 3, 4)
    assert targets.shape == (0,)


def test_shapes_and_counts() -> None:
    feed = make_feed(make_dataset(images()))
    assert (feed.sample_shape, feed.num_classes, feed.num_clients) == ((2, 3, 4), 3, 4)


def text_of(vocabulary: int, targets: NDArray[Any]) -> Dataset:
    text = np.arange(120, dtype=np.uint8).reshape(40, 3) % 7
    rest = {"owners": None, "num_classes": 7, "test_inputs": text[:5], "test_targets": targets[:5]}
    return Dataset(name="text", inputs=text, targets=targets, vocabulary=vocabulary, **rest)


@pytest.mark.parametrize("per_position", [False, True])
def test_symbols_stay_whole_numbers(per_position: bool) -> None:
    targets = np.arange(40).astype(np.uint16) % 7
    dataset = text_of(7, np.repeat(targets[:, None], 3, axis=1) if per_position else targets)
    feed = make_feed(dataset)
    rows = np.array([4, 4, 9])
    for (inputs, classes), (raw, raw_classes) in (
        ((feed.inputs(rows), feed.targets(rows)), (dataset.inputs[rows], dataset.targets[rows])),
        (feed.test_batch(1, 4), (dataset.inputs[1:4], dataset.targets[1:4])),
    ):
        assert inputs.dtype == classes.dtype == np.int64
        np.testing.assert_array_equal(inputs, raw)
        np.testing.assert_array_equal(classes, raw_classes)
    assert feed.target_shape == ((3,) if per_position else ())


def test_whole_numbers_without_a_vocabulary_are_numbers() -> None:
    assert make_feed(text_of(0, np.arange(40) % 7)).inputs(np.array([1])).dtype == np.float32


class TestNumbers:
    """Targets that are numbers."""

    @staticmethod
    def make(targets: np.ndarray, *, standardise: bool = True) -> Feed:
        count = len(targets)
        dataset = Dataset(
            name="numbers",
            inputs=np.arange(count * 2.0).reshape(count, 2),
            targets=targets,
            owners=None,
            num_classes=0,
            test_inputs=None,
            test_targets=None,
        )
        owners = np.full(2, -1)
        population = hold_out(np.arange(count) % 2, test_fraction=0.25, seed=1, owners=owners)
        return Feed(dataset=dataset, population=population, standardise=standardise)

    def test_they_are_standardised_over_training_rows(self) -> None:
        targets = np.random.default_rng(1).normal(1000.0, 30.0, (40, 2)) * [1.0, 1e-3]
        feed = self.make(targets)
        found = feed.targets(feed.population.train_pool())
        assert (found.dtype, feed.target_shape, feed.num_outputs, feed.num_classes) == (np.float32, (2,), 2, 0)
        np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=1e-4)
        rows = feed.population.test_rows(0)
        _, tested = feed.client_test(0)
        assert feed.target_shift is not None
        np.testing.assert_allclose(tested * feed.target_scale + feed.target_shift, targets[rows], rtol=1e-6)

    def test_they_are_left_as_they_are_without(self) -> None:
        targets = np.arange(8.0)[:, None]
        feed = self.make(targets, standardise=False)
        np.testing.assert_array_equal(feed.targets(np.arange(8)), targets)

    @pytest.mark.parametrize(
        ("targets", "text"),
        [
            (np.arange(8.0), "floating-point numbers"),
            (np.arange(8)[:, None], "floating-point numbers"),
            (np.full((8, 1), np.inf), "row 0 of the targets"),
            (np.zeros((8, 0)), "floating-point numbers"),
        ],
    )
    def test_what_is_no_number_is_refused(self, targets: np.ndarray, text: str) -> None:
        with pytest.raises(DataError, match=text):
            self.make(targets)
