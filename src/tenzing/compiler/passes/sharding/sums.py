"""Sums over ranks where they cost least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, rewrite
from tenzing.compiler.ops import Add, AllReduce, Multiply, Reduce, Reshape, Slice, Transpose
from tenzing.compiler.passes.pipeline import Pass

Values = tuple[Value, ...]
Sums = Sequence[tuple[AllReduce, Value] | None]  # of each input: the sum, and what it sums


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
        return rewrite(graph, _Delay(self.order, once).rule)


@dataclass
class _Delay:
    order: tuple[str, ...]
    once: set[Value]  # values of the old graph that one node reads
    single: set[Value] = field(default_factory=set)  # the same in the new graph

    def rule(self, builder: GraphBuilder, node: Node, inputs: Values) -> Values | None:
        pairs = list(zip(node.inputs, inputs, strict=True))
        self.single.update(new for old, new in pairs if old in self.once)
        sums = [self._summed(builder, value) for value in inputs]
        first = next((s for s in sums if s is not None), None)
        if first is None:
            return None
        if isinstance(node.op, AllReduce):
            return self._joined(builder, node.op, *first)
        if isinstance(node.op, Add) and None in sums:
            return self._added(builder, inputs, sums)
        if not _passes(node.op, sums):
            return None
        parts = [v if s is None else s[1] for v, s in zip(inputs, sums, strict=True)]
        return (builder.add(first[0], builder.add(node.op, *parts)),)

    def _summed(self, builder: GraphBuilder, value: Value) -> tuple[AllReduce, Value] | None:
        """The sum that made a value which nobody else reads, and what it sums."""
        maker = builder.maker(value) if value in self.single else None
        if maker is None or not isinstance(maker.op, AllReduce) or maker.op.combine != "add":
            return None
        return maker.op, maker.inputs[0]

    def _joined(
        self, builder: GraphBuilder, op: AllReduce, found: AllReduce, part: Value
    ) -> Values | None:
        """A sum over other axes of a sum."""
        if op.combine != "add" or set(op.axes) & set(found.axes):
            return None
        axes = tuple(a for a in self.order if a in (*op.axes, *found.axes))
        return (builder.add(AllReduce(axes, op.ranks * found.ranks), part),)

    def _added(self, builder: GraphBuilder, inputs: Values, sums: Sums) -> Values | None:
        """``(x + sum) + sum`` as ``x + sum``: branches beside each other share their sum."""
        place = 0 if sums[0] is not None else 1
        mine, other = sums[place], inputs[1 - place]
        before = builder.maker(other) if other in self.single else None
        if mine is None or before is None or not isinstance(before.op, Add):
            return None
        for number, value in enumerate(before.inputs):
            found = self._summed(builder, value)
            if found is not None and found[0] == mine[0]:
                both = builder.add(mine[0], builder.add(Add(), found[1], mine[1]))
                return (builder.add(Add(), before.inputs[1 - number], both),)
        return None


def _passes(op: Op, sums: Sums) -> bool:
    """Whether an operation on sums is the sum of it on the summands."""
    if isinstance(op, Add):
        return len({s[0] for s in sums if s is not None}) == 1
    if isinstance(op, Multiply):
        return None in sums
    if isinstance(op, Reduce):
        return op.kind == "add"
    return isinstance(op, Reshape | Transpose | Slice)


__all__ = ["DelaySums"]
