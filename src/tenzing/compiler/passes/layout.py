"""Passes that fold layout changes into the operations that can read any layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, rewrite
from tenzing.compiler.ops import (
    Attention,
    BroadcastInDim,
    Convert,
    DotGeneral,
    Linear,
    Multiply,
    Reduce,
    Reshape,
    Rotary,
    RowComposite,
    Transpose,
)
from tenzing.compiler.passes.pipeline import Pass

HEADS_TO_SEQUENCE = (0, 2, 1, 3)  # swaps the dims of heads and positions


@dataclass(frozen=True)
class PackHeads(Pass):
    """Absorb the reshapes and transposes around attention: heads become strides.

    Looks for q, k, v transposed from [B, S, H, D], with converts, rotary embeddings and norms of
    heads since, and a result transposed back.  All four must match, else nothing changes.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users, private = graph.users(), graph.private()
        joined: dict[Value, Value] = {}  # old [B, S, H, D] -> the same, straight from attention

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if node.outputs[0] in joined:
                return (joined[node.outputs[0]],)
            if not isinstance(node.op, Attention) or node.op.packed:
                return None
            sources = [_packed_source(builder, value, private) for value in inputs[:3]]
            back = _packed_result(users, node, graph.outputs)
            if None in sources or back is None:
                return None
            plain = [self._plain(builder, source) for source in sources if source]
            packed = builder.add(replace(node.op, packed=True), *plain, *inputs[3:])
            joined[back] = builder.add(Reshape(back.shape), packed)
            return (self._apart(builder, packed, node.outputs[0]),)

        return rewrite(graph, rule)

    def _plain(self, builder: GraphBuilder, source: tuple[Value, Steps]) -> Value:
        value, steps = source
        if len(value.shape) == len(HEADS_TO_SEQUENCE):
            batch, length, heads, width = value.shape
            value = builder.add(Reshape((batch, length, heads * width)), value)
        for op, others in steps:
            value = _step(builder, op, value, others)
        return value

    def _apart(self, builder: GraphBuilder, packed: Value, old: Value) -> Value:
        """The unpacked result, for readers that the rewrite did not reach; dead otherwise."""
        batch, heads, length, width = old.shape
        split = builder.add(Reshape((batch, length, heads, width)), packed)
        return builder.add(Transpose(HEADS_TO_SEQUENCE), split)


def _step(builder: GraphBuilder, op: Op, packed: Value, others: tuple[Value, ...]) -> Value:
    """One operation on [B, S, H * D]; a norm has the width of a head."""
    if not isinstance(op, RowComposite):
        return builder.add(op, packed, *others)
    (width,) = others[0].shape
    batch, length, whole = packed.shape
    apart = builder.add(Reshape((batch, length, whole // width, width)), packed)
    return builder.add(Reshape(packed.shape), builder.add(op, apart, *others))


Steps = list[tuple[Op, tuple[Value, ...]]]  # operations to repeat, with their other inputs


def _packed_source(
    builder: GraphBuilder, value: Value, private: frozenset[Value]
) -> tuple[Value, Steps] | None:
    """The [B, S, H, D] or [B, S, H * D] behind [B, H, S, D], and what is done to it since.

    A norm that others read as well, such as a cache of keys, is not computed twice.
    """
    batch, heads, length, width = value.shape
    steps: Steps = []
    node, alone = builder.maker(value), True
    while node is not None:
        alone = alone and node.outputs[0] in private
        norm = isinstance(node.op, RowComposite) and len(node.inputs) > 1
        if not isinstance(node.op, Convert | Rotary) and not (norm and alone):
            break
        op = replace(node.op, packed=heads) if isinstance(node.op, Rotary) else node.op
        steps.insert(0, (op, node.inputs[1:]))
        node = builder.maker(node.inputs[0])
    if node is None or node.op != Transpose(HEADS_TO_SEQUENCE):
        return None
    source = node.inputs[0]
    split = builder.maker(source)
    if split is not None and isinstance(split.op, Reshape):
        whole = split.inputs[0]
        if whole.shape == (batch, length, heads * width):
            return whole, steps
    return source, steps


def _packed_result(
    users: dict[Value, list[Node]], node: Node, outputs: tuple[Value, ...]
) -> Value | None:
    """An attention's result with its heads beside each other, [B, S, H, D]."""
    value = node.outputs[0]
    readers = users.get(value, [])
    if len(readers) != 1 or value in outputs or readers[0].op != Transpose(HEADS_TO_SEQUENCE):
        return None
    return readers[0].outputs[0]


@dataclass(frozen=True)
class WeightsForMatmul(Pass):
    """Turn every linear weight to [K, N], the layout the tensor engine reads; done at load time."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Linear) or node.op.weight == "kn":
                return None
            turned = builder.add(Transpose((1, 0)), inputs[1], hint=f"{inputs[1].name}.T")
            op = replace(node.op, weight="kn")
            return builder.emit(op, inputs[0], turned, *inputs[2:])

        return rewrite(graph, rule)


@dataclass(frozen=True)
class SumsAsMatmul(Pass):
    """Sum over a dim that is not the last as a matrix product: partitions cannot be added.

    ``sum(x * broadcast(w), dim)`` with one weight per row becomes the product of w and x.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users = graph.users()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Reduce) or not _sums_rows(node.op, inputs[0]):
                return None
            product = builder.maker(inputs[0])
            if product is None or len(users.get(node.inputs[0], [])) != 1:
                return None
            parts = _weights_and_rows(builder, product)
            return parts and (self._product(builder, *parts),)

        return rewrite(graph, rule)

    def _product(self, builder: GraphBuilder, weight: Value, rows: Value) -> Value:
        """[lead..., S] times [lead..., S, C] over S."""
        lead = len(rows.shape) - 2
        flat = builder.add(Reshape(rows.shape[:-1]), weight)
        batch = tuple(range(lead))
        op = DotGeneral((batch, batch), ((lead,), (lead,)), rows.dtype)
        return builder.add(op, flat, rows)


def _sums_rows(op: Reduce, operand: Value) -> bool:
    rank = len(operand.shape)
    return op.kind == "add" and rank > 1 and op.dims == (rank - 2,) and operand.dtype.kind != "i"


def _weights_and_rows(builder: GraphBuilder, product: Node) -> tuple[Value, Value] | None:
    """The per-row factor and the rows of a product, in either order."""
    if not isinstance(product.op, Multiply):
        return None
    for factor, rows in (product.inputs, product.inputs[::-1]):
        node = builder.maker(factor)
        if node is None or not isinstance(node.op, BroadcastInDim):
            continue
        lead = rows.shape[:-1]
        last = len(rows.shape) - 1
        source = node.inputs[0]
        if source.shape == (*lead, 1) or (source.shape == lead and last not in node.op.dims):
            return source, rows
    return None
