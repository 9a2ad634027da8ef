"""Scaled dot-product attention kept whole, with heads apart or packed side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenzing.compiler.graph import (
    BOOL,
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
from tenzing.compiler.ops.contraction import DotGeneral, accumulate
from tenzing.compiler.ops.elementwise import (
    Add,
    Compare,
    Convert,
    Divide,
    Multiply,
    Select,
    Tanh,
    expect_count,
    narrow,
)
from tenzing.compiler.ops.reduction import Softmax, softmax_rows
from tenzing.compiler.ops.shape import BroadcastInDim, Iota, Reshape, Transpose

_VECTOR_PASSES = 4  # scale and mask, maximum, subtract, divide
_RANK = 4


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of one attention: batch, heads, lengths of queries and keys, widths of a head."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int


@dataclass(frozen=True)
class Attention(Op, name="attention"):
    """softmax(q k^T * scale + mask) v for every head.

    Inputs are (q, k, v, optional mask).  With ``packed`` False q, k, v are [batch, heads, length,
    width]; with ``packed`` True they are [batch, length, heads * width].  Several query heads may
    share one key head.  The mask has rank 4 and sizes 1 or those of [batch, heads, queries, keys]:
    booleans (True attends) or numbers to add.  Query i stands at position i + ``offset`` of the
    keys: ``causal`` hides the keys behind it, a ``window`` those that far away or farther.  A
    ``soft_cap`` c bends scaled scores to c tanh(scores / c).  Rows that see no key yield zeros.
    Probabilities are rounded to the dtype of v before the second product.
    """

    scale: float
    heads: int
    kv_heads: int
    causal: bool = False
    packed: bool = False
    out_dtype: np.dtype[Any] | None = None
    window: int = 0
    offset: int = 0
    soft_cap: float = 0.0

    def sizes(self, q: Shape, k: Shape, v: Shape) -> AttentionShape:
        """The sizes behind three shapes of either layout."""
        if self.packed:
            q, k, v = (
                self._apart(q, self.heads),
                self._apart(k, self.kv_heads),
                self._apart(v, self.kv_heads),
            )
        return AttentionShape(q[0], q[1], k[1], q[2], k[2], q[3], v[3])

    def _apart(self, shape: Shape, heads: int) -> Shape:
        return (shape[0], heads, shape[1], shape[2] // heads)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """q's shape with the width of v."""
        expect_count(self.name, inputs, 3, 4)
        q, k, v = inputs[:3]
        rank = _RANK - 1 if self.packed else _RANK
        if not q.rank == k.rank == v.rank == rank or not q.dtype == k.dtype == v.dtype:
            raise GraphError(
                f"attention needs q, k, v of rank {rank} and one dtype", got=f"{q}, {k}, {v}"
            )
        self._check_heads(q, k, v)
        size = self.sizes(q.shape, k.shape, v.shape)
        expected = self._shapes(size)
        if (q.shape, k.shape, v.shape) != expected or size.heads % size.kv_heads:
            raise GraphError(
                "attention inputs do not fit together",
                got=f"{q}, {k}, {v}",
                allowed=f"shapes {expected}, key heads that divide {size.heads}",
            )
        if len(inputs) > _RANK - 1:
            _check_mask(inputs[3], size)
        out = (*q.shape[:-1], size.value_width * (size.heads if self.packed else 1))
        return (TensorType(out, self.out_dtype or q.dtype),)

    def _check_heads(self, q: TensorType, k: TensorType, v: TensorType) -> None:
        counts = (self.heads, self.kv_heads, self.kv_heads)
        for name, operand, heads in zip("qkv", (q, k, v), counts, strict=True):
            if self.packed:
                fits = operand.shape[-1] % heads == 0
            else:
                fits = operand.shape[1] == heads
            if not fits:
                raise GraphError(f"attention heads of {name}", got=operand, allowed=heads)

    def _shapes(self, size: AttentionShape) -> tuple[Shape, Shape, Shape]:
        parts = (
            (size.heads, size.queries, size.width),
            (size.kv_heads, size.keys, size.width),
            (size.kv_heads, size.keys, size.value_width),
        )
        if self.packed:
            return tuple((size.batch, n, h * w) for h, n, w in parts)  # type: ignore[return-value]
        return tuple((size.batch, *part) for part in parts)  # type: ignore[return-value]

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Products in float32, softmax in float64, each rounded once."""
        q, k, v = inputs[:3]
        dtype = self.out_dtype or q.dtype
        size = self.sizes(q.shape, k.shape, v.shape)
        q, k, v = (
            self._split(a, h)
            for a, h in zip((q, k, v), (size.heads, size.kv_heads, size.kv_heads), strict=True)
        )
        share = size.heads // size.kv_heads
        k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
        scores = np.matmul(accumulate(q), accumulate(k).swapaxes(-1, -2)) * F32.type(self.scale)
        if self.soft_cap:
            cap = F32.type(self.soft_cap)
            scores = np.tanh(scores / cap) * cap
        scores = self.masked(scores, inputs[3] if len(inputs) > _RANK - 1 else None)
        weights = narrow(np.nan_to_num(softmax_rows(scores), nan=0.0), v.dtype)
        out = np.matmul(accumulate(weights), accumulate(v))
        if self.packed:
            out = out.swapaxes(1, 2).reshape(size.batch, size.queries, -1)
        return (narrow(out, dtype),)

    def _split(self, array: Array, heads: int) -> Array:
        if not self.packed:
            return array
        return array.reshape(*array.shape[:2], heads, -1).swapaxes(1, 2)

    def masked(self, scores: Array, mask: Array | None) -> Array:
        """Scores with minus infinity where a key is not seen."""
        if mask is not None and mask.dtype == BOOL:
            scores = np.where(mask, scores, -np.inf)
        elif mask is not None:
            scores = scores + accumulate(mask)
        return np.where(self.band(*scores.shape[-2:]), scores, -np.inf)

    def band(self, queries: int, keys: int) -> Array:
        """Which key each query sees by position alone: bool [queries, keys]."""
        apart = np.arange(keys) - (np.arange(queries)[:, None] + self.offset)
        seen = np.ones(apart.shape, np.bool_)
        if self.causal:
            seen &= apart <= 0
        if self.window:
            seen &= abs(apart) < self.window
        return seen

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Two products, one exponential and four vector operations per score."""
        size = self.sizes(*(t.shape for t in inputs[:3]))
        scores = size.batch * size.heads * size.queries * size.keys
        return Work(
            matmul_flops=2 * scores * (size.width + size.value_width),
            vector_ops=_VECTOR_PASSES * scores,
            transcendentals=scores,
        )

    def decompose(self, builder: GraphBuilder, *inputs: Value) -> tuple[Value, ...]:
        """Products, mask and softmax; a row that sees no key becomes NaN here, not zero."""
        size = self.sizes(*(value.shape for value in inputs[:3]))
        q = self._heads_apart(builder, inputs[0], size.heads, size.heads)
        k = self._heads_apart(builder, inputs[1], size.kv_heads, size.heads)
        v = self._heads_apart(builder, inputs[2], size.kv_heads, size.heads)
        both = ((0, 1), (0, 1))
        scores = builder.add(DotGeneral(both, ((3,), (3,)), F32), q, k)
        scores = builder.add(Multiply(), scores, splat_like(builder, scores, self.scale))
        if self.soft_cap:
            cap = splat_like(builder, scores, self.soft_cap)
            scores = builder.add(Tanh(), builder.add(Divide(), scores, cap))
            scores = builder.add(Multiply(), scores, cap)
        for mask in (*inputs[3:], *self._band_masks(builder, size)):
            scores = _apply_mask(builder, scores, mask)
        weights = builder.add(Softmax(), scores)
        if weights.dtype != v.dtype:
            weights = builder.add(Convert(v.dtype), weights)
        dtype = self.out_dtype or inputs[0].dtype
        out = builder.add(DotGeneral(both, ((3,), (2,)), dtype), weights, v)
        if self.packed:
            out = builder.add(Transpose((0, 2, 1, 3)), out)
            merged = (size.batch, size.queries, size.heads * size.value_width)
            out = builder.add(Reshape(merged), out)
        return (out,)

    def _band_masks(self, builder: GraphBuilder, size: AttentionShape) -> list[Value]:
        """The band as boolean masks from positions."""
        shape, index = (1, 1, size.queries, size.keys), np.dtype(np.int32)
        masks: list[Value] = []
        for present, direction, shift in (
            (self.causal, "le", self.offset),
            (self.window and not self.causal, "lt", self.offset + self.window),
            (self.window, "gt", self.offset - self.window),
        ):
            if not present:
                continue
            query, key = builder.add(Iota(shape, index, 2)), builder.add(Iota(shape, index, 3))
            limit = builder.add(Add(), query, splat_like(builder, query, shift))
            masks.append(builder.add(Compare(direction), key, limit))
        return masks

    def _heads_apart(self, builder: GraphBuilder, x: Value, heads: int, wanted: int) -> Value:
        if self.packed:
            batch, length, width = x.shape
            x = builder.add(Reshape((batch, length, heads, width // heads)), x)
            x = builder.add(Transpose((0, 2, 1, 3)), x)
        if heads == wanted:
            return x
        batch, _, length, width = x.shape
        shared = (batch, heads, wanted // heads, length, width)
        x = builder.add(BroadcastInDim(shared, (0, 1, 3, 4)), x)
        return builder.add(Reshape((batch, wanted, length, width)), x)


def _check_mask(mask: TensorType, size: AttentionShape) -> None:
    full = (size.batch, size.heads, size.queries, size.keys)
    fits = mask.rank == _RANK and all(
        n in (1, whole) for n, whole in zip(mask.shape, full, strict=True)
    )
    if not fits or not (mask.dtype == BOOL or is_float(mask.dtype)):
        raise GraphError("attention mask", got=mask, allowed=f"bool or float, sizes 1 or {full}")


def _apply_mask(builder: GraphBuilder, scores: Value, mask: Value) -> Value:
    if mask.dtype not in (BOOL, scores.dtype):
        mask = builder.add(Convert(scores.dtype), mask)
    mask = builder.add(BroadcastInDim(scores.shape, (0, 1, 2, 3)), mask)
    if mask.dtype != BOOL:
        return builder.add(Add(), scores, mask)
    return builder.add(Select(), mask, scores, splat_like(builder, scores, -math.inf))
