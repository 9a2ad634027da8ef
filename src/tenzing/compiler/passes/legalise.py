"""Passes that bring a graph to the dtypes a chip computes in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    BOOL,
    F32,
    Graph,
    GraphBuilder,
    Node,
    Op,
    Value,
    rewrite,
)
from tenzing.compiler.ops import (
    Add,
    And,
    BitcastConvert,
    Constant,
    Convert,
    Cumulative,
    Reduce,
    Reshape,
    ShiftLeft,
    ShiftRightLogical,
)
from tenzing.compiler.passes.pipeline import Pass

NARROWER: Final[Mapping[np.dtype[Any], np.dtype[Any]]] = {
    np.dtype(np.int64): np.dtype(np.int32),
    np.dtype(np.uint64): np.dtype(np.uint32),
    np.dtype(np.float64): F32,
}


@dataclass(frozen=True)
class NarrowNumbers(Pass):
    """Compute 64-bit numbers in 32 bits; inputs, parameters and outputs keep their dtype.

    As on Neuron devices, which have no 64-bit arithmetic: an integer beyond 32 bits wraps, except
    that constants saturate.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        narrowed: dict[Value, Value] = {}

        def narrow_input(builder: GraphBuilder, value: Value) -> Value:
            if value.dtype not in NARROWER:
                return value
            if value not in narrowed:
                narrowed[value] = builder.add(Convert(NARROWER[value.dtype]), value)
            return narrowed[value]

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            return builder.emit(_narrow_op(node.op), *(narrow_input(builder, v) for v in inputs))

        return restore_outputs(graph, rewrite(graph, rule))


def _narrow_op(op: Op) -> Op:
    if isinstance(op, Constant) and op.dtype in NARROWER:
        dtype = NARROWER[op.dtype]
        array = op.array if not op.is_splat else op.array.reshape(-1)[:1]
        if dtype.kind in "iu":
            array = np.clip(array, np.iinfo(dtype).min, np.iinfo(dtype).max)
        return Constant(op.shape, dtype, array.astype(dtype).tobytes())
    changed = {
        f.name: NARROWER[getattr(op, f.name)]
        for f in fields(op)  # type: ignore[arg-type]
        if isinstance(getattr(op, f.name), np.dtype) and getattr(op, f.name) in NARROWER
    }
    return replace(op, **changed) if changed else op  # type: ignore[type-var]


def restore_outputs(original: Graph, graph: Graph) -> Graph:
    """Convert outputs back to the dtypes that the original graph promises."""
    builder = GraphBuilder(graph.name, [value.name for value in graph.values()])
    outputs = [
        new if new.dtype == old.dtype else builder.add(Convert(old.dtype), new)
        for old, new in zip(original.outputs, graph.outputs, strict=True)
    ]
    return replace(graph, nodes=(*graph.nodes, *builder.nodes), outputs=tuple(outputs))


WORD: Final = np.dtype(np.uint32)
WORD_BITS: Final = 32
EXACT_BITS: Final = 24  # whole numbers below 2 to this power are exact in float32


@dataclass(frozen=True)
class WholeSums(Pass):
    """Sums of 32-bit integers that keep every bit and wrap, from sums that are exact in float32.

    Engines add up in float32 and saturate on writing. A word is cut into parts so narrow that their
    sums stay exact; the parts' sums are shifted back and added as words. Sums of truths need none.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return rewrite(graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        op = node.op
        if not isinstance(op, Reduce | Cumulative) or op.kind != "add":
            return None
        (x,) = inputs
        if x.dtype.kind not in "iu" or x.dtype.itemsize != WORD.itemsize:
            return None
        dims = op.dims if isinstance(op, Reduce) else (op.dim,)
        terms = math.prod(x.shape[dim] for dim in dims)
        if terms == 1:
            return builder.emit(Reshape(node.output.shape), x)
        bits = EXACT_BITS - (terms - 1).bit_length()
        if terms == 0 or bits < 1 or _are_truths(builder, x):
            return None
        word = x if x.dtype == WORD else builder.add(BitcastConvert(WORD), x)
        total = _sum_of_parts(builder, op, word, bits)
        return (total if x.dtype == WORD else builder.add(BitcastConvert(x.dtype), total),)


def _are_truths(builder: GraphBuilder, x: Value) -> bool:
    maker = builder.maker(x)
    return maker is not None and isinstance(maker.op, Convert) and maker.inputs[0].dtype == BOOL


def _sum_of_parts(builder: GraphBuilder, op: Op, word: Value, bits: int) -> Value:
    """The sum of words, ``bits`` of each at a time."""
    total: Value | None = None
    for low in range(0, WORD_BITS, bits):
        part = word
        if low:
            part = builder.add(ShiftRightLogical(), word, _splat(builder, low, word))
        if low + bits < WORD_BITS:
            part = builder.add(And(), part, _splat(builder, (1 << bits) - 1, word))
        found = builder.add(op, builder.add(Convert(F32), part))
        found = builder.add(Convert(WORD), found)
        if low:
            found = builder.add(ShiftLeft(), found, _splat(builder, low, found))
        total = found if total is None else builder.add(Add(), total, found)
    assert total is not None
    return total


def _splat(builder: GraphBuilder, number: int, like: Value) -> Value:
    return builder.add(Constant.splat(number, like.shape, like.dtype))
