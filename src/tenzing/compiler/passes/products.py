"""Brings matrix products of any spelling to the forms that linears and attention are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Shape, Value, rewrite
from tenzing.compiler.ops import DotGeneral, Reshape, Transpose
from tenzing.compiler.passes.pipeline import Pass

MATRIX_RANK = 2


@dataclass(frozen=True)
class StandardProducts(Pass):
    """Products of matrices, and products over batches of matrices with the batch in front.

    A transposed matrix is read the other way round; a weight of more dims, such as [model, heads,
    width], becomes a matrix; batch dims that stand elsewhere are moved to the front.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        weights = set(graph.parameters)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op = node.op
            if not isinstance(op, DotGeneral):
                return None
            if op.batch != ((), ()):
                return _batch_first(builder, op, inputs)
            return _as_matrix(builder, op, inputs, weights) or _untransposed(builder, op, inputs)

        return rewrite(graph, rule)


def _untransposed(
    builder: GraphBuilder, op: DotGeneral, inputs: Sequence[Value]
) -> tuple[Value, ...] | None:
    """x times a transposed matrix, with the matrix itself."""
    x, y = inputs
    maker = builder.maker(y)
    if maker is None or not isinstance(maker.op, Transpose) or len(y.shape) != MATRIX_RANK:
        return None
    contract = tuple(maker.op.permutation[d] for d in op.contract[1])
    return builder.emit(replace(op, contract=(op.contract[0], contract)), x, maker.inputs[0])


def _as_matrix(
    builder: GraphBuilder, op: DotGeneral, inputs: Sequence[Value], weights: set[Value]
) -> tuple[Value, ...] | None:
    """x's last dims with the first, or the last, dims of a weight: both joined."""
    x, y = inputs
    left, right = op.contract
    if y not in weights or not left or (len(left) == 1 and len(y.shape) <= MATRIX_RANK):
        return None
    count, rank = len(left), len(y.shape)
    if left != tuple(range(len(x.shape) - count, len(x.shape))):
        return None
    free = op.free(1, rank)
    depth = math.prod(y.shape[d] for d in right)
    width = math.prod(y.shape[d] for d in free)
    if right == tuple(range(count)):
        shape, inner = (depth, width), 0
    elif right == tuple(range(rank - count, rank)):
        shape, inner = (width, depth), 1
    else:
        return None
    lead = x.shape[:-count]
    rows = _shaped(builder, x, (*lead, depth))
    matrix = _shaped(builder, y, shape)
    product = replace(op, contract=((len(lead),), (inner,)))
    result = builder.add(product, rows, matrix)
    return (_shaped(builder, result, (*lead, *(y.shape[d] for d in free))),)


def _shaped(builder: GraphBuilder, x: Value, shape: Shape) -> Value:
    return x if x.shape == shape else builder.add(Reshape(shape), x)


def _batch_first(
    builder: GraphBuilder, op: DotGeneral, inputs: Sequence[Value]
) -> tuple[Value, ...] | None:
    """Batch dims in front on both sides, the left side's contracting dim last."""
    count = len(op.batch[0])
    plain = tuple(range(count))
    if any(len(v.shape) != count + MATRIX_RANK for v in inputs) or len(op.contract[0]) != 1:
        return None
    if op.batch == (plain, plain) and op.contract[0] == (count + 1,):
        return None
    x, y = inputs
    left = (*op.batch[0], *op.free(0, len(x.shape)), *op.contract[0])
    tail = tuple(d for d in range(len(y.shape)) if d not in op.batch[1])
    inner = count + tail.index(op.contract[1][0])
    product = replace(op, batch=(plain, plain), contract=((count + 1,), (inner,)))
    moved = (_ordered(builder, x, left), _ordered(builder, y, (*op.batch[1], *tail)))
    return builder.emit(product, *moved)


def _ordered(builder: GraphBuilder, x: Value, order: Shape) -> Value:
    return x if order == tuple(range(len(order))) else builder.add(Transpose(order), x)
