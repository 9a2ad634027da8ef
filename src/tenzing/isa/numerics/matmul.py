"""The matrix product in one fixed order, so that every machine computes the same bits.

The contraction is cut into blocks of 32. In a block the terms of even and of odd position are
added in sequence, each from zero, then ``psum += even + odd``. Every product is rounded to
float32 (exact for 8- and 16-bit floats and tfloat32) and every sum too. A denormal operand,
product or sum counts as zero. NaN payloads are left open. The silicon's own order is not public
and this is a choice: the error against the exact sum is at most ``K * 2**-24 * sum(|a| |b|)``.

Three programs compute it: a slice-wise BLAS product, a slice-wise ``einsum``, and a plain loop.
The first two are used for a shape only after they have matched the loop bit for bit on it, because
the order inside BLAS depends on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError

Float32: TypeAlias = NDArray[np.float32]

BLOCK: Final = 32  # terms between two additions to PSUM
COLUMNS: Final = 256  # columns worked on at a time: the partial sums stay in the CPU's cache
EXACT_MASK: Final = np.uint32(0xFFF)  # 12-bit significands have exact products
# Sums of multiples of 2**-126 are never denormal; a product of two numbers whose product of
# magnitudes reaches this is such a multiple (24 bits, and 2 for rounding both logarithms down).
SAFE_PRODUCT: Final = 2.0**-101
SAFE_SUM: Final = 2.0**-103
SMALLEST_NORMAL: Final = np.float32(2.0**-126)
TRIAL_SIZE: Final = 64  # elements a self-test compares at least


@np.errstate(all="ignore")
def matmul(
    stationary: Float32, moving: Float32, out: Float32 | None = None, *, fast: bool = False
) -> Float32:
    """``stationary[K, M]`` transposed times ``moving[K, N]``: float32 ``[M, N]``.

    With ``out`` the product is added to the value there, block after block, and ``out`` is
    returned. ``fast`` uses one plain BLAS product instead of the fixed order: its bits depend on
    the CPU, within the bound above. Raises UsageError when the contractions differ.
    """
    if stationary.ndim != 2 or moving.ndim != 2 or len(stationary) != len(moving):  # noqa: PLR2004
        raise UsageError(
            "matmul needs stationary [K, M] and moving [K, N]",
            got=f"{stationary.shape} and {moving.shape}",
        )
    if out is None:
        out = np.zeros((stationary.shape[1], moving.shape[1]), np.float32)
    if 0 in (*stationary.shape, *moving.shape):
        return out
    if fast:
        out += stationary.T @ moving
        return out
    a = np.ascontiguousarray(stationary)
    b = np.ascontiguousarray(moving)
    _ordered(a, b, out)
    return out


def _ordered(a: Float32, b: Float32, out: Float32) -> None:
    """The canonical product on top of ``out``, with a second look where denormals may occur."""
    low = np.bitwise_or.reduce(a.view(np.uint32), axis=None)
    low |= np.bitwise_or.reduce(b.view(np.uint32), axis=None)
    exact = not low & EXACT_MASK
    flush = _smallest(out) < SAFE_SUM
    if _smallest(a) * _smallest(b) >= SAFE_PRODUCT:
        _blocks(a, b, out, exact=exact, flush=flush)
        return
    small_a, small_b = _smallest_per_column(a), _smallest_per_column(b)
    rows = np.flatnonzero(small_a * small_b.min() < SAFE_PRODUCT)
    columns = np.flatnonzero(small_b * small_a.min() < SAFE_PRODUCT)
    corner = np.ix_(rows, columns)
    kept = out[corner]
    _blocks(a, b, out, exact=exact, flush=flush)
    _flushing(a[:, rows], b[:, columns], kept)
    out[corner] = kept


def _smallest(values: Float32) -> float:
    """Smallest magnitude above zero; infinite when there is none."""
    # shifting the sign out and subtracting one makes zero the largest pattern
    bits = values.view(np.uint32) << np.uint32(1)
    bits -= np.uint32(1)
    return _from_pattern(int(bits.min()))


def _from_pattern(pattern: int) -> float:
    if pattern == np.iinfo(np.uint32).max:
        return np.inf
    size = float(np.uint32((pattern + 1) >> 1).view(np.float32))
    return np.inf if np.isnan(size) else size


def _smallest_per_column(values: Float32) -> NDArray[np.float64]:
    sizes = np.abs(values).astype(np.float64)
    sizes[(sizes == 0) | np.isnan(sizes)] = np.inf
    least: NDArray[np.float64] = sizes.min(axis=0)
    return least


# --- the order --------------------------------------------------------------------------------

Slice: TypeAlias = Callable[[Float32, Float32, Float32], Any]  # terms [k, M], [k, N] into [M, N]


def _blocks(a: Float32, b: Float32, out: Float32, *, exact: bool, flush: bool) -> None:
    depth, rows = a.shape
    if np.may_share_memory(a, b):  # NumPy hands X.T @ X to another BLAS routine
        b = b.copy()
    if flush:
        _flush(out)
    for first in range(0, b.shape[1], COLUMNS):
        part = b[:, first : first + COLUMNS]
        if part.shape[1] != b.shape[1]:
            part = np.ascontiguousarray(part)
        total = out[:, first : first + COLUMNS]
        even = np.empty((rows, part.shape[1]), np.float32)
        odd = np.empty_like(even)
        for start in range(0, depth, BLOCK):
            _sequential(a[start : start + BLOCK : 2], part[start : start + BLOCK : 2], even, exact)
            if start + 1 < depth:
                end = start + BLOCK
                _sequential(a[start + 1 : end : 2], part[start + 1 : end : 2], odd, exact)
                even += odd
            total += even
            if flush:
                _flush(total)


def _sequential(a: Float32, b: Float32, out: Float32, exact: bool) -> None:
    """Sum over dim 0 in sequence, by the fastest program known to keep the order."""
    _program(len(a), a.shape[1], b.shape[1], exact)(a, b, out)


@cache
def _program(depth: int, rows: int, columns: int, exact: bool) -> Slice:
    """The fastest slice program whose bits equal the loop's for this shape on this CPU."""
    candidates = (slice_blas, slice_einsum) if exact else (slice_einsum,)
    for candidate in candidates:
        if _agrees(candidate, depth, rows, columns, exact):
            return candidate
    return slice_loop


