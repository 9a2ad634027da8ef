"""Operations whose element positions come from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, Shape, TensorType, Work
from tenzing.compiler.ops.elementwise import expect_count, narrow, widen
from tenzing.compiler.ops.shape import check_dim


def check_integer(op: str, what: str, operand: TensorType) -> None:
    """Raise GraphError unless the dtype is an integer."""
    if operand.dtype.kind not in "iu":
        raise GraphError(f"{op} {what} must be integers", got=operand)


@dataclass(frozen=True)
class Gather(Op, name="gather"):
    """Whole slices of a table along ``dim``: StableHLO's gather in the form of an embedding.

    Inputs are (table, indices); the dims of the indices take the place of ``dim``.  An index
    outside the table is clamped to its edge, as in StableHLO.
    """

    dim: int = 0

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The table's shape with ``dim`` replaced by the indices' shape."""
        expect_count(self.name, inputs, 2)
        table, indices = inputs
        check_dim(self.name, self.dim, table.rank)
        check_integer(self.name, "indices", indices)
        shape = (*table.shape[: self.dim], *indices.shape, *table.shape[self.dim + 1 :])
        return (table.with_shape(shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (np.take(inputs[0], inputs[1], axis=self.dim, mode="clip"),)

    def work(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Reads the indices and only the slices taken."""
        taken = outputs[0].size_bytes
        return Work(read_bytes=inputs[1].size_bytes + taken, write_bytes=taken)


@dataclass(frozen=True)
class Scatter(Op, name="scatter"):
    """Write slices into a table along its first dim, or add them to it: gather's counterpart.

    Inputs are (table, indices, updates); indices outside the table are dropped, as in StableHLO.
    Updates for one index add up in order, or the last one wins.
    """

    accumulate: bool

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The table's type."""
        expect_count(self.name, inputs, 3)
        table, indices, updates = inputs
        check_dim(self.name, 0, table.rank)
        check_integer(self.name, "indices", indices)
        wanted = table.with_shape((*indices.shape, *table.shape[1:]))
        if updates != wanted:
            raise GraphError("scatter updates", got=updates, allowed=wanted)
        return (table,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32, rounded once."""
        table, indices, updates = inputs
        flat = indices.reshape(-1)
        inside = (flat >= 0) & (flat < table.shape[0])
        rows = updates.reshape(flat.size, *table.shape[1:])[inside]
        result = np.array(widen(table))
        if self.accumulate:
            np.add.at(result, flat[inside], widen(rows))
        else:
            result[flat[inside]] = widen(rows)
        return (narrow(result, table.dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One addition per element added."""
        return Work(vector_ops=inputs[2].elements if self.accumulate else 0)


@dataclass(frozen=True)
class TakeAlong(Op, name="take_along"):
    """One element per index along ``dim``: torch.gather; inputs are (operand, indices)."""

    dim: int

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The indices' shape with the operand's dtype."""
        expect_count(self.name, inputs, 2)
        operand, indices = inputs
        check_dim(self.name, self.dim, operand.rank)
        check_integer(self.name, "indices", indices)
        if indices.rank != operand.rank:
            raise GraphError("take_along indices", got=indices, allowed=f"rank {operand.rank}")
        pairs = enumerate(zip(indices.shape, operand.shape, strict=True))
        if any(d != self.dim and taken > size for d, (taken, size) in pairs):
            raise GraphError("take_along indices exceed the operand", got=indices, allowed=operand)
        return (operand.with_shape(indices.shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        operand, indices = inputs
        inside = [slice(0, n) for n in indices.shape]
        inside[self.dim] = slice(None)
        return (np.take_along_axis(operand[tuple(inside)], indices, axis=self.dim),)


@dataclass(frozen=True)
class TopK(Op, name="top_k"):
    """The k largest elements of each row, in descending order, and their indices (CHLO's name)."""

    k: int
    index_dtype: np.dtype[Any]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Values and indices with a last dim of k."""
        expect_count(self.name, inputs, 1)
        (operand,) = inputs
        if operand.rank < 1 or not 0 < self.k <= operand.shape[-1]:
            raise GraphError("top_k", got=self.k, allowed=f"1 to the last dim of {operand}")
        shape = (*operand.shape[:-1], self.k)
        return operand.with_shape(shape), TensorType(shape, self.index_dtype)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact; equal elements in order of index."""
        order = np.argsort(-widen(inputs[0]), axis=-1, kind="stable")[..., : self.k]
        return np.take_along_axis(inputs[0], order, axis=-1), narrow(order, self.index_dtype)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One comparison per element and result, as a chip without a sorter needs."""
        return Work(vector_ops=inputs[0].elements * self.k)


@dataclass(frozen=True)
class Sort(Op, name="sort"):
    """Elements along ``dim`` in order, and where they were; equal elements keep their order."""

    dim: int
    descending: bool
    index_dtype: np.dtype[Any]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """Values and indices of the input's shape."""
        expect_count(self.name, inputs, 1)
        check_dim(self.name, self.dim, inputs[0].rank)
        return inputs[0], inputs[0].with_dtype(self.index_dtype)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        keys = widen(inputs[0])
        if keys.dtype.kind in "bu":
            keys = keys.astype(np.int64)
        order = np.argsort(-keys if self.descending else keys, axis=self.dim, kind="stable")
        return (
            np.take_along_axis(inputs[0], order, axis=self.dim),
            narrow(order, self.index_dtype),
        )

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One comparison per element and element of its row, as a chip without a sorter needs."""
        return Work(vector_ops=inputs[0].elements * inputs[0].shape[self.dim])


@dataclass(frozen=True)
class DynamicUpdateSlice(Op, name="dynamic_update_slice"):
    """``operand`` with ``update`` written at a position: inputs (operand, update, position [rank]).

    The position is clamped so that the update fits, as in StableHLO.
    """

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The operand's type."""
        expect_count(self.name, inputs, 3)
        operand, update, position = inputs
        check_integer(self.name, "position", position)
        fits = operand.rank == update.rank and all(
            small <= large for small, large in zip(update.shape, operand.shape, strict=True)
        )
        if not fits or update.dtype != operand.dtype or position.shape != (operand.rank,):
            raise GraphError(
                "dynamic_update_slice",
                got=f"{update} at {position}",
                allowed=f"a part of {operand}",
            )
        return (operand,)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        operand, update, position = inputs
        result = operand.copy()
        result[_window(operand.shape, update.shape, position)] = update
        return (result,)

    def work(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Only the update moves: the output aliases the operand on a chip."""
        moved = inputs[1].size_bytes
        return Work(read_bytes=moved, write_bytes=moved)


@dataclass(frozen=True)
class DynamicSlice(Op, name="dynamic_slice"):
    """A part of ``sizes`` from a position: inputs (operand, position [rank])."""

    sizes: Shape

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The sizes with the operand's dtype."""
        expect_count(self.name, inputs, 2)
        operand, position = inputs
        check_integer(self.name, "position", position)
        fits = len(self.sizes) == operand.rank and all(
            0 <= small <= large for small, large in zip(self.sizes, operand.shape, strict=True)
        )
        if not fits or position.shape != (operand.rank,):
            raise GraphError(
                "dynamic_slice", got=f"{self.sizes} at {position}", allowed=f"a part of {operand}"
            )
        return (operand.with_shape(self.sizes),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        return (inputs[0][_window(inputs[0].shape, self.sizes, inputs[1])].copy(),)


def _window(shape: Shape, sizes: Shape, position: Array) -> tuple[slice, ...]:
    starts = (
        min(max(int(start), 0), large - small)
        for start, large, small in zip(position, shape, sizes, strict=True)
    )
    return tuple(slice(start, start + n) for start, n in zip(starts, sizes, strict=True))
