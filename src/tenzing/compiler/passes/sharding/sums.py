"""Sums over ranks where they cost least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import Add, AllReduce, Multiply, Reduce, Reshape, Slice, Transpose
from tenzing.compiler.passes.pipeline import Pass

Values = tuple[Value, ...]


@dataclass(frozen=True)
class DelaySums(Pass):
    """Sum over ranks behind steps that a sum passes through, and two sums at once.

    Rows of several experts are weighted and added before they are summed over ranks, which sends a
    fraction of the bytes; a sum inside an expert and one over experts become one, and so do those
    of branches that are added. ``order`` are the mesh's axes.
    """

    order: tuple[str, ...]

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users, kept = graph.users(), set(graph.outputs)
        once = {v for v, nodes in users.items() if len(nodes) == 1 and v not in kept}

        def rule(builder: GraphBuilder, node: Node, inputs: Values) -> Values | None:
            sums = [
                _summed(builder.maker(new)) if old in once else None
                for old, new in zip(node.inputs, inputs, strict=True)
            ]
            return self._delayed(builder, node, inputs, sums) if any(sums) else None

        return rewrite(graph, rule)

    def _delayed(
        self, builder: GraphBuilder, node: Node, inputs: Values,
        sums: Sequence[tuple[AllReduce, Value] | None],
    ) -> Values | None:  # fmt: skip
        first = next(s for s in sums if s is not None)
        op, found = node.op, first[0]
        if isinstance(op, AllReduce):
            if op.combine != "add" or set(op.axes) & set(found.axes):
                return None
            axes = tuple(a for a in self.order if a in (*op.axes, *found.axes))
            return (builder.add(AllReduce(axes, op.ranks * found.ranks), first[1]),)
        if not _passes(op, sums):
            return None
        parts = [v if s is None else s[1] for v, s in zip(inputs, sums, strict=True)]
        return (builder.add(found, builder.add(op, *parts)),)


def _summed(maker: Node | None) -> tuple[AllReduce, Value] | None:
    """The sum that made a value, and what it sums."""
    if maker is None or not isinstance(maker.op, AllReduce) or maker.op.combine != "add":
        return None
    return maker.op, maker.inputs[0]


def _passes(op: object, sums: Sequence[tuple[AllReduce, Value] | None]) -> bool:
    """Whether an operation on sums is the sum of it on the summands."""
    if isinstance(op, Add):
        return None not in sums and len({s[0] for s in sums if s}) == 1
    if isinstance(op, Multiply):
        return None in sums
    return isinstance(op, Reshape | Transpose | Slice) or (
        isinstance(op, Reduce) and op.kind == "add"
    )


__all__ = ["DelaySums"]
