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
    """

    packed: int = 0

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
        first, second = np.split(x, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
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
        half, ones = x.shape[-1] // 2, (1,) * _RANK
        lead = x.shape[:-1]
        first = builder.add(Slice((0,) * _RANK, (*lead, half), ones), x)
        second = builder.add(Slice((0, 0, 0, half), x.shape, ones), x)
        turned = builder.add(Concatenate(_RANK - 1), builder.add(Negate(), second), first)
        parts = [
            builder.add(Multiply(), value, builder.add(BroadcastInDim(x.shape, dims), table))
            for value, table in ((x, cos), (turned, sin))
        ]
        return (builder.add(Reshape(shape), builder.add(Add(), *parts)),)
