"""Mixture of experts: rows multiplied by the weights of the expert that routing chose for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Array, GraphBuilder, GraphError, Op, TensorType, Value, Work
from tenzing.compiler.ops.contraction import MATRIX_RANK, DotGeneral, accumulate
from tenzing.compiler.ops.elementwise import expect_count, narrow
from tenzing.compiler.ops.indexing import Gather, check_integer
from tenzing.compiler.ops.shape import Reshape

WEIGHT_RANK: Final = 3
I32: Final = np.dtype(np.int32)
LAYOUTS: Final = ("kn", "nk")


def block_count(rows: int, experts: int, block: int) -> int:
    """Blocks that hold any assignment of ``rows`` to ``experts``, each expert's padded to whole."""
    used = min(rows, experts)
    return (rows - used) // block + used


class _ExpertProduct(Op):
    """Base of products of rows with chosen matrices of a stack [E, K, N] or [E, N, K]."""

    weight: str
    out_dtype: np.dtype[Any] | None

    def _product_type(self, x: TensorType, weight: TensorType) -> TensorType:
        if self.weight not in LAYOUTS:
            raise GraphError(f"{self.name} weight layout", got=self.weight, allowed=LAYOUTS)
        if x.rank != MATRIX_RANK or weight.rank != WEIGHT_RANK or weight.dtype != x.dtype:
            raise GraphError(
                f"{self.name} needs rows [R, K] and a stack of matrices of one dtype",
                got=f"{x} and {weight}",
            )
        depth, width = weight.shape[1:] if self.weight == "kn" else weight.shape[:0:-1]
        if x.shape[1] != depth:
            raise GraphError(f"{self.name}: rows do not fit the weights", got=x, allowed=depth)
        return TensorType((x.shape[0], width), self.out_dtype or x.dtype)

    def _matrix(self, weight: Array, expert: int) -> Array:
        chosen = weight[min(max(expert, 0), len(weight) - 1)]
        return accumulate(chosen if self.weight == "kn" else chosen.T)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two operations per product."""
        return Work(matmul_flops=2 * inputs[0].shape[1] * outputs[0].elements)

    def work(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Reads the matrices that can be chosen, not the whole stack."""
        x, weight, chosen = inputs
        share = min(weight.shape[0], chosen.elements) / weight.shape[0]
        moved = x.size_bytes + chosen.size_bytes + round(weight.size_bytes * share)
        traffic = Work(read_bytes=moved, write_bytes=outputs[0].size_bytes)
        return self.arithmetic(inputs, outputs) + traffic


