"""The best of a vocabulary that is cut over ranks, without gathering it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    AllGather,
    ArgMax,
    AxisIndex,
    BroadcastInDim,
    Compare,
    Constant,
    Convert,
    Iota,
    Multiply,
    Reshape,
    Select,
    Slice,
    TakeAlong,
    TopK,
)
from tenzing.compiler.passes.pipeline import Pass

INDEX: Final = np.dtype(np.int32)
Values = tuple[Value, ...]


@dataclass(frozen=True)
class SearchBeforeGather(Pass):
    """A top-k or argmax of gathered parts becomes one of every part and one of their results.

    What ranks send is ``k`` numbers and places each. Equal numbers keep the order of their places.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(builder: GraphBuilder, node: Node, inputs: Values) -> Values | None:
            op = node.op
            if not isinstance(op, TopK | ArgMax):
                return None
            last = len(inputs[0].shape) - 1
            found = _gathered(builder, inputs[0], last)
            if found is None or (isinstance(op, ArgMax) and op.dim != last):
                return None
            count = op.k if isinstance(op, TopK) else 1
            if count > found[1].shape[last]:
                return None
            best, places = _best(builder, *found, inputs[0].shape[last], count)
            kind = op.index_dtype if isinstance(op, TopK) else op.dtype
            if places.dtype != kind:
                places = builder.add(Convert(kind), places)
            if isinstance(op, ArgMax):
                return (builder.add(Reshape(node.outputs[0].shape), places),)
            return best, places

        return rewrite(graph, rule)


def _gathered(builder: GraphBuilder, value: Value, last: int) -> tuple[AllGather, Value] | None:
    """The gather along the last dim that made a value, padding cut off, and what it gathered."""
    maker = builder.maker(value)
    if maker is not None and isinstance(maker.op, Slice):
        whole, op = maker.inputs[0].shape, maker.op
        ahead = op.start == (0,) * len(whole) and set(op.stride) == {1}
        if not ahead or op.limit[:last] != whole[:last]:
            return None
        maker = builder.maker(maker.inputs[0])
    if maker is None or not isinstance(maker.op, AllGather) or maker.op.dim != last:
        return None
    return maker.op, maker.inputs[0]


def _best(
    builder: GraphBuilder, gather: AllGather, part: Value, size: int, count: int
) -> tuple[Value, Value]:
    """The largest of all parts and where they are in the whole of ``size``."""
    add, last = builder.add, len(part.shape) - 1
    step = part.shape[last]
    place = add(AxisIndex(gather.axes, gather.ranks))
    first = add(Multiply(), place, add(Constant.splat(step, (), INDEX)))
    if step * gather.ranks > size:  # padding is never the largest
        part = _without_padding(builder, part, first, size)
    values, places = builder.emit(TopK(count, INDEX), part)
    places = add(Add(), places, add(BroadcastInDim(places.shape, ()), first))
    every, where = (add(AllGather(gather.axes, gather.ranks, last), v) for v in (values, places))
    best, order = builder.emit(TopK(count, INDEX), every)
    return best, add(TakeAlong(last), where, order)


def _without_padding(builder: GraphBuilder, part: Value, first: Value, size: int) -> Value:
    add, shape = builder.add, part.shape
    place = add(Add(), add(Iota(shape, INDEX, len(shape) - 1)),
                add(BroadcastInDim(shape, ()), first))  # fmt: skip
    inside = add(Compare("lt"), place, add(Constant.splat(size, shape, INDEX)))
    least = float(ml_dtypes.finfo(part.dtype).min)  # type: ignore[no-untyped-call]
    return add(Select(), inside, part, add(Constant.splat(least, shape, part.dtype)))


__all__ = ["SearchBeforeGather"]
