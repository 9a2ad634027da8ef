"""The cross entropy of rows: a loss reads one log-probability, its gradient sums one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import (
    BroadcastInDim,
    Compare,
    Constant,
    Exponential,
    Iota,
    Log,
    Multiply,
    Reduce,
    Reshape,
    Select,
    Subtract,
    TakeAlong,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.rows import row_source


@dataclass(frozen=True)
class RowLosses(Pass):
    """Takes whole rows out of the cross entropy, whatever the vocabulary.

    One element of ``log_softmax(x)`` is that of x less the row's maximum and logarithm, so no row
    of log-probabilities is stored; the sum of a one-hot row, which the gradient of log_softmax
    asks for, is its one number.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if isinstance(node.op, TakeAlong):
                return _taken(builder, node.op, *inputs)
            if isinstance(node.op, Reduce) and node.op.kind == "add":
                return _one_hot_sum(builder, node, inputs[0])
            return None

        return rewrite(graph, rule)


def _taken(
    builder: GraphBuilder, op: TakeAlong, table: Value, index: Value
) -> tuple[Value, ...] | None:
    rank = len(table.shape)
    if op.dim != rank - 1 or index.shape != (*table.shape[:-1], 1):
        return None
    outer = builder.maker(table)
    inner = builder.maker(outer.inputs[0]) if outer is not None else None
    if outer is None or inner is None or not _is_log_softmax(builder, outer, inner):
        return None
    taken = builder.add(op, inner.inputs[0], index)
    for step in (inner, outer):
        row = _column(builder, row_source(builder, step.inputs[1]), index.shape)
        taken = builder.add(Subtract(), taken, row)
    return (taken,)


def _is_log_softmax(builder: GraphBuilder, outer: Node, inner: Node) -> bool:
    """``outer = inner - log(sum(exp(inner)))`` with ``inner = x - max(x)``."""
    if not isinstance(outer.op, Subtract) or not isinstance(inner.op, Subtract):
        return False
    shifted = inner.outputs[0]
    log = builder.maker(row_source(builder, outer.inputs[1]))
    if log is None or not isinstance(log.op, Log):
        return False
    total = builder.maker(row_source(builder, log.inputs[0]))
    top = builder.maker(row_source(builder, inner.inputs[1]))
    if not _reduces_rows(total, "add") or not _reduces_rows(top, "maximum"):
        return False
    assert total is not None
    assert top is not None
    power = builder.maker(total.inputs[0])
    exponential = power is not None and isinstance(power.op, Exponential)
    return (
        exponential
        and power is not None
        and power.inputs[0] == shifted
        and top.inputs[0] == inner.inputs[0]
    )


def _reduces_rows(node: Node | None, kind: str) -> bool:
    if node is None or not isinstance(node.op, Reduce):
        return False
    return node.op.kind == kind and node.op.dims == (len(node.inputs[0].shape) - 1,)


def _one_hot_sum(builder: GraphBuilder, node: Node, x: Value) -> tuple[Value, ...] | None:
    """The sum along rows of ``one_hot * factor``, where the factor is one number per row."""
    if not _reduces_rows(node, "add"):
        return None
    maker = builder.maker(x)
    pairs: list[tuple[Value, Value | None]] = [(x, None)]
    if maker is not None and isinstance(maker.op, Multiply):
        pairs = [(maker.inputs[0], maker.inputs[1]), (maker.inputs[1], maker.inputs[0])]
    shape = node.outputs[0].shape
    for hot, factor in pairs:
        number = _one_hot(builder, hot)
        if number is None:
            continue
        only = builder.add(Constant.splat(number, shape, x.dtype))
        if factor is None:
            return (only,)
        row = row_source(builder, factor)
        if row != factor:
            return builder.emit(Multiply(), _column(builder, row, shape), only)
    return None


def _one_hot(builder: GraphBuilder, value: Value) -> float | None:
    """The number that every row holds once among zeros, at the place an index names."""
    maker = builder.maker(value)
    if maker is None or not isinstance(maker.op, Select):
        return None
    found, *sides = (builder.maker(v) for v in maker.inputs)
    numbers = [s.op.number for s in sides
               if s is not None and isinstance(s.op, Constant) and s.op.is_splat]  # fmt: skip
    if len(numbers) != 2 or numbers[1] or found is None:  # noqa: PLR2004 - both sides
        return None
    if not isinstance(found.op, Compare) or found.op.direction != "eq":
        return None
    for index, places in (found.inputs, found.inputs[::-1]):
        if row_source(builder, index) != index and _counts(builder, places):
            return numbers[0]
    return None


def _counts(builder: GraphBuilder, value: Value) -> bool:
    """Whether every row holds 0, 1, 2 and so on."""
    maker = builder.maker(value)
    while maker is not None and isinstance(maker.op, BroadcastInDim):
        if maker.op.dims[-1:] != (len(maker.outputs[0].shape) - 1,):
            return False
        maker = builder.maker(maker.inputs[0])
    if maker is None:
        return False
    if isinstance(maker.op, Constant):
        line = np.arange(maker.op.shape[-1]) if maker.op.shape else np.zeros(0)
        return bool(len(line) == value.shape[-1] and (maker.op.array == line).all())
    return isinstance(maker.op, Iota) and maker.op.dim == len(maker.op.shape) - 1


def _column(builder: GraphBuilder, row: Value, shape: tuple[int, ...]) -> Value:
    return row if row.shape == shape else builder.add(Reshape(shape), row)


__all__ = ["RowLosses"]
