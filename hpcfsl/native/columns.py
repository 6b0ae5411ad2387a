"""Kernels over a group's updates, one row a client: each reads the rows once and writes little or nothing.

Layer 0. Arrays in, arrays out (a CPU tensor's `numpy()` shares its memory). Every kernel's obvious counterpart in torch
or numpy stands where it is used and takes over where `available` is false or the updates are on a GPU; which of the two
runs depends on the build and the device alone. Sums are kept in float64 in a fixed order, so a result depends on the
rows and not on ranks or chunks; another instruction set may differ in the last bits.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.native.library import library

Rows = NDArray[np.float32]
Vector = NDArray[np.float64]


def available() -> bool:
    """Return whether the kernels were built."""
    return library() is not None


def rows_of(updates: Any) -> Rows | None:
    """Return a torch tensor's own memory, if the kernels were built and it is in reach of them, else None.

    Args:
        updates: float32 [rows, params] on any device.
    """
    if library() is None or updates.device.type != "cpu":
        return None
    rows: Rows = updates.numpy()
    fits = rows.dtype == np.float32 and rows.strides[1] == 4 and rows.strides[0] >= 0
    return rows if fits else None


def row_norms(rows: Rows) -> Vector:
    """Return the Euclidean norm of each row, [rows]; NaN or infinite exactly where the row is not finite."""
    squares = np.empty(len(rows))
    _kernels().hpcfsl_row_squares(*_layout(rows), _address(squares))
    return np.sqrt(squares, out=squares)


def perturb_rows(
    rows: Rows,
    norms: Vector,
    factors: NDArray[np.float32],
    deviation: float,
    *,
    key: tuple[int, int],
    round: int,
    entities: NDArray[np.int64],
) -> Vector:
    """Multiply rows by factors and add keyed normal numbers, in place; return the norms that rows then have, [rows].

    Args:
        rows: The updates, [rows, params], changed.
        norms: Their norms, which rows that are left alone keep, [rows].
        factors: A factor a row, [rows].
        deviation: Standard deviation of the noise; 0 adds none.
        key: Philox key (`hpcfsl.seeding.key_of`).
        round: The round.
        entities: The client whose noise a row gets; -1 leaves the row alone; [rows].
    """
    squares, words = np.zeros(len(rows)), np.array(key, np.uint32)
    factors, entities = np.ascontiguousarray(factors, np.float32), np.ascontiguousarray(entities, np.int64)
    where = (_address(factors), deviation, _address(words), _address(entities), round, _address(squares))
    _kernels().hpcfsl_perturb_rows(*_layout(rows), *where)
    return np.where(entities < 0, norms, np.sqrt(squares))


def coordinate_median(rows: Rows, network: NDArray[np.int32]) -> Rows:
    """Return the median of each column of at least one finite row, [params].

    Args:
        rows: [rows, params].
        network: Comparisons that put the middle of so many rows in place, [comparisons, 2].
    """
    median = np.empty(rows.shape[1], np.float32)
    _check(_kernels().hpcfsl_coordinate_median(*_layout(rows), *_network(network), _address(median)))
    return median


def geometry(rows: Rows, network: NDArray[np.int32]) -> tuple[Vector, Vector, Vector, float]:
    """Return what scores are made from, in one pass over at least one finite row.

    Args:
        rows: [rows, params].
        network: As for `coordinate_median`.

    Returns:
        Each row's inner product with the coordinate median [rows], each row's square [rows], the inner products of
        the rows less the median [rows, rows], and the median's square.
    """
    count = len(rows)
    products, squares, gram, center = np.empty(count), np.empty(count), np.empty((count, count)), np.empty(1)
    out = (_address(products), _address(squares), _address(gram), _address(center))
    _check(_kernels().hpcfsl_geometry(*_layout(rows), *_network(network), *out))
    return products, squares, gram, float(center[0])


def weighted_sum(rows: Rows, chosen: NDArray[np.int64], factors: Vector) -> Rows:
    """Return the sum of factor times row over the chosen rows, in their order, [params]; other rows are not read."""
    total = np.empty(rows.shape[1], np.float32)
    chosen, factors = np.ascontiguousarray(chosen, np.int64), np.ascontiguousarray(factors, np.float64)
    assert len(factors) == len(chosen)
    assert not len(chosen) or 0 <= chosen.min() <= chosen.max() < len(rows)
    start, stride, _, size = _layout(rows)
    _kernels().hpcfsl_weighted_sum(
        start, stride, _address(chosen), _address(factors), len(chosen), size, _address(total)
    )
    return total


def fingerprint(rows: Rows, signs: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], Vector]:
    """Return the hash sums [rows] and the sketches [rows, 64] of `hpcfsl.trace.fingerprint`.

    Args:
        rows: [rows, params].
        signs: The sign bit of each coordinate in the sketch, [params].
    """
    assert signs.shape == rows.shape[1:]
    hashes, sketches = np.zeros(len(rows), np.uint64), np.zeros((len(rows), 64))
    _kernels().hpcfsl_fingerprint(*_layout(rows), _address(signs), _address(hashes), _address(sketches))
    return hashes, sketches


def hash_sums(rows: Rows) -> NDArray[np.uint64]:
    """Return the hash sums of `fingerprint` alone, [rows]."""
    hashes = np.zeros(len(rows), np.uint64)
    _kernels().hpcfsl_fingerprint(*_layout(rows), None, _address(hashes), None)
    return hashes


def largest_magnitudes(row: Rows, run: int) -> Rows:
    """Return the largest magnitude in each run of columns, [runs]; NaN or infinite where the run is not finite."""
    largest = np.empty(-(-len(row) // run), np.float32)
    _kernels().hpcfsl_largest_bits(_address(row), len(row), run, _address(largest))
    return largest


def add_fixed(row: Rows, factor: float, scales: Vector, run: int, sums: NDArray[np.int64]) -> None:
    """Add rint(factor * row * scale) to `sums`, [params], in place; each run of columns has its own scale, [runs]."""
    assert len(scales) == -(-len(row) // run)
    assert sums.shape == row.shape
    _kernels().hpcfsl_add_fixed(_address(row), factor, _address(scales), len(row), run, _address(sums))


def _kernels() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None, "callers ask `available` first"
    return loaded


def _address(array: NDArray[Any]) -> int:
    """Return where a contiguous array lies."""
    assert array.flags.c_contiguous
    address: int = array.__array_interface__["data"][0]
    return address


def _layout(rows: Rows) -> tuple[int, int, int, int]:
    """Return address, distance of rows in elements, count and size; a slice of columns or an expanded row will do."""
    count, size = rows.shape
    assert rows.dtype == np.float32
    assert rows.strides[1] == 4 or size < 2
    assert rows.strides[0] >= 0
    assert rows.strides[0] % 4 == 0
    return rows.__array_interface__["data"][0], rows.strides[0] // 4, count, size


def _network(network: NDArray[np.int32]) -> tuple[int, int]:
    assert network.dtype == np.int32
    return _address(network), len(network)


def _check(done: int) -> None:
    if not done:
        raise MemoryError("no memory for the scratch of a kernel over a group's updates")
