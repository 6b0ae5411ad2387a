"""A reader for pickles of plain data: dictionaries, lists, strings, numbers and numpy arrays, and nothing that runs.

Python's own `pickle` executes what a file says. Here a pickle is a list of steps, taken apart by `pickletools`, of
which those that only build plain data are carried out; the functions that rebuild arrays are known by name and replaced
by ones written here. Whatever else a file asks for is refused by name. All that is made is part of the file, so memory
follows its size. Choose it for old data sets that are published as pickles.
"""

from __future__ import annotations

import math
import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.files import file_error
from hpcfsl.errors import DataError, shorten

_MAX_FILE_BYTES = 1 << 30
_OLD_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_PLAIN = _OLD_STRINGS | {
    *("NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMERIC = frozenset("buif")


def read_pickled_dict(path: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle file, its keys as text; arrays [...] are its values only at the top.

    Raises:
        DataError: The file is missing, larger than 1 GiB, damaged, or asks for anything but plain data.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise file_error(path, f"has {path.stat().st_size} bytes; such a file has at most {_MAX_FILE_BYTES}")
        found = _Machine(path).run(path.read_bytes())
    except DataError:
        raise
    except OSError as error:
        raise file_error(path, f"{error.strerror}; get the file again") from None
    # Damaged codes work on what is not there or of another kind; MemoryError for a length beyond all bounds.
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error, MemoryError) as error:
        raise file_error(path, f"is no pickle, or damaged ({shorten(str(error))}); get the file again") from None
    if not isinstance(found, dict):
        raise file_error(path, f"holds a {type(found).__name__}, not a dictionary; get the file again")
    return {_text(key): value.numbers if isinstance(value, _Array) else value for key, value in found.items()}


@dataclass(frozen=True)
class _Name:
    """A function or class that the file names; it is never looked up."""

    text: str


@dataclass
class _Type:
    """A type of numbers, `u1` and the like, and its byte order."""

    code: str
    order: str = "|"

    def make(self) -> np.dtype[Any]:
        kind = np.dtype(f"{self.order if self.order in '<>' else '='}{self.code}")
        if kind.kind not in _NUMERIC:
            raise ValueError(f"an array of type {kind}")
        return kind


@dataclass
class _Array:
    """An array, empty until the file has said what is in it."""

    numbers: NDArray[Any] | None = None

    def fill(self, content: bytes, kind: _Type, shape: tuple[int, ...], fortran: bool) -> None:
        dtype = kind.make()
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
        flat = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False)
        self.numbers = flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(content: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.fill(content, kind, shape, order == "F")
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text encoded as {shorten(encoding)}")
    return text.encode("latin-1")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": lambda code, *_: _Type(_text(code)),
    "_codecs.encode": _encode,
    **dict.fromkeys(("__builtin__.bytes", "builtins.bytes"), lambda: b""),
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _Array() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
_KNOWN = {*_FUNCTIONS, "numpy.ndarray"}


class _Machine:
    """Carries out the steps of one pickle: a stack of values, marks in it, and a memory of values by number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in old strings
            for operation, argument, _ in pickletools.genops(content):
                if operation.name == "STOP":
                    return self._stack.pop()
                self._step(operation.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self._stack.append(_CONSTANTS.get(name, _as_bytes(name, argument)))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            text = f"uses the pickle operation {name}, which can run programs; only plain data and arrays are read"
            raise file_error(self._path, text)

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _from_mark(self) -> list[Any]:
        start = self._marks.pop()
        values, self._stack[start:] = self._stack[start:], []
        return values

    def _take(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise IndexError("too few values")
        start = len(self._stack) - count
        values, self._stack[start:] = self._stack[start:], []
        return values

    def _remember(self, number: int | None) -> None:
        self._memory[len(self._memory) if number is None else number] = self._stack[-1]

    def _recall(self, number: int) -> None:
        self._stack.append(self._memory[number])

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise TypeError("values for something that is no list")
        target.extend(values)

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("entries for something that is no dictionary")
        target.update(_pairs(values))

    def _name(self, text: str) -> None:
        if text not in _KNOWN:
            wanted = f"wants to load {shorten(text)}, which could run a program"
            raise file_error(self._path, f"{wanted}; only plain data and arrays are read, so get it from its authors")
        self._stack.append(_Name(text))

    def _stack_name(self, _: Any) -> None:
        self._name(".".join(_text(part) for part in self._take(2)))

    def _call(self, _: Any) -> None:
        function, arguments = self._take(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is no function")
        self._stack.append(_FUNCTIONS[function.text](*arguments))

    def _build(self, _: Any) -> None:
        (state,) = self._take(1)
        target = self._stack[-1]
        if isinstance(target, _Type):
            target.order = _text(state[1])
        elif isinstance(target, _Array):
            _, shape, kind, fortran, content = state
            target.fill(content, kind, shape, bool(fortran))
        else:
            raise TypeError("a state for something that is no array")


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine._mark,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._recall),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine._stack.append(()),
    "LIST": lambda machine, _: machine._stack.append(machine._from_mark()),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._from_mark())),
    "DICT": lambda machine, _: machine._stack.append(_pairs(machine._from_mark())),
    "TUPLE1": lambda machine, _: machine._stack.append(tuple(machine._take(1))),
    "TUPLE2": lambda machine, _: machine._stack.append(tuple(machine._take(2))),
    "TUPLE3": lambda machine, _: machine._stack.append(tuple(machine._take(3))),
    "APPEND": lambda machine, _: machine._extend(machine._take(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._from_mark()),
    "SETITEM": lambda machine, _: machine._update(machine._take(2)),
    "SETITEMS": lambda machine, _: machine._update(machine._from_mark()),
    "GLOBAL": lambda machine, text: machine._name(text.replace(" ", ".")),
    "STACK_GLOBAL": _Machine._stack_name,
    "REDUCE": _Machine._call,
    "BUILD": _Machine._build,
}


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[0::2]
    if not all(isinstance(key, str | bytes | int) for key in keys):  # hashing a nest of tuples may take for ever
        raise TypeError("a key that is neither text nor number")
    return dict(zip(keys, values[1::2], strict=True))


def _as_bytes(name: str, argument: Any) -> Any:
    """Return the strings of Python 2 as the bytes that they are."""
    return argument.encode("latin-1") if name in _OLD_STRINGS else argument


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str | int):
        raise TypeError(f"a {type(value).__name__} for a name")
    return str(value)
