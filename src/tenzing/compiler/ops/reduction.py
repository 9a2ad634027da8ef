"""Reductions along dims, and the row composites built on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    F32,
    Array,
    GraphBuilder,
    GraphError,
    Op,
    Shape,
    TensorType,
    Value,
    Work,
    is_float,
)
from tenzing.compiler.ops.activation import splat_like
from tenzing.compiler.ops.elementwise import (
    Add,
    Convert,
    Divide,
    Exponential,
    Multiply,
    Rsqrt,
    Subtract,
    expect_count,
    narrow,
    widen,
)
from tenzing.compiler.ops.shape import BroadcastInDim, check_dim

_REDUCERS: Final[Mapping[str, Callable[..., Array]]] = {
    "add": np.sum,
    "maximum": np.max,
    "minimum": np.min,
    "multiply": np.prod,
    "and": np.all,
    "or": np.any,
}
_RUNNING: Final[Mapping[str, np.ufunc]] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@dataclass(frozen=True)
class Reduce(Op, name="reduce"):
    """Combine all elements along ``dims``, which disappear; ``kind`` names the combiner."""

    kind: str
    dims: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The remaining dims."""
        expect_count(self.name, inputs, 1)
        (operand,) = inputs
        if self.kind not in _REDUCERS:
            raise GraphError("reduce kind", got=self.kind, allowed=", ".join(_REDUCERS))
        if (operand.dtype.kind == "b") != (self.kind in ("and", "or")):
            raise GraphError("reduce kind does not fit the dtype", got=f"{self.kind} of {operand}")
        if list(self.dims) != sorted(set(self.dims)):
            raise GraphError("reduce dims must increase", got=self.dims)
        for dim in self.dims:
            check_dim(self.name, dim, operand.rank)
        kept = [n for d, n in enumerate(operand.shape) if d not in self.dims]
        return (operand.with_shape(kept),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums of floats in float64, rounded once: the order of a chip's sum is not public."""
        (operand,) = inputs
        wide = operand.astype(np.float64) if is_float(operand.dtype) else operand
        with np.errstate(all="ignore"):
            result = _REDUCERS[self.kind](wide, axis=self.dims)
        return (narrow(result, operand.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One operation per input element."""
        return Work(vector_ops=inputs[0].elements)


@dataclass(frozen=True)
class ArgMax(Op, name="argmax"):
    """Index of the first largest element along ``dim``, which disappears."""

    dim: int
    dtype: np.dtype[Any]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Integers over the remaining dims."""
        expect_count(self.name, inputs, 1)
        check_dim(self.name, self.dim, inputs[0].rank)
        kept = [n for d, n in enumerate(inputs[0].shape) if d != self.dim]
        return (TensorType(tuple(kept), self.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (narrow(np.argmax(widen(inputs[0]), axis=self.dim), self.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One comparison per input element."""
        return Work(vector_ops=inputs[0].elements)


@dataclass(frozen=True)
class Cumulative(Op, name="cumulative"):
    """Running combination along ``dim``; ``kind`` is add, multiply, maximum or minimum."""

    kind: str
    dim: int

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type."""
        expect_count(self.name, inputs, 1)
        check_dim(self.name, self.dim, inputs[0].rank)
        if self.kind not in _RUNNING:
            raise GraphError("cumulative kind", got=self.kind, allowed=", ".join(_RUNNING))
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sequential in float32, each prefix rounded once."""
        wide = widen(inputs[0])
        with np.errstate(all="ignore"):
            running = _RUNNING[self.kind].accumulate(wide, axis=self.dim, dtype=wide.dtype)
        return (narrow(running, inputs[0].dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One operation per element."""
        return Work(vector_ops=inputs[0].elements)


class RowComposite(Op):
    """Base of composites that turn each row along the last dim into a row of equal length."""

    exponentials = 0
    passes = 0  # vector operations per element

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """A fixed number of operations per element."""
        count = inputs[0].elements
        return Work(vector_ops=self.passes * count, transcendentals=self.exponentials * count)


@dataclass(frozen=True)
class Softmax(RowComposite, name="softmax"):
    """Exponentials along the last dim divided by their sum, after taking off the maximum."""

    exponentials = 1
    passes = 4

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type, which must be a float of rank at least 1."""
        expect_count(self.name, inputs, 1)
        return (_float_rows(self.name, inputs[0]),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In float64, rounded once."""
        return (narrow(softmax_rows(inputs[0]), inputs[0].dtype),)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Maximum, subtract, exponential, sum, divide."""
        (x,) = inputs
        top = stretch_rows(builder, _reduce_rows(builder, x, "maximum"), x)
        power = builder.add(Exponential(), builder.add(Subtract(), x, top))
        total = stretch_rows(builder, _reduce_rows(builder, power, "add"), x)
        return (builder.add(Divide(), power, total),)


@dataclass(frozen=True)
class LayerNorm(RowComposite, name="layer_norm"):
    """Rows less their mean, over their standard deviation, times weight, plus bias.

    Inputs are (x [..., C], optional weight [C], optional bias [C]); statistics in float32. With
    ``statistics`` the mean and ``1 / sqrt(variance + epsilon)`` of every row follow, float32
    [...]: what the backward form needs.
    """

    epsilon: float
    statistics: bool = False
    passes = 7

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's type, then those of the statistics."""
        expect_count(self.name, inputs, 1, 2, 3)
        x = _normalised(self.name, inputs)
        return (x, *([_row_numbers(x)] * 2 if self.statistics else ()))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In float64, rounded once."""
        x = inputs[0].astype(np.float64)
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + self.epsilon)
        out = narrow(_affine(centred / deviation, inputs[1:]), inputs[0].dtype)
        if not self.statistics:
            return (out,)
        return out, narrow(x.mean(axis=-1), F32), narrow(1 / deviation[..., 0], F32)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Mean, variance, rsqrt and the affine part, in float32."""
        x = _to_wide(builder, inputs[0])
        mean = _mean_rows(builder, x)
        centred = builder.add(Subtract(), x, stretch_rows(builder, mean, x))
        scaled, inverse = _scale_by_rms(builder, centred, self.epsilon)
        out = _affine_nodes(builder, scaled, inputs)
        return (out, mean, inverse) if self.statistics else (out,)


@dataclass(frozen=True)
class RmsNorm(RowComposite, name="rms_norm"):
    """Rows over their root mean square, times weight: inputs are (x [..., C], optional weight).

    With ``statistics`` one over the root of every row follows, float32 [...].
    """

    epsilon: float
    statistics: bool = False
    passes = 4

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's type, then that of the statistic."""
        expect_count(self.name, inputs, 1, 2)
        x = _normalised(self.name, inputs)
        return (x, _row_numbers(x)) if self.statistics else (x,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In float64, rounded once."""
        x = inputs[0].astype(np.float64)
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        out = narrow(_affine(x / scale, inputs[1:]), inputs[0].dtype)
        return (out, narrow(1 / scale[..., 0], F32)) if self.statistics else (out,)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Mean of squares, rsqrt and the weight, in float32."""
        x = _to_wide(builder, inputs[0])
        scaled, inverse = _scale_by_rms(builder, x, self.epsilon)
        out = _affine_nodes(builder, scaled, inputs)
        return (out, inverse) if self.statistics else (out,)


def softmax_rows(array: Array) -> Array:
    """Softmax along the last dim in float64; a row of minus infinities gives NaN."""
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        power = np.exp(wide - wide.max(axis=-1, keepdims=True))
        return np.asarray(power / power.sum(axis=-1, keepdims=True))


def stretch_rows(builder: GraphBuilder, row: Value, like: Value) -> Value:
    """Repeat one number per row along the last dim of ``like``."""
    return builder.add(BroadcastInDim(like.shape, tuple(range(len(like.shape) - 1))), row)


def _float_rows(op: str, operand: TensorType) -> TensorType:
    if operand.rank < 1 or not is_float(operand.dtype):
        raise GraphError(f"{op} needs a float tensor with a last dim", got=operand)
    return operand


def _normalised(op: str, inputs: Sequence[TensorType]) -> TensorType:
    x = _float_rows(op, inputs[0])
    for extra in inputs[1:]:
        if extra.shape != x.shape[-1:]:
            raise GraphError(f"{op} weight or bias", got=extra, allowed=f"[{x.shape[-1]}]")
    return x


def _row_numbers(x: TensorType) -> TensorType:
    return TensorType(x.shape[:-1], F32)


def _affine(rows: Array, extras: Sequence[Array]) -> Array:
    for index, extra in enumerate(extras):
        wide = extra.astype(np.float64)
        rows = rows + wide if index else rows * wide
    return rows


def _to_wide(builder: GraphBuilder, value: Value) -> Value:
    return value if value.dtype.itemsize >= F32.itemsize else builder.add(Convert(F32), value)


def _reduce_rows(builder: GraphBuilder, value: Value, kind: str) -> Value:
    return builder.add(Reduce(kind, (len(value.shape) - 1,)), value)


def _mean_rows(builder: GraphBuilder, value: Value) -> Value:
    total = _reduce_rows(builder, value, "add")
    return builder.add(Multiply(), total, splat_like(builder, total, 1 / value.shape[-1]))


def _scale_by_rms(builder: GraphBuilder, value: Value, epsilon: float) -> tuple[Value, Value]:
    """The rows over their root mean square, and one over that per row."""
    square = _mean_rows(builder, builder.add(Multiply(), value, value))
    safe = builder.add(Add(), square, splat_like(builder, square, epsilon))
    inverse = builder.add(Rsqrt(), safe)
    return builder.add(Multiply(), value, stretch_rows(builder, inverse, value)), inverse


def _affine_nodes(builder: GraphBuilder, rows: Value, inputs: Sequence[Value]) -> Value:
    last = len(rows.shape) - 1
    for op, extra in zip((Multiply(), Add()), inputs[1:], strict=False):
        stretched = builder.add(BroadcastInDim(rows.shape, (last,)), _to_wide(builder, extra))
        rows = builder.add(op, rows, stretched)
    return rows if rows.dtype == inputs[0].dtype else builder.add(Convert(inputs[0].dtype), rows)
