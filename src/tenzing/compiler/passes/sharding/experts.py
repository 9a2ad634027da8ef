"""Whole experts on every rank of an axis: each computes the rows routed to its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from tenzing.compiler.graph import BOOL, Graph, GraphBuilder, Node, Value
from tenzing.compiler.ops import (
    Add,
    AllReduce,
    And,
    AxisIndex,
    BroadcastInDim,
    Compare,
    Concatenate,
    Constant,
    Convert,
    Cumulative,
    Divide,
    DynamicSlice,
    DynamicUpdateSlice,
    Elementwise,
    ExpertLinear,
    Iota,
    Multiply,
    Op,
    Reduce,
    Reshape,
    Scatter,
    Select,
    Slice,
    Subtract,
    TakeRows,
    TopK,
    Transpose,
    While,
)
from tenzing.compiler.passes.experts import repeated_rows
from tenzing.compiler.passes.sharding.dense import in_order
from tenzing.compiler.passes.sharding.layout import EXPERT_AXIS, Section, Sharded, Split

INDEX: Final = np.dtype(np.int32)
TWO: Final = 2.0


def split_experts(sharded: Sharded) -> Sharded:
    """Stacks of experts cut along the axis ``ep``, and the sums that join their results.

    Routing stays whole on every rank. A rank gathers the rows of its experts into blocks of the
    number that even routing gives the busiest rank, and repeats until none is left, so that any
    routing is computed exactly.
    """
    if sharded.mesh.size((EXPERT_AXIS,)) == 1:
        return sharded
    return _Splitter(sharded).run()


def busiest_rows(rows: int, ranks: int, chosen: int, held: int) -> int:
    """Rows of the rank that gets most, when each row falls on any rank alike.

    The mean and the usual bound on the largest of ``ranks`` deviations: sqrt(2 mean ln ranks). A
    token has ``chosen`` rows, all for different experts, of which a rank holds ``held``.
    """
    mean = rows / ranks
    most = rows // chosen * min(chosen, held)
    return min(most, math.ceil(mean + math.sqrt(TWO * mean * math.log(ranks))))


@dataclass
class _Region:
    """Products of one routing and the steps between them, all row by row."""

    nodes: list[Node]
    index: Value

    @property
    def last(self) -> Node:
        return self.nodes[-1]

    @property
    def rows(self) -> int:
        return self.index.shape[0]


@dataclass
class _Splitter:
    sharded: Sharded
    renamed: dict[Value, Value] = field(default_factory=dict)
    cuts: dict[str, tuple[Split, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.sharded.graph
        self.graph = graph
        self.ranks = self.sharded.mesh.size((EXPERT_AXIS,))
        self.builder = GraphBuilder(graph.name, [v.name for v in graph.values()])
        self.cuts.update(self.sharded.cuts)
        self.regions = _regions(graph)

    def run(self) -> Sharded:
        regions = {id(r.last): r for r in self.regions}
        inside = {id(n) for r in self.regions for n in r.nodes}
        weights = {v for r in self.regions for n in r.nodes for v in _stacks(n)}
        self.builder.inputs = list(self.graph.inputs)
        self.builder.parameters = [self._cut(v) if v in weights else v
                                   for v in self.graph.parameters]  # fmt: skip
        for node in self.graph.nodes:
            self.builder.loc, self.builder.scope = node.loc, node.scope
            if id(node) in regions:
                self.renamed[node.outputs[0]] = self._region(regions[id(node)])
            elif id(node) not in inside:
                given = [self._new(v) for v in node.inputs]
                made = self.builder.emit(node.op, *given, hint=node.outputs[0].name)
                self.renamed.update(zip(node.outputs, made, strict=True))
        outputs = [self._new(v) for v in self.graph.outputs]
        built = in_order(self.builder.build(outputs, self.graph.aliases), self.graph)
        return replace(self.sharded, graph=built, cuts=self.cuts)

    def _new(self, value: Value) -> Value:
        return self.renamed.get(value, value)

    def _cut(self, stack: Value) -> Value:
        split = Split(0, (Section(stack.shape[0], self.ranks),), (EXPERT_AXIS,))
        self.cuts[stack.name] = (*self.cuts.get(stack.name, ()), split)
        self.renamed[stack] = Value(stack.name, split.local(stack.shape), stack.dtype)
        return self.renamed[stack]

    # -- one region -----------------------------------------------------------------------------

    def _region(self, region: _Region) -> Value:
        add = self.builder.add
        local, own = self._own(region)
        held = self._new(_stacks(region.last)[0]).shape[0]
        chosen = _choices(self.graph, region.index)
        capacity = busiest_rows(region.rows, self.ranks, chosen, held)
        if capacity < region.rows:
            result = _Rounds(self, region, local, own, capacity).result()
        else:
            values = {v: self._new(v) for n in region.nodes for v in n.inputs}
            result = _computed(self.builder, region, {**values, region.index: local}, region.rows)
            mine = add(BroadcastInDim(result.shape, (0,)), own)
            zero = add(Constant.splat(0, result.shape, result.dtype))
            result = add(Select(), mine, result, zero)
        return add(AllReduce((EXPERT_AXIS,), self.ranks), result)

    def _own(self, region: _Region) -> tuple[Value, Value]:
        """The number of each row's expert among the rank's own, and whether it is one of them."""
        add = self.builder.add
        index = add(Convert(INDEX), self._new(region.index))
        count = self._new(_stacks(region.last)[0]).shape[0]
        place = add(AxisIndex((EXPERT_AXIS,), self.ranks))
        first = add(Multiply(), place, add(Constant.splat(count, (), INDEX)))
        local = add(Subtract(), index, add(BroadcastInDim(index.shape, ()), first))
        zero, end = (add(Constant.splat(n, index.shape, INDEX)) for n in (0, count))
        own = add(And(), add(Compare("ge"), local, zero), add(Compare("lt"), local, end))
        return local, own

    def stack(self, weight: Value) -> Value:
        """A stack of matrices as the tensor engine reads them, turned before the program starts."""
        return self.builder.add(Transpose((0, 2, 1)), self._new(weight), hint=f"{weight.name}.T")


class _Rounds:
    """The loop of a rank over its rows, ``capacity`` at a time."""

    def __init__(
        self, owner: _Splitter, region: _Region, local: Value, own: Value, capacity: int
    ) -> None:
        self.owner, self.region, self.capacity = owner, region, capacity
        self.builder = owner.builder
        self.local, self.own = local, own
        self.slots = -(-region.rows // capacity) * capacity
        self.fixed: dict[Value, Value] = {}  # values outside, by what the body calls them
        self.body = GraphBuilder("round")

    def result(self) -> Value:
        """Results of the rank's own rows, zeros for the others."""
        add, rows = self.builder.add, self.region.rows
        counted = add(Convert(INDEX), self.own)
        one, far = (add(Constant.splat(n, (rows,), INDEX)) for n in (1, self.slots))
        rank = add(Subtract(), add(Cumulative("add", 0), counted), one)
        place = add(Select(), self.own, rank, far)
        free = add(Constant.splat(rows, (self.slots,), INDEX))
        source = add(Scatter(False), free, place, add(Iota((rows,), INDEX)))
        count = add(Reduce("add", (0,)), counted)
        output = self.region.last.outputs[0]
        empty = add(Constant.splat(0, (self.slots, output.shape[1]), output.dtype))
        start = add(Constant.splat(0, (), INDEX))
        body, outside = self._body(start, empty, source, count)
        inputs = [start, empty, source, count, *outside]
        op = While(_more(body), body, 2, trips=1)
        done = self.builder.emit(op, *inputs)[1]
        return add(TakeRows(), done, place)

    def _body(self, *carried: Value) -> tuple[Graph, list[Value]]:
        body = self.body
        start, held, source, _ = (
            body.input(name, v.shape, v.dtype)
            for name, v in zip(("start", "held", "source", "count"), carried, strict=True)
        )
        at = body.add(Reshape((1,)), start)
        self.chosen = body.add(DynamicSlice((self.capacity,)), source, at)
        given = {v: self._given(n, v) for n in self.region.nodes for v in n.inputs
                 if v not in {o for m in self.region.nodes for o in m.outputs}}  # fmt: skip
        result = _computed(body, self.region, given, self.capacity, turned=True)
        zero = body.add(Constant.splat(0, (1,), INDEX))
        update = body.add(DynamicUpdateSlice(), held, result, body.add(Concatenate(0), at, zero))
        step = body.add(Constant.splat(self.capacity, (), INDEX))
        graph = body.build([body.add(Add(), start, step), update])
        return graph, list(self.fixed.values())

    def _input(self, value: Value) -> Value:
        """A value from outside the loop, as the body calls it."""
        known = {outer: inner for inner, outer in self.fixed.items()}
        if value not in known:
            known[value] = self.body.input(value.name, value.shape, value.dtype)
            self.fixed[known[value]] = value
        return known[value]

    def _given(self, node: Node, value: Value) -> Value:
        """What a region reads, for the rows of one round."""
        add = self.body.add
        if value in _stacks(node):
            turned = node.op.weight == "nk"  # type: ignore[attr-defined]
            outer = self.owner.stack(value) if turned else self.owner._new(value)
            return self._input(outer)
        if value == self.region.index:
            return self._taken(self.local)
        maker = self.builder.maker(self.owner._new(value))
        if maker is not None and isinstance(maker.op, Constant) and maker.op.is_splat:
            return add(replace(maker.op, shape=(self.capacity, *value.shape[1:])))
        return self._taken(self.owner._new(value))

    def _taken(self, value: Value) -> Value:
        """The chosen rows of a value; rows that repeat are read from what they repeat."""
        add = self.body.add
        width = value.type.elements // value.shape[0]
        table = self.builder.add(Reshape((value.shape[0], width)), value)
        table, repeat = repeated_rows(self.builder, table)
        rows = self.chosen
        if repeat > 1:
            rows = add(Divide(), rows, add(Constant.splat(repeat, rows.shape, INDEX)))
        taken = add(TakeRows(), self._input(table), rows)
        return add(Reshape((self.capacity, *value.shape[1:])), taken)


