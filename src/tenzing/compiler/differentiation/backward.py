"""The backward pass of a graph, written behind its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tenzing.compiler.differentiation.rules import RULES, Given, Step
from tenzing.compiler.graph import F32, Graph, GraphBuilder, Node, Op, Value, is_float
from tenzing.compiler.ops import (
    Add,
    AllGather,
    AllReduce,
    AxisIndex,
    CollectiveOp,
    Concatenate,
    Constant,
    Convert,
    DynamicSlice,
    LayerNorm,
    Multiply,
    ReduceScatter,
    Reshape,
    RmsNorm,
)
from tenzing.errors import UnsupportedOp
from tenzing.fabric import Mesh

GRADIENT: Final = ".gradient"
INDEX: Final = np.dtype(np.int32)
Seed = Callable[[GraphBuilder, Value], Value]


@dataclass(frozen=True)
class Backward:
    """How a graph is trained: ``result`` whether its own result is wanted as well.

    Without it only what gradients read is computed again. ``accumulate`` adds the gradients of
    parameters to float32 sums.
    """

    result: bool = True
    accumulate: bool = False


PLAIN: Final = Backward()


def with_gradients(
    graph: Graph, how: Backward = PLAIN, *, cut: Collection[str] = (), seed: Seed | None = None,
    mesh: Mesh | None = None,
) -> Graph:  # fmt: skip
    """``graph``, and behind it the gradients of its float inputs and of its parameters.

    Outputs: the result if wanted, the gradients of the inputs, those of the parameters. The
    gradient of the result is an input, or what ``seed`` makes of the result. In the graph of one
    rank of ``mesh`` ``cut`` names inputs and parameters of which each rank holds a part of its own:
    what ranks have alike, or hold a part of, decides where gradients are summed over ranks. Not
    summed are parts that several ranks share, such as the only key head of four ranks. Raises
    UnsupportedOp for an operation without a rule.
    """
    return _Differentiation(graph, cut, mesh or Mesh(())).run(how, seed)


@dataclass
class _Sum:
    """A gradient so far: what all ranks hold alike, and what is to be summed over ranks."""

    alike: Value | None = None
    apart: Value | None = None


@dataclass
class _Differentiation:
    graph: Graph
    cut: Collection[str]
    mesh: Mesh
    sums: dict[Value, _Sum] = field(default_factory=dict)
    varying: set[Value] = field(default_factory=set)
    needed: set[Value] = field(default_factory=set)
    made: dict[Value, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.builder = GraphBuilder(f"{self.graph.name}_training",
                                    [v.name for v in self.graph.values()])  # fmt: skip
        self.builder.inputs = list(self.graph.inputs)
        self.builder.parameters = list(self.graph.parameters)
        self.outer = [v for v in (*self.graph.inputs, *self.graph.parameters) if is_float(v.dtype)]
        self.needed.update(self.outer)
        self.varying.update(v for v in (*self.graph.inputs, *self.graph.parameters)
                            if v.name in self.cut)  # fmt: skip

    def run(self, how: Backward, seed: Seed | None) -> Graph:
        for node in self.graph.nodes:
            self._forward(node)
        (end,) = self.graph.outputs
        start = self.builder.input(f"result{GRADIENT}", end.shape, end.dtype) if seed is None else (
            seed(self.builder, end))  # fmt: skip
        self._add(end, start, apart=False)
        for node in reversed(self.graph.nodes):
            self._backward(node)
        outputs = [end] if how.result else []
        for value in self.outer:
            total = self._total(value)
            if total is not None:
                summed = how.accumulate and value in self.graph.parameters
                outputs.append(self._accumulated(value, total) if summed else total)
        return self.builder.build(outputs)

    def _forward(self, node: Node) -> None:
        """The node again; norms keep their statistics for the backward pass."""
        if isinstance(node.op, RmsNorm | LayerNorm):
            op = type(node.op)(node.op.epsilon, statistics=True)
            outputs = self.builder.emit(op, *node.inputs, hint=f"{node.outputs[0].name}.kept")
            made = (*node.outputs, *outputs[1:])
            self.builder.nodes[-1] = Node(op, node.inputs, made, node.loc, node.scope)
        else:
            self.builder.adopt(node)
            made = node.outputs
        if made:
            self.made[made[0]] = made
        if _varies(node, self.varying):
            self.varying.update(made)
        if self.needed.intersection(node.inputs):
            self.needed.update(v for v in node.outputs if is_float(v.dtype))

    def _backward(self, node: Node) -> None:
        if not any(v in self.sums for v in node.outputs) or not self.needed.intersection(
            node.inputs):  # fmt: skip
            return
        self.builder.scope = node.scope
        if isinstance(node.op, CollectiveOp):
            self._collective(node)
            return
        step = Step(self.builder, node, self.made[node.outputs[0]],
                    [self._total(v) for v in node.outputs])  # fmt: skip
        found = self._rule(node.op)(step)
        apart = any(v in self.varying for v in node.outputs)
        for value, gradient in zip(node.inputs, found, strict=True):
            if gradient is not None and value in self.needed:
                self._add(value, gradient, apart)

    def _rule(self, op: Op) -> Callable[[Step], Given]:
        if type(op) in RULES:
            return RULES[type(op)]
        if type(op).decompose is Op.decompose:
            raise UnsupportedOp(
                f"no gradient is known of {op.name}",
                next_step="train this model through its framework's door",
            )
        return self._decomposed

    def _decomposed(self, step: Step) -> Given:
        """By the rules of what the operation stands for, computed again."""
        first = len(self.builder.nodes)
        outputs = step.node.op.decompose(self.builder, *step.node.inputs)
        assert outputs is not None
        nodes = self.builder.nodes[first:]
        sums = {v: g for v, g in zip(outputs, step.gradients, strict=True) if g is not None}
        for node in reversed(nodes):
            given = [sums.get(v) for v in node.outputs]
            if node.inputs and any(g is not None for g in given):
                found = self._rule(node.op)(Step(self.builder, node, node.outputs, given))
                for value, gradient in zip(node.inputs, found, strict=True):
                    if gradient is not None:
                        sums[value] = step.sum(sums.get(value), gradient)
        return [sums.get(v) for v in step.node.inputs]

    def _collective(self, node: Node) -> None:
        (value,), op = node.inputs, node.op
        if isinstance(op, AllGather):
            self._gathered(value, op, self.sums[node.output])
            return
        total = self._total(node.output)
        assert total is not None
        if isinstance(op, ReduceScatter):
            total = self.builder.add(AllGather(op.axes, op.ranks, op.dim), total)
        elif not isinstance(op, AllReduce) or op.combine != "add":
            raise UnsupportedOp(f"no gradient is known of {op.name}")
        self._add(value, total, apart=False)

    def _gathered(self, value: Value, op: AllGather, kept: _Sum) -> None:
        """A rank's own part of the gradient: of what others add to it, and of what all know."""
        if kept.apart is not None:
            back = ReduceScatter(op.axes, op.ranks, op.dim)
            self._add(value, self.builder.add(back, kept.apart), apart=False)
        if kept.alike is not None:
            add = self.builder.add
            step = add(Constant.splat(value.shape[op.dim], (), INDEX))
            first = add(Multiply(), add(AxisIndex(op.axes, op.ranks)), step)
            zero = add(Constant.splat(0, (1,), INDEX))
            where = [zero] * len(value.shape)
            where[op.dim] = add(Reshape((1,)), first)
            start = where[0] if len(where) == 1 else add(Concatenate(0), *where)
            self._add(value, add(DynamicSlice(value.shape), kept.alike, start), apart=False)

    # -- sums -----------------------------------------------------------------------------------

    def _add(self, value: Value, gradient: Value, apart: bool) -> None:
        """One more contribution; of a value that ranks hold alike, each may have its own."""
        into = self.sums.setdefault(value, _Sum())
        if apart and value not in self.varying:
            into.apart = self._sum(into.apart, gradient)
        else:
            into.alike = self._sum(into.alike, gradient)

    def _sum(self, one: Value | None, other: Value) -> Value:
        return other if one is None else self.builder.add(Add(), one, other)

    def _total(self, value: Value) -> Value | None:
        """The whole gradient, summed over ranks where each has a part; None where there is none."""
        kept = self.sums.get(value)
        if kept is None:
            return None
        if kept.apart is not None:
            over = self.builder.add(AllReduce(self.mesh.names, self.mesh.ranks), kept.apart)
            kept.alike, kept.apart = self._sum(kept.alike, over), None
        return kept.alike

    def _accumulated(self, value: Value, total: Value) -> Value:
        before = self.builder.input(f"{value.name}{GRADIENT}", value.shape, F32)
        wide = total if total.dtype == F32 else self.builder.add(Convert(F32), total)
        return self.builder.add(Add(), wide, before)


def _varies(node: Node, varying: Collection[Value]) -> bool:
    """Whether ranks hold different results."""
    if isinstance(node.op, AxisIndex | ReduceScatter):
        return True
    if isinstance(node.op, AllReduce | AllGather):
        return False
    return any(v in varying for v in node.inputs)


__all__ = ["GRADIENT", "Backward", "Seed", "with_gradients"]
