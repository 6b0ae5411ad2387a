"""Loading the kernels and declaring their functions.

The extension module `_kernels` exports nothing to Python; its functions are called through ctypes, with addresses of
arrays, and release the interpreter's lock while they run.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import util

_I, _L, _F, _D, _P = ctypes.c_int, ctypes.c_long, ctypes.c_float, ctypes.c_double, ctypes.c_void_p
_TEXT = ctypes.c_char_p

# Result type and argument types of every function.
_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "hpcfsl_isa": (_TEXT, ()),
    "hpcfsl_use_isa": (_I, (_TEXT,)),
    "hpcfsl_engine_make": (_P, (_P,)),
    "hpcfsl_engine_train": (_I, (_P, _P)),
    "hpcfsl_engine_step": (None, (_P, _P)),
    "hpcfsl_engine_bytes": (_L, (_P,)),
    "hpcfsl_engine_times": (_L, (_P, _P)),
    "hpcfsl_engine_free": (None, (_P,)),
    "hpcfsl_shuffle": (_I, (_P, _P, _L, _L, _P, ctypes.c_uint32, ctypes.c_uint32, _P)),
    # Over a group's updates: rows, stride, count and size first.
    "hpcfsl_row_squares": (None, (_P, _L, _L, _L, _P)),
    "hpcfsl_perturb_rows": (None, (_P, _L, _L, _L, _P, _F, _P, _P, ctypes.c_uint32, _P)),
    "hpcfsl_coordinate_median": (_I, (_P, _L, _L, _L, _P, _L, _P)),
    "hpcfsl_geometry": (_I, (_P, _L, _L, _L, _P, _L, _P, _P, _P, _P)),
    "hpcfsl_weighted_sum": (None, (_P, _L, _P, _P, _L, _L, _P)),
    "hpcfsl_fingerprint": (None, (_P, _L, _L, _L, _P, _P, _P)),
    "hpcfsl_largest_bits": (None, (_P, _L, _L, _P)),
    "hpcfsl_add_fixed": (None, (_P, _D, _P, _L, _L, _P)),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the kernels, or None where they were not built."""
    found = util.find_spec("hpcfsl.native._kernels")
    if found is None or found.origin is None:
        return None
    loaded = ctypes.CDLL(found.origin)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def instruction_set() -> str:
    """Return the instruction set in use ("avx512", "avx2", "base"), or "none" without kernels."""
    loaded = library()
    return "none" if loaded is None else loaded.hpcfsl_isa().decode().removeprefix("isa_")


def use_instruction_set(name: str) -> None:
    """Use the kernels of another instruction set ("base", "avx2", "avx512"), to compare them.

    Raises:
        ValueError: This processor cannot run them, or there are none.
    """
    loaded = library()
    if loaded is None or not loaded.hpcfsl_use_isa(f"isa_{name}".encode()):
        raise ValueError(f"this machine cannot run kernels for {name!r}")
