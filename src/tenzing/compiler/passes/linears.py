"""Linears among themselves: pieces of one, a gate and what it gates, a sum that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, is_float, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Constant,
    GatedLinear,
    Linear,
    Multiply,
    Reshape,
    Slice,
)
from tenzing.compiler.passes.pipeline import Pass


@dataclass(frozen=True)
class ReshapeBeforeLinear(Pass):
    """A linear works on any leading dims: a reshape of its result moves to its input.

    There it often meets the opposite reshape, and what follows the linear can join it.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Reshape) or node.inputs[0] not in private:
                return None
            linear = builder.maker(inputs[0])
            shape = node.outputs[0].shape
            if linear is None or not isinstance(linear.op, Linear) or linear.op.residual:
                return None
            if shape[-1:] != inputs[0].shape[-1:]:
                return None
            x = linear.inputs[0]
            rows = builder.add(Reshape((*shape[:-1], x.shape[-1])), x)
            return builder.emit(linear.op, rows, *linear.inputs[1:])

        return rewrite(graph, rule)


@dataclass(frozen=True)
class BiasBeforeReshape(Pass):
    """A bias of each head and width that follows ``[..., heads, width]`` joins the columns first.

    There it can become part of the product that makes them.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Add):
                return None
            pairs = zip(node.inputs, inputs, inputs[::-1], strict=True)
            for old, value, other in pairs:
                columns = _cut_columns(builder, value) if old in private else None
                bias = None if columns is None else _bias_of(builder, other, columns)
                if columns is not None and bias is not None:
                    dims = (len(columns.shape) - 1,)
                    wide = builder.add(BroadcastInDim(columns.shape, dims), bias)
                    total = builder.add(Add(), columns, wide)
                    return builder.emit(Reshape(value.shape), total)
            return None

        return rewrite(graph, rule)


def _cut_columns(builder: GraphBuilder, value: Value) -> Value | None:
    """``[..., N]`` when the value is that with its last dim cut in several."""
    maker = builder.maker(value)
    if maker is None or not isinstance(maker.op, Reshape):
        return None
    source = maker.inputs[0]
    lead = len(source.shape) - 1
    cut = lead >= 0 and len(value.shape) > lead + 1 and source.shape[:-1] == value.shape[:lead]
    return source if cut else None


def _bias_of(builder: GraphBuilder, value: Value, columns: Value) -> Value | None:
    """The ``[N]`` row that the value repeats over all rows of ``columns``."""
    maker = builder.maker(value)
    lead = len(columns.shape) - 1
    if maker is None or not isinstance(maker.op, BroadcastInDim):
        return None
    source = maker.inputs[0]
    whole = source.shape == value.shape[lead:]
    if not whole or maker.op.dims != tuple(range(lead, len(value.shape))):
        return None
    return builder.add(Reshape(columns.shape[-1:]), source)


@dataclass(frozen=True)
class SplitLinear(Pass):
    """A linear of which only column ranges are read becomes one linear for each range.

    Joined projections (queries, keys and values; gate and up) then need no strided reads; the
    pieces of the weight are cut when weights are loaded.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users, returned = graph.users(), set(graph.outputs)
        fixed = set(graph.parameters)
        for node in graph.nodes:
            if fixed.issuperset(node.inputs):
                fixed.update(node.outputs)

        def is_cut(value: Value) -> bool:
            readers = users.get(value, [])
            return value not in returned and all(_column_range(r, value) for r in readers)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            linear = builder.maker(inputs[0]) if inputs else None
            if linear is None or not isinstance(linear.op, Linear) or linear.op.residual:
                return None
            if not is_cut(node.inputs[0]) or not fixed.issuperset(linear.inputs[1:]):
                return None
            columns = _column_range(node, node.inputs[0])
            assert columns is not None
            return self._piece(builder, linear, columns)

        return rewrite(graph, rule)

    def _piece(
        self, builder: GraphBuilder, linear: Node, columns: tuple[int, int]
    ) -> tuple[Value, ...]:
        assert isinstance(linear.op, Linear)
        x, weight, *bias = linear.inputs
        dim = 1 if linear.op.weight == "kn" else 0
        parts = [_cut(builder, weight, dim, columns), *(_cut(builder, b, 0, columns) for b in bias)]
        return builder.emit(linear.op, x, *parts)


def _cut(builder: GraphBuilder, value: Value, dim: int, span: tuple[int, int]) -> Value:
    start, limit = [0] * len(value.shape), list(value.shape)
    start[dim], limit[dim] = span
    op = Slice(tuple(start), tuple(limit), (1,) * len(start))
    return builder.add(op, value, hint=f"{value.name}_{span[0]}")


def _column_range(node: Node, value: Value) -> tuple[int, int] | None:
    """The columns that a slice takes when it takes every row."""
    op = node.op
    if not isinstance(op, Slice) or set(op.stride) != {1} or not value.shape:
        return None
    whole = all(s == 0 for s in op.start[:-1]) and op.limit[:-1] == value.shape[:-1]
    return (op.start[-1], op.limit[-1]) if whole else None


@dataclass(frozen=True)
class GateProducts(Pass):
    """``activation(x @ G) * (x @ U)`` becomes one gated linear, which loads x once."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Multiply) or not all(v in private for v in node.inputs):
                return None
            makers = [builder.maker(value) for value in inputs]
            for gate, up in (makers, makers[::-1]):
                if gate is not None and up is not None and _is_gate(gate, up):
                    return _gated(builder, gate, up)
            return None

        return rewrite(graph, rule)


def _is_gate(gate: Node, up: Node) -> bool:
    one, other = gate.op, up.op
    if not isinstance(one, Linear) or not isinstance(other, Linear) or gate is up:
        return False
    same = replace(one, activation="") == other and gate.inputs[0] == up.inputs[0]
    plain = not one.residual and not one.scaled
    return same and plain and len(gate.inputs) == len(up.inputs)


def _gated(builder: GraphBuilder, gate: Node, up: Node) -> tuple[Value, ...]:
    assert isinstance(gate.op, Linear)
    x, first, *gate_bias = gate.inputs
    _, second, *up_bias = up.inputs
    op = GatedLinear(gate.op.weight, gate.op.activation, gate.op.out_dtype)
    return builder.emit(op, x, first, second, *gate_bias, *up_bias)


@dataclass(frozen=True)
class AddResiduals(Pass):
    """The sum of a linear and another tensor of its shape is taken on the way out of PSUM."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Add) or not is_float(inputs[0].dtype):
                return None
            pairs = zip(node.inputs[::-1], inputs[::-1], inputs, strict=True)
            for old, value, other in pairs:
                linear = builder.maker(value)
                if linear is None or not isinstance(linear.op, Linear) or linear.op.residual:
                    continue
                if old in private and not _is_repeated(builder, other):
                    op = replace(linear.op, residual=True, out_dtype=value.dtype)
                    return builder.emit(op, *linear.inputs, other)
            return None

        return rewrite(graph, rule)


def _is_repeated(builder: GraphBuilder, value: Value) -> bool:
    """Cheaper to repeat on chip than to write out in full."""
    maker = builder.maker(value)
    return maker is not None and isinstance(maker.op, BroadcastInDim | Constant)
