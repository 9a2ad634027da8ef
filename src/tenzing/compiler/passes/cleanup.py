"""Passes that remove what is not needed: dead code, repeats, constant arithmetic, no-ops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    And,
    BroadcastInDim,
    CollectiveOp,
    Concatenate,
    Constant,
    Convert,
    Divide,
    Fused,
    Gather,
    Iota,
    Maximum,
    Minimum,
    Multiply,
    Or,
    Reshape,
    Select,
    Slice,
    Subtract,
    Transpose,
)
from tenzing.compiler.passes.pipeline import Pass

NEUTRAL: Final[Mapping[type[Op], float]] = {
    Add: 0.0, Subtract: 0.0, Multiply: 1.0, Divide: 1.0, Maximum: -math.inf, Minimum: math.inf,
}  # fmt: skip
OF_TRUTHS: Final[Mapping[type[Op], float]] = {And: 1.0, Or: 0.0}  # of booleans, not of bits
EITHER_SIDE: Final = (Add, Multiply, Maximum, Minimum, And, Or)
FOLD_LIMIT_ELEMENTS: Final = 65536  # larger results stay computed: a program should not carry them


@dataclass(frozen=True)
class DeadCode(Pass):
    """Drop nodes and parameters that no output needs; inputs stay, they are the interface."""

    ensures = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        needed = set(graph.outputs)
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        targets = {alias.target for alias in graph.aliases}
        parameters = tuple(p for p in graph.parameters if p in needed or p.name in targets)
        return replace(
            graph,
            nodes=tuple(reversed(kept)),
            parameters=parameters,
            preparation=self._preparation(graph, {p.name for p in parameters}),
        )

    def _preparation(self, graph: Graph, names: set[str]) -> Graph | None:
        if graph.preparation is None:
            return None
        outputs = tuple(v for v in graph.preparation.outputs if v.name in names)
        return self.apply(replace(graph.preparation, outputs=outputs)) if outputs else None


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Compute equal operations on equal inputs once."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        seen: dict[tuple[Op, tuple[Value, ...]], tuple[Value, ...]] = {}

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            key = (node.op, inputs)
            if key in seen:
                return seen[key]
            seen[key] = node.outputs
            return None

        return rewrite(graph, rule)


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace operations on constants alone by their result."""

    limit_elements: int = FOLD_LIMIT_ELEMENTS

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            makers = [builder.maker(value) for value in inputs]
            constants = [m.op for m in makers if m is not None and isinstance(m.op, Constant)]
            if len(constants) < len(inputs) or isinstance(node.op, Constant):
                return None
            folded = self._fold(node, constants)
            return None if folded is None else builder.emit(folded)

        return rewrite(graph, rule)

    def _fold(self, node: Node, inputs: list[Constant]) -> Constant | None:
        # what ranks make of equal constants differs from rank to rank
        if len(node.outputs) != 1 or isinstance(node.op, Fused | CollectiveOp):
            return None
        output = node.outputs[0]
        if inputs and all(constant.is_splat for constant in inputs):
            single = [constant.array.reshape(-1)[:1] for constant in inputs]
            if isinstance(node.op, Reshape | BroadcastInDim | Transpose | Slice):
                return Constant(output.shape, output.dtype, single[0].tobytes())
            if node.op.elementwise:
                (result,) = node.op.reference(*single)
                return Constant(output.shape, output.dtype, result.tobytes())
        if output.type.elements > self.limit_elements:
            return None
        return Constant.of(node.op.reference(*(constant.array for constant in inputs))[0])


