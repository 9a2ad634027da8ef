"""Groups elementwise chains, row reductions and row composites into fused tile operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Shape, Value
from tenzing.compiler.ops import (
    Access,
    BroadcastInDim,
    Constant,
    Elementwise,
    Fused,
    RandomBits,
    Reduce,
    Reshape,
    RowComposite,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.views import View, view_of

Tile = tuple[int, int]


@dataclass(frozen=True)
class FuseRows(Pass):
    """Join operations that work row by row into ``fused`` nodes.

    A group has one tile of rows by columns.  Its values hold one number per element or one per
    row; rows are independent.  Reads from outside go through strided accesses, so broadcasts,
    reshapes and slices in front of a group disappear.
    """

    requires = frozenset({"live"})
    ensures = frozenset({"grouped"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return _Fusion(graph).run()


@dataclass(eq=False)
class Unit:
    """A node that stays alone, or a group of nodes that becomes one."""

    nodes: dict[int, Node]
    fusible: bool
    tile: Tile | None = None  # None while nothing fixes rows and columns
    bases: set[Value] = field(default_factory=set)  # what its nodes read, behind views

    @property
    def first(self) -> int:
        """Position of its first node in the graph."""
        return min(self.nodes)

    @property
    def draws(self) -> bool:
        """Whether it draws random bits: one sequence, from one seed, to a unit."""
        return any(isinstance(node.op, RandomBits) for node in self.nodes.values())

    @property
    def elements(self) -> int:
        """Elements of a unit without a tile: equal for all its values."""
        return next(iter(self.nodes.values())).outputs[0].type.elements


def row_tile(node: Node) -> Tile | None:
    """Rows and columns that a row operation fixes; None for elementwise ones and others."""
    shape = node.inputs[0].shape if node.inputs else ()
    if isinstance(node.op, RowComposite):
        return math.prod(shape[:-1]), shape[-1]
    if isinstance(node.op, Reduce):
        columns = math.prod(shape[dim] for dim in node.op.dims)
        return node.outputs[0].type.elements, columns
    return None


def is_fusible(node: Node) -> bool:
    """Elementwise, random bits, a row composite, or a reduction of the last dims."""
    if any(value.type.elements == 0 for value in (*node.inputs, *node.outputs)):
        return False
    if isinstance(node.op, Reduce):
        wide = [dim for dim, size in enumerate(node.inputs[0].shape) if size > 1]
        reduced = [dim for dim in wide if dim in node.op.dims]
        return bool(reduced) and wide[-len(reduced) :] == reduced
    return isinstance(node.op, Elementwise | RowComposite | RandomBits)


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = graph.producers()
        self.units: dict[Value, Unit] = {}

    def run(self) -> Graph:
        for index, node in enumerate(self.graph.nodes):
            unit = self._unit(index, node)
            self.units.update((value, unit) for value in node.outputs)
            if unit.fusible:
                self._grow(unit)
        return self._emit()

    def _unit(self, index: int, node: Node) -> Unit:
        fusible = is_fusible(node)
        bases = {self._view(v).base for v in node.inputs} if fusible else set(node.inputs)
        return Unit({index: node}, fusible, row_tile(node) if fusible else None, bases)

    def _view(self, value: Value) -> View:
        return view_of(value, self.makers.get)

    def _grow(self, unit: Unit) -> None:
        """Merge a new unit with the units it reads, as far as tiles and order allow."""
        for base in sorted(unit.bases, key=lambda value: value.name):
            other = self.units.get(base)
            if other is None or other is unit or not other.fusible:
                continue
            tile = self._joint_tile(other, unit)
            if not isinstance(tile, bool) and not self._indirect(other, unit):
                unit = self._merge(other, unit, tile)

    def _merge(self, into: Unit, unit: Unit, tile: Tile | None) -> Unit:
        into.nodes.update(unit.nodes)
        into.bases |= unit.bases
        into.tile = tile
        for node in unit.nodes.values():
            self.units.update((value, into) for value in node.outputs)
        return into

    def _joint_tile(self, one: Unit, other: Unit) -> Tile | bool | None:
        """The tile of both together, None while open, False when they do not fit."""
        tile = one.tile or other.tile
        if one.tile and other.tile and one.tile != other.tile:
            return False
        if one.draws and other.draws:
            return False
        for reader, source in self._edges(one, other):
            needed = self._edge_tile(reader, source)
            if needed is False:
                return False
            if isinstance(needed, tuple):
                # One row alone never decides: a lone scalar would lay all its readers in a row.
                if tile != needed and (tile is not None or needed[0] == 1):
                    return False
                tile = needed
        return tile if self._fits(one, tile) and self._fits(other, tile) else False

    def _edges(self, one: Unit, other: Unit) -> Iterator[tuple[Node, Value]]:
        for unit, source in ((one, other), (other, one)):
            for node in unit.nodes.values():
                for value in node.inputs:
                    if self.units.get(self._view(value).base) is source:
                        yield node, value

    def _edge_tile(self, reader: Node, value: Value) -> Tile | bool | None:
        """None when the reader sees the value as it is, a tile when one number per row."""
        if isinstance(reader.op, RandomBits):
            return False  # a state is there before anything is drawn
        if isinstance(reader.op, RowComposite) and value in reader.inputs[1:]:
            return False  # weights of a row composite lie along columns
        view = self._view(value)
        elements = view.base.type.elements
        if view.is_dense:
            return None
        columns = value.type.elements // elements
        rows = [(elements, 1)] if elements > 1 else []
        repeats = view.merged == [*rows, (columns, 0)] and view.offset == 0
        return (elements, columns) if repeats else False

    def _fits(self, unit: Unit, tile: Tile | None) -> bool:
        """A unit without a tile has one size: of all elements or of all rows."""
        if tile is None or unit.tile is not None:
            return True
        return unit.elements in (tile[0], tile[0] * tile[1])

    def _indirect(self, early: Unit, late: Unit) -> bool:
        """True when ``late`` also needs ``early`` by way of a third unit."""
        between = [
            unit
            for base in late.bases
            if (unit := self.units.get(base)) is not None and unit not in (early, late)
        ]
        seen: set[int] = set()
        while between:
            unit = between.pop()
            if unit is early:
                return True
            if id(unit) in seen or max(unit.nodes) < early.first:
                continue
            seen.add(id(unit))
            between.extend(u for b in unit.bases if (u := self.units.get(b)) is not None)
        return False

    def _emit(self) -> Graph:
        """Every unit after those it reads, starting from the outputs."""
        groups = {
            id(unit): _Group(unit, self._view, self.makers)
            for unit in self.units.values()
            if unit.fusible
        }
        order = _Order(self.units, groups)
        for value in self.graph.outputs:
            order.visit(value)
        nodes = [
            groups[id(unit)].node(order.needed) if unit.fusible else next(iter(unit.nodes.values()))
            for unit in order.units
        ]
        return replace(self.graph, nodes=tuple(nodes))


class _Order:
    """Depth-first order of the units that the outputs need."""

    def __init__(self, units: Mapping[Value, Unit], groups: Mapping[int, _Group]) -> None:
        self.of = units
        self.groups = groups
        self.needed: set[Value] = set()
        self.units: list[Unit] = []
        self.done: set[int] = set()

    def visit(self, value: Value) -> None:
        stack: list[tuple[Value, bool]] = [(value, False)]
        while stack:
            value, finished = stack.pop()
            self.needed.add(value)
            unit = self.of.get(value)
            if unit is None or id(unit) in self.done:
                continue
            if finished:
                self.done.add(id(unit))
                self.units.append(unit)
                continue
            stack.append((value, True))
            stack.extend((source, False) for source in self._sources(unit))

    def _sources(self, unit: Unit) -> list[Value]:
        if unit.fusible:
            return [base for base, _ in reversed(self.groups[id(unit)].reads)]
        return list(reversed(next(iter(unit.nodes.values())).inputs))


class _Group:
    """Builds the body of one fused node over two-dim tiles."""

    def __init__(
        self, unit: Unit, view: Callable[[Value], View], makers: Mapping[Value, Node]
    ) -> None:
        self.view, self.makers = view, makers
        self.order = [unit.nodes[index] for index in sorted(unit.nodes)]
        self.rows, self.columns = unit.tile or _open_tile(self.order[0].outputs[0].shape)
        self.builder = GraphBuilder("tile")
        self.inside: dict[Value, Value] = {}
        self.reads: dict[tuple[Value, Access], Value] = {}
        for node in self.order:
            self._add(node)

    def node(self, needed: set[Value]) -> Node:
        """The fused node; its outputs are the values that others need."""
        outputs = [v for n in self.order for v in n.outputs if v in needed]
        body = self.builder.build([self.inside[v] for v in outputs])
        accesses = tuple(access for _, access in self.reads)
        shapes = tuple(value.shape for value in outputs)
        op = Fused(self.rows, self.columns, accesses, shapes, body)
        last = self.order[-1]
        sources = tuple(base for base, _ in self.reads)
        return Node(op, sources, tuple(outputs), last.loc, last.scope)

    def _add(self, node: Node) -> None:
        self.builder.loc, self.builder.scope = node.loc, node.scope
        first = node.outputs[0] if isinstance(node.op, RandomBits) else node.inputs[0]
        wide = first.type.elements == self.rows * self.columns
        shape = (self.rows, self.columns if wide else 1)
        if isinstance(node.op, RandomBits):
            state = self.builder.add(Reshape((1,)), self._tile(node.inputs[0], (1, 1)))
            result = self.builder.add(replace(node.op, shape=shape), state)
        elif isinstance(node.op, RowComposite):
            extras = [self._column(value) for value in node.inputs[1:]]
            result, *numbers = self.builder.emit(
                node.op, self._tile(node.inputs[0], shape), *extras
            )
            for value, row in zip(node.outputs[1:], numbers, strict=True):
                self.inside[value] = self.builder.add(Reshape((self.rows, 1)), row)
        elif isinstance(node.op, Reduce):
            row = self.builder.add(Reduce(node.op.kind, (1,)), self._tile(node.inputs[0], shape))
            result = self.builder.add(Reshape((self.rows, 1)), row)
        else:
            result = self.builder.add(node.op, *(self._tile(v, shape) for v in node.inputs))
        self.inside[node.outputs[0]] = result

    def _tile(self, value: Value, shape: Shape) -> Value:
        """An input of a node as a tile of ``shape``, stretched where it repeats."""
        constant = self._splat(value)
        if constant is not None:
            return self.builder.add(replace(constant, shape=shape))
        view: View = self.view(value)
        inner = self.inside.get(view.base)
        if inner is None:
            inner = self._read(value, view, shape[1])
        if inner.shape == shape:
            return inner
        return self.builder.add(BroadcastInDim(shape, (0, 1)), inner)

    def _splat(self, value: Value) -> Constant | None:
        base: Value = self.view(value).base
        maker = self.makers.get(base)
        if maker is None or not isinstance(maker.op, Constant) or not maker.op.is_splat:
            return None
        return maker.op

    def _read(self, value: Value, view: View, columns: int) -> Value:
        access = view.access(columns)
        base = view.base
        if access is None:
            base = value
            access = View.dense(value).access(columns)
        if access is None:
            raise AssertionError(f"{value} has no rows of {columns}")
        key = (base, access)
        if key not in self.reads:
            self.reads[key] = self.builder.input(base.name, access.tile, base.dtype)
        return self.reads[key]

    def _column(self, value: Value) -> Value:
        """A weight with one number per column, as the row composites take it."""
        tile = self._tile(value, (1, self.columns))
        return self.builder.add(Reshape((self.columns,)), tile)


def _open_tile(shape: Shape) -> Tile:
    """Rows and columns of a purely elementwise group: any cut is allowed, take the last dim."""
    columns = shape[-1] if shape else 1
    return math.prod(shape[:-1]), columns
