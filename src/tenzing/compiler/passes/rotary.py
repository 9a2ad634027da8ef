"""Recognises rotary position embedding in the ways that frameworks write it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Concatenate,
    Multiply,
    Negate,
    Reshape,
    Rotary,
    Slice,
    Subtract,
    Transpose,
)
from tenzing.compiler.passes.pipeline import Pass

HEADS_RANK = 4
HEADS_DIM, TOKENS_DIM = 1, 2
TOKENS_FIRST = (0, 2, 1, 3)  # [B, S, H, D] to [B, H, S, D] and back
Pair = tuple[Value, Value]


class Turn(NamedTuple):
    """What a rotary embedding turns: x, and tables over its width or over half of it."""

    x: Value
    cosine: Value
    sine: Value
    interleaved: bool


@dataclass(frozen=True)
class RecogniseRotary(Pass):
    """``x cos + turned(x) sin`` over [B, H, S, D] or [B, S, H, D] is one op.

    ``turned`` is (-second, first) of two halves joined, or of neighbours stacked. Also found when
    both parts are computed apart, ``first cos - second sin`` and ``second cos + first sin``, with
    tables for one part, as complex products are.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            turn = None
            if isinstance(node.op, Add) and len(node.output.shape) == HEADS_RANK:
                turn = _whole(builder, inputs)
            elif isinstance(node.op, Concatenate):
                turn = _in_parts(builder, node.op, inputs)
            found = _rotary(builder, turn) if turn else None
            if found is None:
                return None
            whole = node.output.shape
            return (found if found.shape == whole else builder.add(Reshape(whole), found),)

        return rewrite(graph, rule)


def _whole(builder: GraphBuilder, inputs: Sequence[Value]) -> Turn | None:
    """Both products of a sum, in either order."""
    factors = [_made(builder, value, Multiply) for value in inputs]
    if None in factors:
        return None
    for (one, other), (straight, crossed) in zip(
        (inputs, inputs[::-1]), (factors, factors[::-1]), strict=True
    ):
        assert straight is not None
        assert crossed is not None
        if one is other:
            return None
        for turned, sine in _both(crossed):
            pair, interleaved = _joined(builder, turned)
            x = _turned_from(builder, pair, interleaved) if pair else None
            for value, cosine in _both(straight):
                if x is not None and value == x:
                    return Turn(x, cosine, sine, interleaved)
    return None


def _turned_from(builder: GraphBuilder, pair: Pair, interleaved: bool) -> Value | None:
    """x when the pair is (-second, first) of its parts."""
    negated = _made(builder, pair[0], Negate)
    return _split(builder, (pair[1], negated[0]), interleaved) if negated else None


def _in_parts(builder: GraphBuilder, op: Concatenate, inputs: Sequence[Value]) -> Turn | None:
    """``first cos - second sin`` joined with ``second cos + first sin``."""
    pair, interleaved = _parts(builder, op, inputs)
    if pair is None or len(pair[0].shape) != HEADS_RANK:
        return None
    low, high = _made(builder, pair[0], Subtract), _made(builder, pair[1], Add)
    if low is None or high is None:
        return None
    products = [_made(builder, v, Multiply) for v in (*low, *high)]
    if None in products:
        return None
    minuend, subtrahend, *sums = (p for p in products if p is not None)
    for first, cosine in _both(minuend):
        for second, sine in _both(subtrahend):
            wanted = [{second, cosine}, {first, sine}]
            if [set(s) for s in sums] not in (wanted, wanted[::-1]):
                continue
            x = _split(builder, (first, second), interleaved)
            if x is not None:
                return Turn(x, cosine, sine, interleaved)
    return None


