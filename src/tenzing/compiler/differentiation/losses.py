"""The gradient of a loss by its logits, of which every rank may hold a part of the vocabulary."""

from __future__ import annotations

from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.differentiation.backward import Seed
from tenzing.compiler.graph import F32, GraphBuilder, Value

INDEX: Final = np.dtype(np.int32)
ROWS: Final = (0,)


def cross_entropy(axes: tuple[str, ...] = (), ranks: int = 1) -> Seed:
    """Onto logits [batch, tokens, vocabulary of a rank]: softmax less one at the label, per token.

    ``labels`` [batch * tokens] are an input. No rank sees the whole vocabulary: maxima, sums and
    nothing else go between ranks.
    """

    def seed(builder: GraphBuilder, logits: Value) -> Value:
        count, wide = logits.shape[0] * logits.shape[1], logits.shape[2]
        add = builder.add
        labels = builder.input("labels", (count,), INDEX)
        rows = add(ops.Reshape((count, wide)), logits)
        rows = rows if rows.dtype == F32 else add(ops.Convert(F32), rows)

        def whole(row: Value, combine: str) -> Value:
            return add(ops.AllReduce(axes, ranks, combine), row) if ranks > 1 else row

        def along(row: Value) -> Value:
            return add(ops.BroadcastInDim((count, wide), ROWS), row)

        top = whole(add(ops.Reduce("maximum", (1,)), rows), "max")
        power = add(ops.Exponential(), add(ops.Subtract(), rows, along(top)))
        total = whole(add(ops.Reduce("add", (1,)), power), "add")
        share = add(ops.Divide(), power, along(total))
        hit = add(ops.Compare("eq"), add(ops.Iota((count, wide), INDEX, 1)),
                  along(_local(builder, labels, wide, axes, ranks)))  # fmt: skip
        one, zero = (add(ops.Constant.splat(n, (count, wide), F32)) for n in (1.0, 0.0))
        less = add(ops.Subtract(), share, add(ops.Select(), hit, one, zero))
        mean = add(ops.Multiply(), less, add(ops.Constant.splat(1 / count, less.shape, F32)))
        onto = mean if logits.dtype == F32 else add(ops.Convert(logits.dtype), mean)
        return add(ops.Reshape(logits.shape), onto)

    return seed


def _local(
    builder: GraphBuilder, labels: Value, wide: int, axes: tuple[str, ...], ranks: int
) -> Value:
    """Labels counted from the first of this rank; those of others are out of its range."""
    if ranks == 1:
        return labels
    add = builder.add
    step = add(ops.Constant.splat(wide, (), INDEX))
    first = add(ops.Multiply(), add(ops.AxisIndex(axes, ranks)), step)
    return add(ops.Subtract(), labels, add(ops.BroadcastInDim(labels.shape, ()), first))


__all__ = ["cross_entropy"]
