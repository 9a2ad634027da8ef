"""Norms of rows that are cut over ranks."""

from __future__ import annotations

from tenzing.compiler.graph import F32, GraphBuilder, Value
from tenzing.compiler.ops import (
    Add,
    AllReduce,
    BroadcastInDim,
    Constant,
    Convert,
    Multiply,
    Reduce,
    RmsNorm,
    Rsqrt,
)
from tenzing.compiler.passes.sharding.layout import Split


def cut_rms_norm(
    builder: GraphBuilder, op: RmsNorm, x: Value, weight: Value | None, split: Split, ranks: int
) -> Value:
    """A rank's part of the norm of rows cut along their last dim: one number per row is summed.

    ``weight`` is the rank's part; padding of ``x`` is zeros and adds nothing.
    """
    add, last = builder.add, len(x.shape) - 1
    wide = x if x.dtype == F32 else add(Convert(F32), x)
    square = add(Reduce("add", (last,)), add(Multiply(), wide, wide))
    total = add(AllReduce(split.axes, ranks), square)
    share, epsilon = (
        add(Constant.splat(n, total.shape, F32)) for n in (1.0 / split.size, op.epsilon)
    )
    scale = add(Rsqrt(), add(Add(), add(Multiply(), total, share), epsilon))
    result = add(Multiply(), wide, add(BroadcastInDim(x.shape, tuple(range(last))), scale))
    if weight is not None:
        row = weight if weight.dtype == F32 else add(Convert(F32), weight)
        result = add(Multiply(), result, add(BroadcastInDim(x.shape, (last,)), row))
    return result if x.dtype == F32 else add(Convert(x.dtype), result)


__all__ = ["cut_rms_norm"]