@dataclass(frozen=True)
class Simplify(Pass):
    """Remove operations that change nothing and join chains of data movement."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return rewrite(graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        if len(node.outputs) != 1 or not inputs:
            return None
        if isinstance(node.op, Concatenate):
            return _without_empty(builder, node.op, inputs)
        if isinstance(node.op, Gather):
            return _neighbours(builder, node.op, inputs)
        if isinstance(node.op, Select):
            return _decided(builder, inputs)
        same = _unchanged(builder, node, inputs)
        if same is not None:
            return (same,)
        before = builder.maker(inputs[0])
        joined = _join(before.op, node.op) if before and len(before.inputs) == 1 else None
        if before is None or joined is None:
            return None
        source = before.inputs[0]
        if _is_identity(joined, source, node.outputs[0]):
            return (source,)
        return builder.emit(joined, source)


def _decided(builder: GraphBuilder, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """The side that a constant condition takes everywhere."""
    maker = builder.maker(inputs[0])
    if maker is None or not isinstance(maker.op, Constant) or not maker.op.is_splat:
        return None
    return (inputs[1] if maker.op.number else inputs[2],)


def _neighbours(
    builder: GraphBuilder, op: Gather, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """A gather of constant places one after another as a slice."""
    maker = builder.maker(inputs[1])
    if maker is None or not isinstance(maker.op, Constant) or 0 in inputs[1].shape:
        return None
    if len(inputs[1].shape) != 1:
        return None
    places = maker.op.array.tolist()
    first, last = places[0], places[-1] + 1
    if first < 0 or last > inputs[0].shape[op.dim] or places != list(range(first, last)):
        return None
    start, limit = [0] * len(inputs[0].shape), list(inputs[0].shape)
    start[op.dim], limit[op.dim] = first, last
    return builder.emit(Slice(tuple(start), tuple(limit), (1,) * len(start)), inputs[0])


def _without_empty(
    builder: GraphBuilder, op: Concatenate, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """The concatenation without parts that hold no element: the chip has no empty tensors."""
    parts = tuple(value for value in inputs if value.type.elements) or inputs[:1]
    if len(parts) == 1:
        return parts
    return builder.emit(op, *parts) if len(parts) < len(inputs) else None


def _is_identity(op: Op, source: Value, result: Value) -> bool:
    if source.type != result.type:
        return False
    if isinstance(op, Transpose):
        return op.permutation == tuple(range(len(source.shape)))
    return isinstance(op, Reshape | BroadcastInDim | Convert | Slice)


def _unchanged(builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]) -> Value | None:
    """The input that an operation returns as it is; None when it does something."""
    if len(inputs) == 1:
        return inputs[0] if _is_identity(node.op, inputs[0], node.outputs[0]) else None
    logical = inputs[0].dtype.kind == "b"
    neutral = (OF_TRUTHS if logical else NEUTRAL).get(type(node.op))
    if neutral is None or len(inputs) != 2:  # noqa: PLR2004 - a pair
        return None
    pairs = [inputs, inputs[::-1]] if isinstance(node.op, EITHER_SIDE) else [inputs]
    for value, other in pairs:
        maker = builder.maker(other)
        if maker is None or not isinstance(maker.op, Constant):
            continue
        if maker.op.is_splat and maker.op.number == neutral:
            return value
    return None


def _join(first: Op, second: Op) -> Op | None:
    """One operation with the effect of ``first`` then ``second``."""
    if isinstance(first, Reshape) and isinstance(second, Reshape):
        return second
    if isinstance(first, Transpose) and isinstance(second, Transpose):
        return Transpose(tuple(first.permutation[d] for d in second.permutation))
    if isinstance(first, BroadcastInDim) and isinstance(second, BroadcastInDim):
        return BroadcastInDim(second.shape, tuple(second.dims[d] for d in first.dims))
    return None


@dataclass(frozen=True)
class IotaAsLine(Pass):
    """Make one line of an iota, or of a constant with equal rows, and repeat it.

    Groups read the line; nobody stores the rest.
    """

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return rewrite(graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        op = node.op
        if isinstance(op, Constant):
            return _equal_rows(builder, op)
        if not isinstance(op, Iota) or node.outputs[0].type.elements == op.shape[op.dim]:
            return None
        line = builder.add(Iota((op.shape[op.dim],), op.dtype, 0))
        return builder.emit(BroadcastInDim(op.shape, (op.dim,)), line)


def _equal_rows(builder: GraphBuilder, op: Constant) -> tuple[Value, ...] | None:
    """A constant whose rows are all the same, as one row repeated."""
    rows = op.array.size and len(op.shape) > 1 and op.shape[-1] < op.array.size
    if op.is_splat or not rows:
        return None
    row = op.array.reshape(-1, op.shape[-1])[0]
    if not (op.array == row).all():
        return None
    line = builder.add(Constant.of(row))
    return builder.emit(BroadcastInDim(op.shape, (len(op.shape) - 1,)), line)
