"""Compiles the graphs that branches and loops hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, inline, rewrite
from tenzing.compiler.ops import Call, Case, Convert, While
from tenzing.compiler.passes.legalise import NARROWER
from tenzing.compiler.passes.pipeline import Pass, Pipeline


@dataclass(frozen=True)
class CompileRegions(Pass):
    """Inline calls; run ``inner`` over the graphs of branches and loops, with 32-bit interfaces."""

    inner: Pipeline

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return rewrite(graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        op: Case | While
        if isinstance(node.op, Call):
            return inline(builder, self.apply(node.op.body), inputs)
        if isinstance(node.op, Case):
            op = Case(tuple(map(self._compiled, node.op.branches)))
        elif isinstance(node.op, While):
            condition, body = self._compiled(node.op.condition), self._compiled(node.op.body)
            op = replace(node.op, condition=condition, body=body)
        else:
            return None
        results = builder.emit(op, *(_narrowed(builder, value) for value in inputs))
        return tuple(
            new if new.dtype == old.dtype else builder.add(Convert(old.dtype), new)
            for new, old in zip(results, node.outputs, strict=True)
        )

    def _compiled(self, region: Graph) -> Graph:
        return self.inner.run(_narrow_interface(self.apply(region)))


def _narrowed(builder: GraphBuilder, value: Value) -> Value:
    dtype = NARROWER.get(value.dtype)
    return value if dtype is None else builder.add(Convert(dtype), value)


def _narrow_interface(region: Graph) -> Graph:
    """The same graph with 32-bit inputs and outputs where it had 64-bit ones."""
    builder = GraphBuilder(region.name)
    inputs = []
    for value in region.inputs:
        outer = builder.input(value.name, value.shape, NARROWER.get(value.dtype, value.dtype))
        wide = outer if outer.dtype == value.dtype else builder.add(Convert(value.dtype), outer)
        inputs.append(wide)
    outputs = inline(builder, region, inputs)
    return builder.build([_narrowed(builder, value) for value in outputs])
