"""Reductions along the free dims in one fixed order.

Sums and products: 16 lanes, lane ``i`` taking elements ``i, i + 16, ...`` in sequence, then a
tree that folds the upper half of the lanes onto the lower, four times. Lanes beyond the number of
elements do not take part. Everything is float32. The silicon's order is not public and this is a
choice: the error of a sum against the exact one is at most ``n * 2**-24 * sum(|x|)``. Maximum,
minimum and bitwise results have no order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError
from tenzing.isa.numerics.alu import alu_op
from tenzing.isa.numerics.rounding import f32

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]

LANES: Final = 16
MANY_ROWS: Final = 48  # from here on, one NumPy call per lane step beats one reduce call

_LANED: Final[dict[str, np.ufunc]] = {"add": np.add, "multiply": np.multiply, "average": np.add}
_ORDERLESS: Final[dict[str, np.ufunc]] = {"maximum": np.maximum, "minimum": np.minimum}
_BITWISE: Final[dict[str, np.ufunc]] = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}


@np.errstate(all="ignore")
def row_reduce(
    op: object, values: Array, axes: int | tuple[int, ...] = -1, *, keepdims: bool = False
) -> Float32:
    """Reduce the trailing ``axes`` of ``values`` with arithmetic ``op``: float32.

    Other operators than add, multiply, maximum, minimum and average are applied in sequence.
    Raises UsageError when the axes are not the last ones or the operator cannot reduce.
    """
    operator = alu_op(op)
    rows, shape = _rows(f32(values), axes, keepdims)
    if operator.name in _ORDERLESS:
        result = _ORDERLESS[operator.name].reduce(rows, axis=1)
    elif operator.name in _LANED:
        result = _laned(_LANED[operator.name], rows)
        if operator.name == "average":
            result = result / np.float32(rows.shape[1])
    elif operator.arity == 2 and operator.kind != "bitvec":  # noqa: PLR2004 - two operands
        result = _in_sequence(operator, rows)
    else:
        raise UsageError(f"{operator.name} is not an arithmetic operator of two operands")
    return np.asarray(result, np.float32).reshape(shape)


def row_sum(values: Array, axes: int | tuple[int, ...] = -1, *, keepdims: bool = False) -> Float32:
    """Sum of the trailing ``axes`` of ``values`` in the fixed order: float32."""
    return row_reduce("add", values, axes, keepdims=keepdims)


def bit_reduce(
    op: object, values: Array, axes: int | tuple[int, ...] = -1, *, keepdims: bool = False
) -> Array:
    """Reduce the trailing ``axes`` of an integer array with a bitwise operator, same dtype."""
    operator = alu_op(op)
    ufunc = _BITWISE.get(operator.name)
    if ufunc is None or values.dtype.kind not in "iub":
        raise UsageError(
            "bit_reduce needs a bitwise operator and an integer array",
            got=f"{operator.name} of {values.dtype}",
            allowed=", ".join(_BITWISE),
        )
    rows, shape = _rows(values, axes, keepdims)
    result: Array = ufunc.reduce(rows, axis=1).reshape(shape)
    return result


def _rows(
    values: Array, axes: int | tuple[int, ...], keepdims: bool
) -> tuple[Array, tuple[int, ...]]:
    """``values`` as [rows, reduced elements], and the shape of the result."""
    chosen = sorted(axis % values.ndim for axis in ((axes,) if isinstance(axes, int) else axes))
    kept = values.ndim - len(chosen)
    if chosen != list(range(kept, values.ndim)):
        raise UsageError(
            f"reduced axes must be the last ones of {values.ndim}",
            got=axes,
            next_step="transpose the view so that they come last",
        )
    count = math.prod(values.shape[kept:])
    if count == 0:
        raise UsageError("there is nothing to reduce", got=values.shape)
    shape = values.shape[:kept] + (1,) * (len(chosen) if keepdims else 0)
    return values.reshape(-1, count), shape


def _laned(ufunc: np.ufunc, rows: Float32) -> Float32:
    height, count = rows.shape
    whole = count // LANES
    if whole == 0:
        lanes = rows.copy()
    elif height >= MANY_ROWS:
        lanes = rows[:, :LANES].copy()
        for start in range(LANES, whole * LANES, LANES):
            ufunc(lanes, rows[:, start : start + LANES], out=lanes)
    else:
        steps = np.ascontiguousarray(rows[:, : whole * LANES]).reshape(height, whole, LANES)
        lanes = ufunc.reduce(steps, axis=1)  # the lanes are innermost, so steps go in sequence
    tail = count - whole * LANES
    if whole and tail:
        ufunc(lanes[:, :tail], rows[:, whole * LANES :], out=lanes[:, :tail])
    return _tree(ufunc, lanes)


def _tree(ufunc: np.ufunc, lanes: Float32) -> Float32:
    width = lanes.shape[1]
    half = LANES // 2
    while half:
        if width > half:
            lower = lanes[:, : width - half]
            ufunc(lower, lanes[:, half:width], out=lower)
            width = half
        half //= 2
    return lanes[:, 0]


def _in_sequence(op: Callable[..., Array], rows: Float32) -> Float32:
    columns = np.ascontiguousarray(rows.T)
    total = columns[0]
    for column in columns[1:]:
        total = op(total, column)
    return np.asarray(total, np.float32)