def _joined(builder: GraphBuilder, value: Value) -> tuple[Pair | None, bool]:
    """The two parts that a value joins, and whether they are neighbours."""
    node = builder.maker(value)
    if node is not None and isinstance(node.op, Reshape):
        half = (*value.shape[:-1], value.shape[-1] // 2, 2)
        node = builder.maker(node.inputs[0]) if node.inputs[0].shape == half else None
    if node is None or not isinstance(node.op, Concatenate):
        return None, False
    pair, interleaved = _parts(builder, node.op, node.inputs)
    return (pair, interleaved) if pair and len(pair[0].shape) == HEADS_RANK else (None, False)


def _parts(
    builder: GraphBuilder, op: Concatenate, inputs: Sequence[Value]
) -> tuple[Pair | None, bool]:
    """What two halves are, or two stacked values, and which of both it is."""
    shape = inputs[0].shape
    equal = {v.shape for v in inputs} == {shape} and len(inputs) == len(("first", "second"))
    if not equal or op.dim != len(shape) - 1:
        return None, False
    if len(shape) == HEADS_RANK:
        return (inputs[0], inputs[1]), False
    flat = [made[0] for v in inputs if (made := _made(builder, v, Reshape))]
    if len(flat) != len(inputs) or {v.shape for v in flat} != {shape[:-1]} or shape[-1] != 1:
        return None, False
    return (flat[0], flat[1]), True


def _split(builder: GraphBuilder, pair: Pair, interleaved: bool) -> Value | None:
    """x when a pair holds its two parts."""
    first, second = (_part(builder, value, n, interleaved) for n, value in enumerate(pair))
    if first is None or first != second:
        return None
    whole = (*pair[0].shape[:-1], 2 * pair[0].shape[-1])
    return first if first.shape == whole else builder.add(Reshape(whole), first)


def _part(builder: GraphBuilder, value: Value, number: int, interleaved: bool) -> Value | None:
    """x when a value is one of its two halves, or every other column; x may be a view of pairs."""
    node = builder.maker(value)
    if node is not None and isinstance(node.op, Reshape) and interleaved:
        return _paired(builder, node.inputs[0], number)  # as real and imaginary parts are
    if node is None or not isinstance(node.op, Slice):
        return None
    x, half, lead = node.inputs[0], value.shape[-1], (0,) * (len(value.shape) - 1)
    ones = (1,) * len(lead)
    wanted = Slice((*lead, number * half), (*x.shape[:-1], (number + 1) * half), (*ones, 1))
    if interleaved:
        last = node.op.limit[-1]  # the same columns with or without the one behind the last
        wanted = Slice((*lead, number), (*x.shape[:-1], last), (*ones, 2))
    return x if node.op == wanted and x.shape == (*value.shape[:-1], 2 * half) else None


def _paired(builder: GraphBuilder, value: Value, number: int) -> Value | None:
    """[..., width / 2, 2] when a value is one column of it."""
    node = builder.maker(value)
    if node is None or not isinstance(node.op, Slice):
        return None
    (pairs,) = node.inputs
    lead = (0,) * (len(pairs.shape) - 1)
    wanted = Slice((*lead, number), (*pairs.shape[:-1], number + 1), (1,) * len(pairs.shape))
    return pairs if node.op == wanted and pairs.shape[-1] == len(("first", "second")) else None


def _rotary(builder: GraphBuilder, turn: Turn) -> Value | None:
    """The operation, with heads ahead of tokens, in place of a turn in either order."""
    x, interleaved = turn.x, turn.interleaved
    for heads_dim in (HEADS_DIM, TOKENS_DIM):
        cos, sin = (_table(builder, t, x, heads_dim, interleaved) for t in (turn.cosine, turn.sine))
        if cos is None or sin is None:
            continue
        op = Rotary(interleaved=interleaved)
        if heads_dim == HEADS_DIM:
            return builder.add(op, x, cos, sin)
        turned = builder.add(Transpose(TOKENS_FIRST), x)
        return builder.add(Transpose(TOKENS_FIRST), builder.add(op, turned, cos, sin))
    return None


def _table(
    builder: GraphBuilder, value: Value, x: Value, heads_dim: int, interleaved: bool
) -> Value | None:
    """[1 or batch, length, width] behind a table repeated over heads; None when it differs."""
    node = builder.maker(value)
    source, dims = value, tuple(range(HEADS_RANK))
    if node is not None and isinstance(node.op, BroadcastInDim):
        source, dims = node.inputs[0], node.op.dims
    sizes = dict(zip(dims, source.shape, strict=True))
    length, width = value.shape[HEADS_DIM + TOKENS_DIM - heads_dim], value.shape[-1]
    lead, tokens = sizes.get(0, 1), sizes.get(HEADS_DIM + TOKENS_DIM - heads_dim)
    if sizes.get(heads_dim, 1) != 1 or (tokens, sizes.get(3)) != (length, width):
        return None
    if lead not in (1, x.shape[0]):
        return None
    shape = (lead, length, width)
    table = source if source.shape == shape else builder.add(Reshape(shape), source)
    return table if width == x.shape[-1] else _widened(builder, table, interleaved)


def _widened(builder: GraphBuilder, table: Value, interleaved: bool) -> Value:
    """A table for one part of every pair as one for both."""
    lead, width = table.shape[:-1], table.shape[-1]
    if not interleaved:
        return builder.add(Concatenate(len(lead)), table, table)
    dims = tuple(range(len(table.shape)))
    wide = builder.add(BroadcastInDim((*lead, width, 2), dims), table)
    return builder.add(Reshape((*lead, 2 * width)), wide)


def _made(builder: GraphBuilder, value: Value, kind: type[Op]) -> tuple[Value, ...] | None:
    """The inputs of the node behind a value when it is of this kind."""
    node = builder.maker(value)
    return node.inputs if node is not None and isinstance(node.op, kind) else None


def _both(pair: Sequence[Value]) -> tuple[Pair, Pair]:
    return (pair[0], pair[1]), (pair[1], pair[0])
