"""Every shipped model at each of its cuts: what clients train is what they train on the model that is not cut."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.chains import assert_close
from support.model_cases import CASES, built
from support.zoo import zoo_reference
from torch import Tensor

from hpcfsl.models.split import SplitModel, cut_points
from hpcfsl.native.library import library
from hpcfsl.training.executors import make_candidate
from hpcfsl.training.native.executor import why_not
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.table import Candidate
from hpcfsl.training.updates import LocalData

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(batch_size=2, learning_rate=0.05, momentum=0.5)
COUNTS, CLIENTS = (3, 1), (2, 11)
CUTS = [(name, cut) for name in CASES for cut in [*cut_points(built(name)), "none"]]
# The stem for large images is the only part that differs from the case of small ones.
CUTS = [(name, cut) for name, cut in CUTS if name != "resnet18-large" or cut == "pool1"]

# In a row, so that the compiled engine takes them; the others have residuals, or memory that it does not know.
NATIVE = {"digits-cnn", "mlp", "lenet5", "cifar-cnn", "speech-cnn1d", "speech-cnn2d", "speech-gru", "gru-lm"}
NATIVE |= {"gru-forecast", "sentence-classifier"}


@cache
def data_of(name: str) -> LocalData:
    inputs, targets = CASES[name].batch(sum(COUNTS))
    return LocalData(clients=np.array(CLIENTS), counts=np.array(COUNTS), inputs=inputs, targets=targets)


@cache
def whole(name: str) -> dict[str, NDArray[np.float32]]:
    """Return what the slow reference makes of the model that is not cut, [clients, *shape] by parameter."""
    model = CASES[name].split("none", built(name))
    updates = zoo_reference(model, data_of(name), SETTINGS, seed=5, round=2)
    return {key.partition(".")[2]: each.numpy() for key, each in model.layout.unflatten(updates).items()}


def in_order_of(model: SplitModel, name: str) -> NDArray[np.float32]:
    rows = {key: torch.from_numpy(whole(name)[key.partition(".")[2]]) for key in model.layout.names}
    return model.layout.flatten(rows).numpy()


def train(executor: str, model: SplitModel, name: str) -> Tensor:
    choice = Candidate(executor=executor, chunk_clients=4)
    made = make_candidate(choice, model, SETTINGS, CPU, most_samples=max(COUNTS))
    assert made.name == executor
    return made.train(model.initial_weights(1), data_of(name), seed=5, round=2).updates


@pytest.mark.parametrize(("name", "cut"), CUTS)
def test_every_executor_trains_the_model_that_is_not_cut(name: str, cut: str) -> None:
    model = CASES[name].split(cut, built(name))
    wanted = in_order_of(model, name)
    assert (np.abs(wanted).max(axis=1) > 1e-4).all()
    takes = library() is not None and why_not(model) is None
    for executor in ("stacked", "one-by-one", "native")[: 2 + takes]:
        assert_close(model, train(executor, model, name), wanted)


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
@pytest.mark.parametrize("name", CASES)
def test_the_compiled_engine_takes_what_is_in_a_row(name: str) -> None:
    case = CASES[name]
    reason = why_not(case.split(case.settings.cut, built(name)))
    if case.samples.predicts == "numbers":
        return
    assert (reason is None) == (case.tree["name"] in NATIVE), reason


@pytest.mark.parametrize("name", CASES)
def test_every_model_is_stacked_from_layers(name: str) -> None:
    model = CASES[name].split(CASES[name].settings.cut, built(name))
    choice = Candidate(executor="stacked", chunk_clients=4)
    assert make_candidate(choice, model, SETTINGS, CPU, most_samples=3).detail == ""