def _more(body: Graph) -> Graph:
    """Whether rows are left."""
    builder = GraphBuilder("rows_left")
    inputs = [builder.input(v.name, v.shape, v.dtype) for v in body.inputs]
    left = builder.add(Compare("lt"), inputs[0], inputs[3])
    assert left.dtype == BOOL
    return builder.build([left])


def _computed(
    builder: GraphBuilder, region: _Region, values: dict[Value, Value], rows: int,
    turned: bool = False,
) -> Value:  # fmt: skip
    """A region on ``rows`` rows; ``turned``: stacks are laid out [experts, k, n]."""
    known = dict(values)
    for node in region.nodes:
        op = node.op
        if isinstance(op, ExpertLinear) and turned:
            op = replace(op, weight="kn")
        else:
            op = _with_rows(op, rows)
        known[node.outputs[0]] = builder.add(op, *(known[v] for v in node.inputs))
    return known[region.last.outputs[0]]


def _with_rows(op: Op, rows: int) -> Op:
    if isinstance(op, Slice):
        return replace(op, limit=(rows, *op.limit[1:]))
    return Reshape((rows, *op.shape[1:])) if isinstance(op, Reshape) else op


def _stacks(node: Node) -> tuple[Value, ...]:
    """The stack of matrices of an expert product."""
    return node.inputs[1:2] if isinstance(node.op, ExpertLinear) else ()


