"""Shifts of integers; bits shifted out are lost, shifts beyond the width leave none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, TensorType
from tenzing.compiler.ops.elementwise import Binary, expect_count

BITS_PER_BYTE: Final = 8


def _width(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize * BITS_PER_BYTE


def _unsigned(array: Array) -> Array:
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "i" else array


def _within(amount: Array) -> tuple[Array, Array]:
    """Which amounts leave a bit, and the amounts with the others set to zero."""
    inside = (amount >= 0) & (amount < _width(amount.dtype))
    return inside, np.where(inside, amount, 0).astype(amount.dtype)


def _moved(shift: np.ufunc, x: Array, y: Array) -> Array:
    """Bits of x moved by y places; none stay when y is outside the width."""
    inside, amount = _within(y)
    return np.where(inside, shift(_unsigned(x), _unsigned(amount)).view(x.dtype), 0)


@dataclass(frozen=True)
class BitcastConvert(Op, name="bitcast_convert"):
    """The same bits as another dtype of equal size."""

    dtype: np.dtype[Any]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's shape with the new dtype."""
        expect_count(self.name, inputs, 1)
        (x,) = inputs
        if x.dtype.itemsize != self.dtype.itemsize or "b" in x.dtype.kind + self.dtype.kind:
            raise GraphError("bitcast_convert", got=f"{x} to {self.dtype.name}",
                             allowed="numbers of equal size")  # fmt: skip
        return (x.with_dtype(self.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (np.ascontiguousarray(inputs[0]).view(self.dtype).reshape(inputs[0].shape),)


@dataclass(frozen=True)
class ShiftLeft(Binary, name="shift_left"):
    """x with its bits moved y places up; zeros enter."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return _moved(np.left_shift, *inputs)


@dataclass(frozen=True)
class ShiftRightLogical(Binary, name="shift_right_logical"):
    """x with its bits moved y places down; zeros enter."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        return _moved(np.right_shift, *inputs)


@dataclass(frozen=True)
class ShiftRightArithmetic(Binary, name="shift_right_arithmetic"):
    """x with its bits moved y places down; copies of the sign enter."""

    domain = "integer"

    def compute(self, *inputs: Array) -> Array:
        """See the class."""
        most = _width(inputs[1].dtype) - 1
        inside, amount = _within(inputs[1])
        held = np.where(inside, amount, most).astype(amount.dtype)
        return np.asarray(np.right_shift(inputs[0], held))
