"""The compiled engine from Python: structures that mirror `hpcfsl/native/src/standard.h`, and one class."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.native.library import library
from hpcfsl.training.optimisers import server_rate
from hpcfsl.training.settings import TrainingSettings

_ADDRESSES = (
    *("start", "inputs", "tokens", "classes", "numbers", "orders", "counts", "clients", "updates", "losses", "drift"),
)
_NUMBERS = ("num_clients", "longest", "epochs", "batch", "seed", "round", "own_starts")


_STEP_ADDRESSES = (
    *("own", "server", "inputs", "tokens", "classes", "numbers", "sizes", "places", "clients", "lies"),
    *("smashed", "answers", "gradients", "losses"),
)
_STEP_NUMBERS = ("num_clients", "width", "own_params", "seed", "round", "smash_alone", "server_alone")


class _Descent(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("learning_rate", "server_learning_rate", "beta1", "beta2", "epsilon")),
        *((name, ctypes.c_float) for name in ("momentum", "weight_decay", "proximal", "clip_norm")),
        ("adam", ctypes.c_int64),
    ]


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in _ADDRESSES),
        *((name, ctypes.c_int64) for name in _NUMBERS),
        ("descent", _Descent),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in _STEP_ADDRESSES),
        *((name, ctypes.c_int64) for name in _STEP_NUMBERS),
    ]


class NativeEngine:
    """One compiled model, with the memory that training a few clients takes.

    Args:
        program: What `program.compile_program` returns.

    Raises:
        MemoryError: There is not enough memory.
    """

    def __init__(self, program: NDArray[np.int64]) -> None:
        loaded = library()
        assert loaded is not None, "callers ask whether there are kernels first"
        self._library, self._handle = loaded, loaded.hpcfsl_engine_make(program.ctypes.data)
        if not self._handle:
            raise MemoryError("the model's activations do not fit; choose a smaller training.batch_size")
        weakref.finalize(self, loaded.hpcfsl_engine_free, self._handle)

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return int(self._library.hpcfsl_engine_bytes(self._handle))

    def train(self, arrays: dict[str, NDArray[Any]], *, batch: int, seed: int, round: int, descent: _Descent) -> None:
        """Train clients; arrays by name as in the structure `Job`, C-contiguous; `updates` and `losses` are written."""
        numbers = {
            "num_clients": len(arrays["counts"]),
            "longest": arrays["orders"].shape[2],
            "epochs": len(arrays["orders"]),
            "batch": batch,
            "seed": seed,
            "round": round,
            "own_starts": int(arrays["start"].ndim == 2),
        }
        assert all(array.flags.c_contiguous for array in arrays.values())
        job = _Job(**{name: array.ctypes.data for name, array in arrays.items()}, **numbers, descent=descent)
        if not self._library.hpcfsl_engine_train(self._handle, ctypes.byref(job)):
            raise MemoryError("no memory for the model's wide layers")

    def step(self, arrays: dict[str, NDArray[Any]], **numbers: int) -> None:
        """Take one step of clients that share a server half; names as in the structure `Step`, arrays C-contiguous."""
        assert all(array.flags.c_contiguous for array in arrays.values())
        job = _Step(**{name: array.ctypes.data for name, array in arrays.items()}, **numbers)
        self._library.hpcfsl_engine_step(self._handle, ctypes.byref(job))

    def layer_seconds(self) -> NDArray[np.float64]:
        """Return seconds since the last call, where the program was compiled with `timed`.

        Forward and backward of each layer in turn, then the loss, then gathering and the optimiser's step.
        """
        seconds = np.zeros(1024)
        count = self._library.hpcfsl_engine_times(self._handle, seconds.ctypes.data)
        return seconds[:count]


def descent_of(settings: TrainingSettings) -> _Descent:
    """Return the settings of the local step as the engine takes them."""
    return _Descent(
        learning_rate=settings.learning_rate,
        server_learning_rate=server_rate(settings),
        beta1=settings.adam_beta1,
        beta2=settings.adam_beta2,
        epsilon=settings.adam_epsilon,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        proximal=settings.proximal,
        clip_norm=settings.clip_norm,
        adam=int(settings.optimizer == "adam"),
    )
