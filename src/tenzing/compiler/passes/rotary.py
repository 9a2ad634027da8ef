"""Recognises rotary position embedding written out with slices and a concatenation."""

from __future__ import annotations

from dataclasses import dataclass

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Concatenate,
    Multiply,
    Negate,
    Reshape,
    Rotary,
    Slice,
)
from tenzing.compiler.passes.pipeline import Pass

HEADS_RANK = 4


@dataclass(frozen=True)
class RecogniseRotary(Pass):
    """``x cos + concat(-second half of x, first half of x) sin`` over [B, H, S, D] is one op."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Add) or len(node.output.shape) != HEADS_RANK:
                return None
            for straight, crossed in (inputs, inputs[::-1]):
                found = _operands(builder, straight, crossed)
                if found is not None:
                    return builder.emit(Rotary(), *found)
            return None

        return rewrite(graph, rule)


def _operands(
    builder: GraphBuilder, straight: Value, crossed: Value
) -> tuple[Value, Value, Value] | None:
    """x, cos and sin behind the two products."""
    products = [builder.maker(v) for v in (straight, crossed)]
    if any(p is None or not isinstance(p.op, Multiply) for p in products):
        return None
    one, other = (p.inputs for p in products if p is not None)
    for turned, sine in (other, other[::-1]):
        x = _turned_from(builder, turned)
        for value, cosine in (one, one[::-1]):
            if x is None or value != x:
                continue
            cos, sin = _table(builder, cosine), _table(builder, sine)
            if cos is not None and sin is not None:
                return x, cos, sin
    return None


def _turned_from(builder: GraphBuilder, value: Value) -> Value | None:
    """x when ``value`` is (-second half of x, first half of x) along the last dim."""
    node = builder.maker(value)
    last = len(value.shape) - 1
    if node is None or node.op != Concatenate(last) or len(node.inputs) != len(("-b", "a")):
        return None
    negated, first = (builder.maker(v) for v in node.inputs)
    if negated is None or not isinstance(negated.op, Negate) or first is None:
        return None
    second = builder.maker(negated.inputs[0])
    if second is None or second.inputs != first.inputs:
        return None
    x = first.inputs[0]
    if x.shape != value.shape:
        return None
    half, zeros, ones = x.shape[last] // 2, (0,) * last, (1,) * (last + 1)
    low = Slice((*zeros, 0), (*x.shape[:-1], half), ones)
    high = Slice((*zeros, half), x.shape, ones)
    return x if (first.op, second.op) == (low, high) else None


def _table(builder: GraphBuilder, value: Value) -> Value | None:
    """[1 or batch, length, width] behind a table repeated over heads."""
    length, width = value.shape[2:]
    node = builder.maker(value)
    source, dims = value, tuple(range(HEADS_RANK))
    if node is not None and isinstance(node.op, BroadcastInDim):
        source, dims = node.inputs[0], node.op.dims
    sizes = dict(zip(dims, source.shape, strict=True))
    lead = sizes.get(0, 1)
    if sizes.get(1, 1) != 1 or (sizes.get(2), sizes.get(3)) != (length, width):
        return None
    shape = (lead, length, width)
    return source if source.shape == shape else builder.add(Reshape(shape), source)