# -- regions ------------------------------------------------------------------------------------


def _regions(graph: Graph) -> list[_Region]:
    """Products of one routing with what lies between them, or each product alone."""
    members: dict[Value, list[Node]] = {}
    parameters = set(graph.parameters)
    for node in graph.nodes:
        if isinstance(node.op, ExpertLinear) and node.inputs[1] in parameters:
            members.setdefault(node.inputs[2], []).append(node)
    found: list[_Region] = []
    for index, nodes in members.items():
        whole = _between(graph, nodes)
        apart = [whole] if _is_closed(graph, whole, index) else [[node] for node in nodes]
        found += [_Region(each, index) for each in apart]
    return found


def _choices(graph: Graph, index: Value) -> int:
    """How many different experts a token has, if the index is that of a top-k; 1 if not."""
    makers = graph.producers()
    maker = makers.get(index)
    while maker is not None and not isinstance(maker.op, TopK):
        moved = isinstance(maker.op, Reshape | Convert | Select)
        maker = makers.get(maker.inputs[-1]) if moved else None
    return maker.op.k if maker is not None and isinstance(maker.op, TopK) else 1


def _between(graph: Graph, members: Sequence[Node]) -> list[Node]:
    """The members and the nodes on ways from one to another, in order."""
    ids = {id(n) for n in members}
    derived: set[Value] = set()
    for node in graph.nodes:
        if id(node) in ids or derived.intersection(node.inputs):
            derived.update(node.outputs)
    needed: set[Value] = set()
    chosen = []
    for node in reversed(graph.nodes):
        if id(node) in ids or needed.intersection(node.outputs):
            chosen.append(node)
            needed.update(v for v in node.inputs if v in derived)
    return chosen[::-1]


def _is_closed(graph: Graph, nodes: Sequence[Node], index: Value) -> bool:
    """Whether a region treats every row alone, and only its last result is read outside."""
    inside = {id(n) for n in nodes}
    rows = index.shape[0]
    if not all(_is_rowwise(n, rows) for n in nodes):
        return False
    users, outputs = graph.users(), set(graph.outputs)
    return not any(
        value in outputs or any(id(u) not in inside for u in users.get(value, ()))
        for node in nodes[:-1] for value in node.outputs
    )  # fmt: skip


def _is_rowwise(node: Node, rows: int) -> bool:
    op, shape = node.op, node.outputs[0].shape
    if len(node.outputs) != 1 or not shape or shape[0] != rows:
        return False
    if isinstance(op, Slice):
        return (op.start[0], op.limit[0], op.stride[0]) == (0, node.inputs[0].shape[0], 1)
    if isinstance(op, Reshape):
        return node.inputs[0].shape[:1] == (rows,)
    return isinstance(op, Elementwise | ExpertLinear)


__all__ = ["busiest_rows", "split_experts"]