def _agrees(candidate: Slice, depth: int, rows: int, columns: int, exact: bool) -> bool:
    generator = np.random.Generator(np.random.PCG64(depth))
    for _ in range(1 + TRIAL_SIZE // (rows * columns)):
        # the same strides as in use: every second row
        a, b = (
            generator.standard_normal((2 * depth, size), np.float32)[::2]
            for size in (rows, columns)
        )
        if exact:
            for operand in (a, b):
                operand.view(np.uint32)[...] &= ~EXACT_MASK
        expected, found = (np.empty((rows, columns), np.float32) for _ in range(2))
        slice_loop(a, b, expected)
        candidate(a, b, found)
        if not np.array_equal(expected, found):
            return False
    return True


def slice_blas(a: Float32, b: Float32, out: Float32) -> None:
    """Slice sum by BLAS: in sequence on some CPUs only."""
    np.matmul(a.T, b, out=out)


def slice_einsum(a: Float32, b: Float32, out: Float32) -> None:
    """Slice sum by einsum without BLAS: in sequence where its multiply and add are not fused."""
    np.einsum("km,kn->mn", a, b, out=out)


def slice_loop(a: Float32, b: Float32, out: Float32) -> None:
    """Slice sum as it is defined: one product matrix after another."""
    out[...] = 0
    product = np.empty_like(out)
    for k in range(len(a)):
        np.multiply(a[k][:, None], b[k][None, :], out=product)
        out += product


# --- denormals --------------------------------------------------------------------------------


def _flush(values: Float32) -> None:
    """Make denormals zero in place, keeping the sign."""
    np.multiply(values, np.abs(values) >= SMALLEST_NORMAL, out=values)
    # a NaN compares false and stays NaN


def _flushing(a: Float32, b: Float32, out: Float32) -> None:
    """The canonical order as it is defined, with every denormal made zero; slow."""
    a, b = a.copy(), b.copy()
    for values in (a, b, out):
        _flush(values)
    product = np.empty_like(out)
    for start in range(0, len(a), BLOCK):
        sums = np.zeros((2, *out.shape), np.float32)
        for k in range(start, min(start + BLOCK, len(a))):
            np.multiply(a[k][:, None], b[k][None, :], out=product)
            _flush(product)
            half = sums[(k - start) % 2]
            half += product
            _flush(half)
        sums[0] += sums[1]
        _flush(sums[0])
        out += sums[0]
        _flush(out)
