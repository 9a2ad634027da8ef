"""What several passes ask of values that are one number per row."""

from __future__ import annotations

from tenzing.compiler.graph import GraphBuilder, Node, Value
from tenzing.compiler.ops import BroadcastInDim, Reshape


def row_source(builder: GraphBuilder, value: Value) -> Value:
    """What a value of one number per row repeats along the last dim, or holds as [..., 1]."""
    maker = builder.maker(value)
    while maker is not None and keeps_rows(maker):
        value = maker.inputs[0]
        maker = builder.maker(value)
    return value


def keeps_rows(node: Node) -> bool:
    """Whether it repeats along the last dim alone, or only adds or drops a last dim of one."""
    target = node.outputs[0].shape
    if isinstance(node.op, BroadcastInDim):
        source = node.inputs[0].shape
        dims = tuple(range(len(source)))
        return node.op.dims == dims and source in (target[:-1], (*target[:-1], 1))
    if isinstance(node.op, Reshape):
        source = node.inputs[0].shape
        return source == (*target, 1) or target == (*source, 1)
    return False


def last_dim_row(builder: GraphBuilder, value: Value) -> Value | None:
    """The [C] value that is repeated over all leading dims."""
    maker = builder.maker(value)
    if maker is None or not isinstance(maker.op, BroadcastInDim):
        return None
    source, rank = maker.inputs[0], len(value.shape)
    if source.shape == value.shape[-1:] and maker.op.dims == (rank - 1,):
        return source
    ones = all(size == 1 for size in source.shape[:-1])
    if ones and source.shape[-1:] == value.shape[-1:] and maker.op.dims[-1] == rank - 1:
        return builder.add(Reshape(value.shape[-1:]), source)
    return None


__all__ = ["keeps_rows", "last_dim_row", "row_source"]
