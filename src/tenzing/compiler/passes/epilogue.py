"""Joins a bias and an activation into the matrix product before them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, is_float, rewrite
from tenzing.compiler.ops import (
    EPILOGUES,
    Add,
    Attention,
    Convert,
    DotGeneral,
    ExpertBlocks,
    ExpertLinear,
    GatedLinear,
    Linear,
    Reshape,
    Transpose,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.rows import last_dim_row

MATRIX_RANK = 2
ROUNDING = (
    Linear,
    GatedLinear,
    DotGeneral,
    Attention,
    ExpertLinear,
    ExpertBlocks,
)  # have an out_dtype


@dataclass(frozen=True)
class RecogniseLinear(Pass):
    """A dot_general of [..., K] with a matrix, or with a matrix turned over, is a linear."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        weights = set(graph.parameters)
        for node in graph.nodes:
            if isinstance(node.op, Reshape) and node.inputs[0] in weights:
                weights.add(node.output)  # cut or joined heads, when weights are loaded

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op = node.op
            if not isinstance(op, DotGeneral) or op.batch != ((), ()):
                return None
            x, weight = inputs
            last = (len(x.shape) - 1,)
            if len(weight.shape) != MATRIX_RANK or op.contract[0] != last:
                return None
            rows = op.contract[1] == (0,)
            maker = builder.maker(weight)
            if maker is not None and maker.op == Transpose((1, 0)):
                weight, rows = maker.inputs[0], not rows
            if node.inputs[1] not in weights:
                return None
            layout = "kn" if rows else "nk"
            return builder.emit(Linear(layout, "", op.out_dtype), x, weight)

        return rewrite(graph, rule)


@dataclass(frozen=True)
class MatmulEpilogue(Pass):
    """Let a matrix product finish its own result, when nobody else reads what is between.

    A linear adds its bias and applies its activation; any product, and attention, rounds to the
    dtype that its only reader converts to.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            for old, value in zip(node.inputs, inputs, strict=True):
                before = builder.maker(value)
                if before is None or old not in private:
                    continue
                others = tuple(v for v in inputs if v != value)
                joined = _joined(builder, before, node, others)
                if joined is not None:
                    return joined
            return None

        return rewrite(graph, rule)


def _joined(
    builder: GraphBuilder, before: Node, node: Node, others: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    if isinstance(node.op, Convert) and isinstance(before.op, ROUNDING):
        rounded = replace(before.op, out_dtype=node.op.dtype)
        return builder.emit(rounded, *before.inputs) if is_float(node.op.dtype) else None
    if not isinstance(before.op, Linear) or before.op.activation or before.op.residual:
        return None
    return _with_activation(builder, node, before) or _with_bias(builder, before, node, others)


def _with_activation(builder: GraphBuilder, node: Node, linear: Node) -> tuple[Value, ...] | None:
    names = [name for name, op in EPILOGUES.items() if op == node.op]
    if not names or not isinstance(linear.op, Linear):
        return None
    return builder.emit(replace(linear.op, activation=names[0]), *linear.inputs)


def _with_bias(
    builder: GraphBuilder, linear: Node, node: Node, others: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """``linear + bias`` where the bias is a row repeated over all leading dims."""
    if not isinstance(node.op, Add) or not isinstance(linear.op, Linear) or not others:
        return None
    if linear.op.parts(linear.inputs).bias is not None:
        return None
    row = last_dim_row(builder, others[0])
    if row is None or row.shape != others[0].shape[-1:]:
        return None
    return builder.emit(linear.op, *linear.inputs, row)