@dataclass(frozen=True)
class ExpertLinear(_ExpertProduct, name="expert_linear"):
    """Row r times the matrix of expert ``index[r]``: inputs are (x [R, K], weights, index [R]).

    ``weight`` says how a matrix lies in memory: "kn" or "nk". An index outside the stack is
    clamped, as in gather.
    """

    weight: str = "kn"
    out_dtype: np.dtype[Any] | None = None

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """[R, N]."""
        expect_count(self.name, inputs, 3)
        x, weight, index = inputs
        check_integer(self.name, "index", index)
        if index.shape != x.shape[:1]:
            raise GraphError("expert_linear index", got=index, allowed=f"[{x.shape[0]}]")
        return (self._product_type(x, weight),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32, rounded once."""
        x, weight, index = inputs
        out = self._product_type(*(TensorType(a.shape, a.dtype) for a in (x, weight)))
        result = np.zeros(out.shape, np.float32)
        for expert in np.unique(index):
            rows = index == expert
            result[rows] = accumulate(x[rows]) @ self._matrix(weight, int(expert))
        return (narrow(result, out.dtype),)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Gather a matrix for every row, then a batched product."""
        x, weight, index = inputs
        chosen = builder.add(Gather(), weight, index)
        column = builder.add(Reshape((*x.shape, 1)), x)
        contract = ((1 if self.weight == "kn" else 2,), (1,))
        op = DotGeneral(((0,), (0,)), contract, self.out_dtype)
        product = builder.add(op, chosen, column)
        return (builder.add(Reshape(product.shape[:2]), product),)


@dataclass(frozen=True)
class ExpertOrder(Op, name="expert_order"):
    """Where rows stand when sorted by expert, each expert's share padded to whole blocks.

    Input: index [R]. Outputs, all int32: the source of each of the S slots (row // ``repeat``, or
    R // ``repeat`` for padding), the slot of each row, and the expert of each block of slots.
    """

    experts: int
    block: int
    repeat: int = 1

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """([S], [R], [S / block])."""
        expect_count(self.name, inputs, 1)
        check_integer(self.name, "index", inputs[0])
        if inputs[0].rank != 1 or inputs[0].shape[0] % self.repeat:
            raise GraphError("expert_order index", got=inputs[0], allowed="[a multiple of repeat]")
        rows = inputs[0].shape[0]
        blocks = block_count(rows, self.experts, self.block)
        return tuple(TensorType((n,), I32) for n in (blocks * self.block, rows, blocks))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """A stable counting sort."""
        index = np.clip(inputs[0], 0, self.experts - 1)
        rows = len(index)
        blocks = block_count(rows, self.experts, self.block)
        counts = np.bincount(index, minlength=self.experts)
        ends = np.cumsum(-(-counts // self.block) * self.block)
        starts = ends - -(-counts // self.block) * self.block
        row_slot = np.empty(rows, I32)
        for expert in range(self.experts):
            mine = np.flatnonzero(index == expert)
            row_slot[mine] = starts[expert] + np.arange(len(mine))
        slots = np.full(blocks * self.block, rows // self.repeat, I32)
        slots[row_slot] = np.arange(rows) // self.repeat
        first = np.arange(blocks) * self.block
        owner = (ends[None, :] <= first[:, None]).sum(1)
        return slots, row_slot, np.minimum(owner, self.experts - 1).astype(I32)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """A comparison, a running count and a product per row and expert."""
        return Work(vector_ops=3 * inputs[0].elements * self.experts)


@dataclass(frozen=True)
class TakeRows(Op, name="take_rows"):
    """Rows of a table [R, K] by number [S]; a number outside the table gives zeros."""

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """[S, K]."""
        expect_count(self.name, inputs, 2)
        table, index = inputs
        check_integer(self.name, "index", index)
        if table.rank != MATRIX_RANK or index.rank != 1:
            raise GraphError("take_rows", got=f"{table} and {index}", allowed="[R, K] and [S]")
        return (table.with_shape((index.shape[0], table.shape[1])),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Exact."""
        table, index = inputs
        inside = (index >= 0) & (index < len(table))
        result = np.zeros((len(index), table.shape[1]), table.dtype)
        result[inside] = table[index[inside]]
        return (result,)


@dataclass(frozen=True)
class ExpertBlocks(_ExpertProduct, name="expert_blocks"):
    """Blocks of rows times the matrix of their expert: (x [S, K], weights, expert [S / block])."""

    weight: str = "kn"
    out_dtype: np.dtype[Any] | None = None

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """[S, N]."""
        expect_count(self.name, inputs, 3)
        x, weight, expert = inputs
        check_integer(self.name, "expert", expert)
        if expert.rank != 1 or not expert.shape[0] or x.shape[0] % expert.shape[0]:
            raise GraphError("expert_blocks experts", got=expert, allowed=f"a divisor of {x}")
        return (self._product_type(x, weight),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Sums in float32, rounded once."""
        x, weight, experts = inputs
        out = self._product_type(*(TensorType(a.shape, a.dtype) for a in (x, weight)))
        blocks = accumulate(x).reshape(len(experts), -1, x.shape[1])
        products = [b @ self._matrix(weight, int(e)) for b, e in zip(blocks, experts, strict=True)]
        return (narrow(np.concatenate(products), out.dtype),)
