"""Operations that make or move data without arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tenzing.compiler.graph import Array, GraphError, Op, Shape, TensorType
from tenzing.compiler.ops.elementwise import expect_count, narrow, widen


@dataclass(frozen=True)
class Constant(Op, name="constant"):
    """A tensor known at compile time; a splat keeps one element whatever its shape."""

    shape: Shape
    dtype: np.dtype[Any]
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, array: npt.ArrayLike) -> Constant:
        """The constant with the content of ``array``."""
        content = np.asarray(array, order="C")
        data = content.tobytes()
        first = data[: content.dtype.itemsize]
        uniform = content.size > 0 and data == first * content.size
        return cls(content.shape, content.dtype, first if uniform else data)

    @classmethod
    def splat(cls, number: float, shape: Sequence[int], dtype: np.dtype[Any]) -> Constant:
        """The constant of ``shape`` whose elements all equal ``number``."""
        return cls(tuple(shape), dtype, narrow(np.array(number), dtype).tobytes())

    @property
    def is_splat(self) -> bool:
        """True when every element is the same."""
        return len(self.data) == self.dtype.itemsize

    @property
    def number(self) -> float:
        """The element of a splat."""
        if not self.is_splat:
            raise GraphError("constant is not a splat", got=TensorType(self.shape, self.dtype))
        return float(widen(np.frombuffer(self.data, self.dtype))[0])

    @property
    def array(self) -> Array:
        """The content as a read-only array."""
        content = np.frombuffer(self.data, self.dtype)
        if self.is_splat:
            return np.broadcast_to(content.reshape(()), self.shape)
        return content.reshape(self.shape)

    @property
    def attrs(self) -> dict[str, Any]:
        """The value of a splat, else only the number of bytes."""
        if self.is_splat:
            return {"value": widen(np.frombuffer(self.data, self.dtype))[0].item()}
        return {"bytes": len(self.data)}

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Its own shape and dtype."""
        expect_count(self.name, inputs, 0)
        expected = math.prod(self.shape) * self.dtype.itemsize
        if not self.is_splat and len(self.data) != expected:
            raise GraphError("constant has a wrong size", got=len(self.data), allowed=expected)
        return (TensorType(self.shape, self.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (self.array,)


@dataclass(frozen=True)
class Iota(Op, name="iota"):
    """0, 1, 2, ... along ``dim``, the same along all others."""

    shape: Shape
    dtype: np.dtype[Any]
    dim: int = 0

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Its own shape and dtype."""
        expect_count(self.name, inputs, 0)
        check_dim(self.name, self.dim, len(self.shape))
        return (TensorType(self.shape, self.dtype),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Rounded to the dtype."""
        line = narrow(np.arange(self.shape[self.dim]), self.dtype)
        column = [1] * len(self.shape)
        column[self.dim] = -1
        return (np.broadcast_to(line.reshape(column), self.shape),)


@dataclass(frozen=True)
class Reshape(Op, name="reshape"):
    """The same elements in row-major order with other dims."""

    shape: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The new shape; the number of elements must not change."""
        expect_count(self.name, inputs, 1)
        result = inputs[0].with_shape(self.shape)
        if result.elements != inputs[0].elements:
            raise GraphError(
                "reshape changes the number of elements",
                got=result,
                allowed=f"{inputs[0].elements} elements, from {inputs[0]}",
            )
        return (result,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (inputs[0].reshape(self.shape),)


@dataclass(frozen=True)
class Transpose(Op, name="transpose"):
    """Output dim i is input dim ``permutation[i]``."""

    permutation: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The permuted shape."""
        expect_count(self.name, inputs, 1)
        if sorted(self.permutation) != list(range(inputs[0].rank)):
            raise GraphError(
                "transpose needs a permutation of the dims",
                got=self.permutation,
                allowed=f"0..{inputs[0].rank - 1} each once",
            )
        return (inputs[0].with_shape([inputs[0].shape[d] for d in self.permutation]),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (np.transpose(inputs[0], self.permutation),)


@dataclass(frozen=True)
class BroadcastInDim(Op, name="broadcast_in_dim"):
    """Input dim i becomes output dim ``dims[i]``; sizes of 1 and missing dims repeat."""

    shape: Shape
    dims: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The new shape; dims must increase and sizes agree or be 1."""
        expect_count(self.name, inputs, 1)
        (operand,) = inputs
        increasing = list(self.dims) == sorted(set(self.dims))
        if len(self.dims) != operand.rank or not increasing:
            raise GraphError(
                "broadcast_in_dim needs one increasing dim per input dim",
                got=self.dims,
                allowed=f"{operand.rank} dims",
            )
        for size, dim in zip(operand.shape, self.dims, strict=True):
            check_dim(self.name, dim, len(self.shape))
            if size not in (1, self.shape[dim]):
                raise GraphError(
                    "broadcast_in_dim cannot stretch a dim",
                    got=size,
                    allowed=f"1 or {self.shape[dim]}",
                )
        return (operand.with_shape(self.shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        expanded = [1] * len(self.shape)
        for size, dim in zip(inputs[0].shape, self.dims, strict=True):
            expanded[dim] = size
        return (np.broadcast_to(inputs[0].reshape(expanded), self.shape),)


@dataclass(frozen=True)
class Concatenate(Op, name="concatenate"):
    """Inputs one after another along ``dim``."""

    dim: int

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Sizes add along ``dim`` and agree elsewhere."""
        if not inputs:
            raise GraphError("concatenate needs at least one input", got=0)
        first = inputs[0]
        check_dim(self.name, self.dim, first.rank)
        for other in inputs:
            probe = list(other.shape)
            if other.rank == first.rank:
                probe[self.dim] = first.shape[self.dim]
            if first.with_shape(probe).shape != first.shape or other.dtype != first.dtype:
                raise GraphError("concatenate inputs disagree", got=other, allowed=first)
        total = sum(other.shape[self.dim] for other in inputs)
        shape = list(first.shape)
        shape[self.dim] = total
        return (first.with_shape(shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (np.concatenate(inputs, axis=self.dim),)


@dataclass(frozen=True)
class Slice(Op, name="slice"):
    """Elements ``start``, ``start + stride``, ... below ``limit`` in every dim."""

    start: Shape
    limit: Shape
    stride: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The number of elements taken per dim."""
        expect_count(self.name, inputs, 1)
        (operand,) = inputs
        if not len(self.start) == len(self.limit) == len(self.stride) == operand.rank:
            raise GraphError(
                "slice needs start, limit and stride per dim",
                got=len(self.start),
                allowed=operand.rank,
            )
        bounds = zip(self.start, self.limit, self.stride, operand.shape, strict=True)
        for start, limit, stride, size in bounds:
            if not (0 <= start <= limit <= size and stride >= 1):
                raise GraphError(
                    "slice leaves its input",
                    got=f"{start}:{limit}:{stride}",
                    allowed=f"within 0:{size}, stride at least 1",
                )
        taken = zip(self.start, self.limit, self.stride, strict=True)
        return (operand.with_shape([-(-(b - a) // s) for a, b, s in taken]),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        bounds = zip(self.start, self.limit, self.stride, strict=True)
        return (inputs[0][tuple(slice(a, b, s) for a, b, s in bounds)],)


@dataclass(frozen=True)
class Pad(Op, name="pad"):
    """Copies of a scalar around the input: inputs are (operand, padding value)."""

    low: Shape
    high: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Sizes grow by low + high, which may not be negative."""
        expect_count(self.name, inputs, 2)
        operand, value = inputs
        if value != operand.with_shape(()):
            raise GraphError("pad value", got=value, allowed=operand.with_shape(()))
        if not len(self.low) == len(self.high) == operand.rank:
            raise GraphError(
                "pad needs low and high per dim", got=len(self.low), allowed=operand.rank
            )
        if min((*self.low, *self.high), default=0) < 0:
            raise GraphError(
                "pad must not be negative",
                got=(self.low, self.high),
                next_step="use slice to remove elements",
            )
        edges = zip(self.low, operand.shape, self.high, strict=True)
        return (operand.with_shape([low + size + high for low, size, high in edges]),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        operand, value = inputs
        shape = self.infer(*(TensorType(a.shape, a.dtype) for a in inputs))[0].shape
        result = np.full(shape, value, operand.dtype)
        inside = zip(self.low, operand.shape, strict=True)
        result[tuple(slice(low, low + size) for low, size in inside)] = operand
        return (result,)


@dataclass(frozen=True)
class Reverse(Op, name="reverse"):
    """Elements in opposite order along ``dims``."""

    dims: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The input's type."""
        expect_count(self.name, inputs, 1)
        for dim in self.dims:
            check_dim(self.name, dim, inputs[0].rank)
        return (inputs[0],)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (np.flip(inputs[0], self.dims),)


def check_dim(op: str, dim: int, rank: int) -> None:
    """Raise GraphError unless 0 <= dim < rank."""
    if not 0 <= dim < rank:
        raise GraphError(
            f"{op} names a dim that the tensor lacks",
            got=dim,
            allowed=f"0..{rank - 1}" if rank else "none, it is a scalar",
        )
