"""Loops that a framework unrolled, joined again: recurrences and independent iterations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Shape, Value, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Concatenate,
    DotGeneral,
    Elementwise,
    LinearScan,
    Multiply,
    Reduce,
    Reshape,
    Slice,
    Transpose,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.views import View, view_of

FEWEST: Final = 4  # iterations worth joining


class Step(NamedTuple):
    """``coefficient * before + added``, as one iteration of a recurrence writes it."""

    coefficient: View
    before: Value
    added: View


@dataclass(frozen=True)
class RollRecurrences(Pass):
    """A chain ``h = a[t] * h + b[t]`` over consecutive slices becomes one ``linear_scan``."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        chains = _chains(graph)
        if not chains:
            return graph
        place = {value: (chain, t) for chain in chains for t, value in enumerate(chain.values)}
        scans: dict[Value, Value] = {}
        renamed: dict[Value, Value] = {}

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            renamed.update(zip(node.inputs, inputs, strict=True))
            found = place.get(node.outputs[0])
            if found is None:
                return None
            chain, t = found
            if chain.values[0] not in scans:
                scans[chain.values[0]] = chain.emit(builder, renamed)
            scan = scans[chain.values[0]]
            lead = scan.shape[:-1]
            start, limit = (*[0] * len(lead), t), (*lead, t + 1)
            state = builder.add(Slice(start, limit, (1,) * len(scan.shape)), scan)
            return (builder.add(Reshape(lead), state),)

        return rewrite(graph, rule)


@dataclass(frozen=True)
class _Chain:
    values: tuple[Value, ...]
    start: Value
    coefficient: View  # over [..., T]
    added: View

    def emit(self, builder: GraphBuilder, renamed: dict[Value, Value]) -> Value:
        parts = []
        for view in (self.coefficient, self.added):
            base = renamed.get(view.base, view.base)
            part = emit_view(builder, replace(view, base=base))
            assert part is not None  # _chains tried it
            parts.append(part)
        start = renamed.get(self.start, self.start)
        return builder.add(LinearScan(), *parts, start)


def _chains(graph: Graph) -> list[_Chain]:
    makers = graph.producers()
    steps = {
        node.outputs[0]: found
        for node in graph.nodes
        if isinstance(node.op, Add) and (found := _steps(node, makers))
    }
    followers = {
        step.before: value for value, some in steps.items() for step in some if step.before in steps
    }
    heads = [v for v in steps if v in followers and not _continues(steps, v)]
    return [c for head in heads if (c := _chain(head, steps, followers)) is not None]


def _continues(steps: dict[Value, list[Step]], value: Value) -> bool:
    return any(step.before in steps for step in steps[value])


def _steps(node: Node, makers: dict[Value, Node]) -> list[Step]:
    """Every reading of ``node`` as a product plus something."""
    found = []
    for product, added in (node.inputs, node.inputs[::-1]):
        maker = makers.get(product)
        if maker is None or not isinstance(maker.op, Multiply):
            continue
        for coefficient, before in (maker.inputs, maker.inputs[::-1]):
            views = view_of(coefficient, makers.get), view_of(added, makers.get)
            found.append(Step(views[0], before, views[1]))
    return found


def _chain(
    head: Value, steps: dict[Value, list[Step]], followers: dict[Value, Value]
) -> _Chain | None:
    values = [head]
    while values[-1] in followers:
        values.append(followers[values[-1]])
    if len(values) < FEWEST:
        return None
    linked = [
        next(s for s in steps[now] if s.before == before)
        for before, now in itertools.pairwise(values)
    ]
    for first in steps[head]:
        run = [first, *linked]
        coefficient = _series([s.coefficient for s in run])
        added = _series([s.added for s in run])
        if coefficient is None or added is None:
            continue
        views = [_last(v) for v in (coefficient, added)]
        if all(_grid(view) is not None for view in views):
            return _Chain(tuple(values), first.before, *views)
    return None


def _series(views: Sequence[View]) -> View | None:
    """Views of one base at even distances as one view with a leading dim; None if they are not."""
    first = views[0]
    step = views[1].offset - first.offset
    for number, view in enumerate(views):
        same = (view.base, view.shape, view.strides) == (first.base, first.shape, first.strides)
        if not same or view.offset != first.offset + number * step:
            return None
    if step <= 0:
        return None
    return View(first.base, (len(views), *first.shape), (step, *first.strides), first.offset)


def _last(view: View) -> View:
    """The leading dim moved to the end."""
    shape, strides = view.shape, view.strides
    return replace(view, shape=(*shape[1:], shape[0]), strides=(*strides[1:], strides[0]))


