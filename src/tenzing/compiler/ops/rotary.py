"""Rotary position embedding of all heads, with heads apart or packed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenzing.compiler.graph import (
    Array,
    GraphBuilder,
    GraphError,
    Op,
    TensorType,
    Value,
    Work,
    is_float,
)
from tenzing.compiler.ops.contraction import accumulate
from tenzing.compiler.ops.elementwise import Add, Multiply, Negate, expect_count, narrow
from tenzing.compiler.ops.shape import BroadcastInDim, Concatenate, Reshape, Slice

_VECTOR_PASSES = 3  # two products and a sum
_RANK, _PACKED_RANK = 4, 3


@dataclass(frozen=True)
class Rotary(Op, name="rotary"):
    """x cos + (-second half of x, first half of x) sin, within every head.

    Inputs are (x, cos, sin).  x is [batch, heads, length, width], or [batch, length, heads *
    width] when ``packed`` gives the number of heads; cos and sin are [1 or batch, length, width].
    ``interleaved`` turns neighbours instead of halves: x cos + (-x1, x0, -x3, x2, ...) sin.
    """

    packed: int = 0
    interleaved: bool = False

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """x's type."""
        expect_count(self.name, inputs, 3)
        x, *tables = inputs
        rank = _PACKED_RANK if self.packed else _RANK
        if x.rank != rank or not is_float(x.dtype) or x.shape[-1] % max(self.packed, 1):
            raise GraphError(f"rotary needs a float x of rank {rank}", got=x)
        batch, length, width = self._sizes(x)
        for table in tables:
            fits = table.rank == _PACKED_RANK and table.shape[0] in (1, batch)
            if not fits or table.shape[1:] != (length, width) or table.dtype != x.dtype:
                raise GraphError(
                    "rotary cos and sin", got=table, allowed=f"[1 or {batch},{length},{width}]"
                )
        if width % 2:
            raise GraphError("rotary needs an even width", got=width)
        return (x,)

    def _parts(self, width: int) -> tuple[slice, slice]:
        """Which columns are the first and the second of each turned pair."""
        if self.interleaved:
            return slice(0, width, 2), slice(1, width, 2)
        return slice(0, width // 2), slice(width // 2, width)

    def _sizes(self, x: TensorType) -> tuple[int, int, int]:
        if self.packed:
            return x.shape[0], x.shape[1], x.shape[2] // self.packed
        return x.shape[0], x.shape[2], x.shape[3]

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """In float32, rounded once."""
        x, cos, sin = (accumulate(a) for a in inputs)
        shape = x.shape
        if self.packed:
            x = x.reshape(*shape[:2], self.packed, -1).swapaxes(1, 2)
        first, second = self._parts(x.shape[-1])
        turned = np.empty_like(x)
        turned[..., first], turned[..., second] = -x[..., second], x[..., first]
        out = x * cos[:, None] + turned * sin[:, None]
        if self.packed:
            out = out.swapaxes(1, 2).reshape(shape)
        return (narrow(out, inputs[0].dtype),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two products and a sum per element."""
        return Work(vector_ops=_VECTOR_PASSES * inputs[0].elements)

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Slices, a concatenation and two products."""
        x, cos, sin = inputs
        shape = x.shape
        dims: tuple[int, ...] = (0, 2, 3)
        if self.packed:
            x = builder.add(Reshape((*shape[:2], self.packed, shape[2] // self.packed)), x)
            dims = (0, 1, 3)
        turned = self._turned(builder, x)
        parts = [
            builder.add(Multiply(), value, builder.add(BroadcastInDim(x.shape, dims), table))
            for value, table in ((x, cos), (turned, sin))
        ]
        return (builder.add(Reshape(shape), builder.add(Add(), *parts)),)

    def _turned(self, builder: GraphBuilder, x: Value) -> Value:
        """(-second, first) of every pair in place of (first, second)."""
        lead, width = x.shape[:-1], x.shape[-1]
        first, second = (
            builder.add(Slice((*(0,) * len(lead), part.start), (*lead, part.stop),
                              (*(1,) * len(lead), part.step or 1)), x)
            for part in self._parts(width)
        )  # fmt: skip
        pair = [builder.add(Negate(), second), first]
        if not self.interleaved:
            return builder.add(Concatenate(len(lead)), *pair)
        pair = [builder.add(Reshape((*lead, width // 2, 1)), one) for one in pair]
        return builder.add(Reshape(x.shape), builder.add(Concatenate(len(lead) + 1), *pair))
