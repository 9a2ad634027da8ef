"""Integers of 8 and 16 bits as frameworks have them: what does not fit wraps around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import (
    F32,
    Graph,
    GraphBuilder,
    Node,
    Value,
    is_float,
    is_narrow_integer,
    rewrite,
)
from tenzing.compiler.ops import (
    Abs,
    Add,
    Concatenate,
    Convert,
    Cumulative,
    Divide,
    Multiply,
    Negate,
    Power,
    Reduce,
    Reshape,
    Slice,
    Subtract,
)
from tenzing.compiler.passes.legalise import EXACT_BITS
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.terms import splat_of

WORD: Final = np.dtype(np.int32)
BYTE_BITS: Final = 8
EXPONENT_MAX: Final = 64  # larger constant powers of integers stay one operation

RING: Final = (Add, Subtract, Multiply, Negate)  # low bits of the result need low bits alone
OVERFLOWING: Final = (*RING, Abs, Divide)  # the largest quotient is that of the least number by -1


@dataclass(frozen=True)
class WrapIntegers(Pass):
    """8- and 16-bit integers are computed in 32 bits, and their low bits kept.

    Engines round what they write to the nearest number of its dtype and saturate (NKI release
    notes), while PyTorch, JAX and NumPy wrap. Sums go through float32 where that is exact. Products
    of many integers and constant powers of them, of any width, become multiplications of words.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return _Wrapping().run(graph)


class _Wrapping:
    def __init__(self) -> None:
        self.wide: dict[Value, Value] = {}  # words whose low bits a value has

    def run(self, graph: Graph) -> Graph:
        return rewrite(graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        if len(node.outputs) != 1:
            return None
        op, dtype = node.op, node.outputs[0].dtype
        if isinstance(op, Convert) and is_narrow_integer(dtype) and is_float(inputs[0].dtype):
            return (builder.add(op, builder.add(Convert(WORD), inputs[0])),)
        if dtype.kind not in "iu":
            return None
        word = self._power(builder, op, inputs) or self._product(builder, op, inputs)
        if word is None and is_narrow_integer(dtype):
            word = self._narrow(builder, op, inputs)
        if word is None:
            return None
        if word.dtype == dtype:
            return (word,)
        result = builder.add(Convert(dtype), word)
        self.wide[result] = word
        return (result,)

    def _narrow(self, builder: GraphBuilder, op: Any, inputs: tuple[Value, ...]) -> Value | None:
        if isinstance(op, OVERFLOWING):
            ring = isinstance(op, RING)
            return builder.add(op, *(self._widened(builder, value, ring) for value in inputs))
        if isinstance(op, Reduce | Cumulative) and op.kind == "add":
            return _sum(builder, op, inputs[0])
        return None

    def _widened(self, builder: GraphBuilder, value: Value, low_bits: bool) -> Value:
        """The value as words; any with its low bits where those are all that counts."""
        if low_bits and value in self.wide:
            return self.wide[value]
        return value if value.dtype.itemsize == WORD.itemsize else builder.add(Convert(WORD), value)

    def _power(self, builder: GraphBuilder, op: Any, inputs: tuple[Value, ...]) -> Value | None:
        """A constant power, by squaring."""
        exponent = splat_of(inputs[1], builder.maker) if isinstance(op, Power) else None
        if exponent is None or exponent not in range(1, EXPONENT_MAX):
            return None
        square, rest = self._widened(builder, inputs[0], True), int(exponent)
        found: Value | None = None
        while rest:
            if rest % 2:
                found = square if found is None else builder.add(Multiply(), found, square)
            rest //= 2
            square = builder.add(Multiply(), square, square) if rest else square
        return found

    def _product(self, builder: GraphBuilder, op: Any, inputs: tuple[Value, ...]) -> Value | None:
        """The product along dims, halves by halves."""
        if not isinstance(op, Reduce) or op.kind != "multiply" or not inputs[0].type.elements:
            return None
        value = self._widened(builder, inputs[0], True)
        shape = tuple(n for d, n in enumerate(value.shape) if d not in op.dims)
        for dim in op.dims:
            value = _folded(builder, value, dim)
        return builder.add(Reshape(shape), value)


def _sum(builder: GraphBuilder, op: Reduce | Cumulative, x: Value) -> Value:
    """A sum as words: of floats where all are exact."""
    dims = op.dims if isinstance(op, Reduce) else (op.dim,)
    terms = math.prod(x.shape[dim] for dim in dims)
    exact = terms << (x.dtype.itemsize * BYTE_BITS) <= 1 << EXACT_BITS
    found = builder.add(op, builder.add(Convert(F32 if exact else WORD), x))
    return builder.add(Convert(WORD), found) if exact else found


def _folded(builder: GraphBuilder, value: Value, dim: int) -> Value:
    """The product along one dim, which keeps size 1."""
    while (size := value.shape[dim]) > 1:
        half = size // 2
        both = builder.add(
            Multiply(), _part(builder, value, dim, 0, half), _part(builder, value, dim, half, half)
        )
        if size % 2:
            both = builder.add(Concatenate(dim), both, _part(builder, value, dim, size - 1, 1))
        value = both
    return value


def _part(builder: GraphBuilder, value: Value, dim: int, start: int, size: int) -> Value:
    starts, limits = [0] * len(value.shape), list(value.shape)
    starts[dim], limits[dim] = start, start + size
    return builder.add(Slice(tuple(starts), tuple(limits), (1,) * len(starts)), value)


__all__ = ["WrapIntegers"]