@dataclass(frozen=True)
class JoinIterations(Pass):
    """Equal computations on consecutive slices, concatenated, become one on all slices."""

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Concatenate) or len(inputs) < FEWEST:
                return None
            if len({value.shape for value in inputs}) > 1:
                return None
            joiner = _Joiner(builder)
            whole = joiner.stacked(inputs)
            if whole is None or not joiner.joined:
                return None
            dim = node.op.dim
            order = (*range(1, dim + 1), 0, *range(dim + 1, len(whole.shape)))
            turned = builder.add(Transpose(order), whole)
            return (builder.add(Reshape(node.outputs[0].shape), turned),)

        return rewrite(graph, rule)


class _Joiner:
    """Computes [count, ...] at once for ``count`` values computed alike."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.joined = 0  # computations joined so far

    def stacked(self, values: Sequence[Value]) -> Value | None:
        """The values along a new leading dim; None when they are not made alike."""
        first, count = values[0], len(values)
        if len(set(values)) == 1:
            dims = tuple(range(1, len(first.shape) + 1))
            return self.builder.add(BroadcastInDim((count, *first.shape), dims), first)
        views = [view_of(value, self.builder.maker) for value in values]
        if len({view.base for view in views}) == 1:
            series = _series(views)
            return None if series is None else emit_view(self.builder, series)
        plain = views[0]
        if any((v.shape, v.strides, v.offset) != (plain.shape, plain.strides, plain.offset)
               for v in views):  # fmt: skip
            return None
        whole = self._computed([view.base for view in views])
        if whole is None:
            return None
        step = plain.base.type.elements
        view = View(whole, (count, *plain.shape), (step, *plain.strides), plain.offset)
        return emit_view(self.builder, view)

    def _computed(self, values: Sequence[Value]) -> Value | None:
        nodes = [self.builder.maker(value) for value in values]
        first = nodes[0]
        if first is None or len(first.outputs) > 1 or len({v.type for v in values}) > 1:
            return None
        op = _with_leading_dim(first.op)
        if op is None or any(node is None or node.op != first.op for node in nodes):
            return None
        columns = list(zip(*[node.inputs for node in nodes if node], strict=True))
        if isinstance(op, DotGeneral) and any(len(set(column)) == 1 for column in columns):
            return None  # a shared matrix would be read once per iteration
        parts = [self.stacked(column) for column in columns]
        if any(part is None for part in parts):
            return None
        self.joined += 1
        return self.builder.add(op, *[part for part in parts if part is not None])


def _with_leading_dim(op: Op) -> Op | None:
    """The same operation on tensors with one more dim in front; None for others."""

    def later(dims: Shape) -> Shape:
        return tuple(dim + 1 for dim in dims)

    if isinstance(op, Elementwise):
        return op
    if isinstance(op, Reduce):
        return replace(op, dims=later(op.dims))
    if isinstance(op, DotGeneral):
        batch = (0, *later(op.batch[0])), (0, *later(op.batch[1]))
        return replace(op, batch=batch, contract=(later(op.contract[0]), later(op.contract[1])))
    return None


class _Grid(NamedTuple):
    """A view as a box of the base seen with more dims: their sizes, and the box's bounds."""

    order: tuple[int, ...]  # dims of the view from the largest stride to the smallest
    shape: Shape
    start: Shape
    limit: Shape


def _grid(view: View) -> _Grid | None:
    """How slices and a transpose read ``view``; None when they cannot."""
    moving = [d for d, n in enumerate(view.shape) if n > 1 and view.strides[d]]
    order = tuple(sorted(moving, key=lambda d: -view.strides[d]))
    above, rest = view.base.type.elements, view.offset
    shape, start, limit = [], [], []
    for dim in order:
        size, stride = view.shape[dim], view.strides[dim]
        first, rest = divmod(rest, stride)
        if above % stride or first + size > above // stride:
            return None
        shape.append(above // stride)
        start.append(first)
        limit.append(first + size)
        above = stride
    last = (*shape, above), (*start, rest), (*limit, rest + 1)
    return _Grid(order, *last)


def emit_view(builder: GraphBuilder, view: View) -> Value | None:
    """Reshape, slice, transpose and broadcast the base into ``view``; None when they cannot."""
    grid = _grid(view)
    if grid is None:
        return None
    value = view.base
    if not view.is_dense:
        value = builder.add(Reshape(grid.shape), value)
        value = builder.add(Slice(grid.start, grid.limit, (1,) * len(grid.shape)), value)
        value = builder.add(Reshape(tuple(view.shape[d] for d in grid.order)), value)
        turn = tuple(grid.order.index(d) for d in sorted(grid.order))
        value = builder.add(Transpose(turn), value)
    dims = tuple(sorted(grid.order))
    repeated = any(n > 1 and not view.strides[d] for d, n in enumerate(view.shape))
    if repeated:
        return builder.add(BroadcastInDim(view.shape, dims), value)
    return builder.add(Reshape(view.shape), value)
