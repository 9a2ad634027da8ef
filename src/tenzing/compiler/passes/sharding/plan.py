"""Which weights are cut, and where: decided from what their products feed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.ops import (
    ArgMax,
    Attention,
    BroadcastInDim,
    Convert,
    Elementwise,
    Gather,
    Linear,
    Reshape,
    Slice,
    TopK,
    Transpose,
)
from tenzing.compiler.passes.sharding.layout import Section, Split
from tenzing.errors import UsageError

QUERY: Final = frozenset({0})
KEYS: Final = frozenset({1, 2})
REACH: Final = 24  # nodes between a projection and its attention
TABLE_RANK: Final = 2


@dataclass
class Plan:
    """Columns of weights (the dim is the product's to say) and embedding tables cut by rows."""

    graph: Graph
    axes: tuple[str, ...]
    ranks: int
    tables: dict[Value, Split] = field(default_factory=dict)
    columns: dict[Value, Split] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.users = self.graph.users()
        self.makers = self.graph.producers()
        parameters = set(self.graph.parameters)
        for node in self.graph.nodes:
            if isinstance(node.op, Linear) and node.inputs[1] in parameters:
                self._plan_columns(node)
        looked_up = [n for n in self.graph.nodes if isinstance(n.op, Gather)]
        for table in {n.inputs[0]: n for n in looked_up if n.inputs[0] in parameters}:
            self._plan_table(table)

    def _plan_columns(self, node: Node) -> None:
        weight = node.inputs[1]
        sections = self._sections_of(node)
        cut = Split(0, sections, self.axes) if sections else None
        if cut is None or self.columns.get(weight, cut) != cut:
            self.columns.pop(weight, None)
        else:
            self.columns[weight] = cut

    def _plan_table(self, table: Value) -> None:
        """A table is cut with the head that shares it, or not at all."""
        split = Split.of(0, table.shape[0], self.ranks, self.axes)
        if all(self._can_cut(table, split, node) for node in self.users[table]):
            self.tables[table] = split
        else:
            self.columns.pop(table, None)

    def _can_cut(self, table: Value, split: Split, node: Node) -> bool:
        if isinstance(node.op, Linear):
            return self.columns.get(table) == split and node.op.weight == "nk"
        if not isinstance(node.op, Gather) or node.op.dim or table in node.inputs[1:]:
            return False
        return _is_vocabulary(table) and self._names_inputs(node.inputs[1])

    def _names_inputs(self, index: Value) -> bool:
        """Whether an index is an input of the model, at most moved and converted."""
        maker = self.makers.get(index)
        if maker is None:
            return index in self.graph.inputs
        moves = isinstance(maker.op, Convert | Reshape | Slice | BroadcastInDim)
        return moves and self._names_inputs(maker.inputs[0])

    # -- columns ------------------------------------------------------------------------------

    def _sections_of(self, node: Node) -> tuple[Section, ...]:
        """Sections of a projection's columns; none for one that every rank holds whole."""
        weight, output = node.inputs[1], node.outputs[0]
        size, depth = output.shape[-1], node.inputs[0].shape[-1]
        if any(not isinstance(n.op, Linear | Gather) for n in self.users[weight]):
            return ()
        if size > depth and self._is_result(output):
            return (Section(size, self.ranks),)
        pieces = self._pieces(output)
        heads = [self._heads_of(weight, part, width) for width, part in pieces or [(size, output)]]
        if any(heads):
            found = [s for s in heads if s is not None]
            return tuple(found) if len(found) == len(heads) else ()
        pieces = pieces or [(size, output)]
        even = all(n % self.ranks == 0 for n, _ in pieces)
        if not all(self._feeds_product(v) for _, v in pieces) or not (even or size > depth):
            return ()
        return tuple(Section(n, self.ranks) for n, _ in pieces)

    def _feeds_product(self, value: Value) -> bool:
        """Whether a product is multiplied again, at most after steps on each element: an MLP."""
        following = self.users.get(value, ())
        if any(isinstance(n.op, Linear) and n.inputs[0] == value for n in following):
            return True
        steps = (n for n in following if isinstance(n.op, Elementwise | Reshape))
        return any(self._feeds_product(v) for n in steps for v in n.outputs)

    def sections(self, value: Value) -> tuple[int, ...]:
        """Sizes of the slices that cut a product's last dim; () when nothing cuts it."""
        return tuple(size for size, _ in self._pieces(value))

    def _is_result(self, value: Value) -> bool:
        """Whether a product is a result, such as logits, at most after steps on each element."""
        if value in self.graph.outputs:
            return True
        following = (n for n in self.users.get(value, ()) if isinstance(
            n.op, Elementwise | Slice | Reshape | ArgMax | TopK))  # fmt: skip
        return any(self._is_result(v) for n in following for v in n.outputs)

    def _pieces(self, value: Value) -> list[tuple[int, Value]]:
        """Width and value of the slices that cut a product's columns, if some do."""
        for seen, dim, width in self._views(value):
            parts = [n for n in self.users.get(seen, ()) if _cuts(n, dim)]
            cuts = {n.op: n.outputs[0] for n in parts if isinstance(n.op, Slice)}
            edges = sorted((op.start[dim], op.limit[dim], k) for k, op in enumerate(cuts))
            joined = [0, *(limit for _, limit, _ in edges)]
            if len(edges) > 1 and [start for start, _, _ in edges] + [seen.shape[dim]] == joined:
                values = list(cuts.values())
                return [((b - a) * width, values[k]) for a, b, k in edges]
        return []

    def _views(self, value: Value) -> Iterator[tuple[Value, int, int]]:
        """The product as reshapes and transposes show it: value, dim of its slowest columns, and
        how many columns a position there has."""
        last = len(value.shape) - 1
        yield value, last, 1
        rows = math.prod(value.shape[:-1])
        for node in self.users.get(value, ()):
            new = node.outputs[0]
            dims = [d for d in range(len(new.shape)) if math.prod(new.shape[:d]) == rows]
            if not isinstance(node.op, Reshape) or not dims:
                continue
            dim = next((d for d in dims if new.shape[d] > 1), dims[0])
            width = math.prod(new.shape[dim + 1 :])
            yield new, dim, width
            for turned in self.users.get(new, ()):
                if isinstance(turned.op, Transpose):
                    yield turned.outputs[0], turned.op.permutation.index(dim), width

    # -- heads --------------------------------------------------------------------------------

    def _heads_of(self, weight: Value, value: Value, size: int) -> Section | None:
        """The section of columns that become heads of an attention; None if they do not."""
        op, places = self._attention_behind(value)
        if op is None:
            return None
        heads, keys, ranks = op.heads, op.kv_heads, self.ranks
        count = heads if places == QUERY else keys
        if size % count:
            return None
        unit = size // count
        padded = heads == keys
        if keys % ranks == 0 or padded:
            return Section(size, ranks, unit)
        if ranks % keys or heads % ranks:
            raise UsageError(
                f"%{weight.name} has {count} heads of an attention with {keys} key heads",
                got=f"{ranks} ranks", allowed=f"divisors of {keys} key heads, or multiples of them "
                f"that divide {heads} heads", next_step="use another number of ranks",
            )  # fmt: skip
        if places == QUERY:
            return Section(size, ranks, unit)
        return Section(size, keys, unit) if places <= KEYS else None

    def _attention_behind(self, value: Value) -> tuple[Attention | None, frozenset[int]]:
        """The attention that a value feeds, and as which of its inputs."""
        found: Attention | None = None
        places: set[int] = set()
        frontier, seen = {value}, {value}
        for _ in range(REACH):
            nodes = [(v, n) for v in frontier for n in self.users.get(v, ())]
            for v, node in nodes:
                if isinstance(node.op, Attention):
                    found = found or node.op
                    places.update(k for k, u in enumerate(node.inputs[:3]) if u == v)
            frontier = {v for _, n in nodes if _carries(n) for v in n.outputs} - seen
            seen |= frontier
        return (found, frozenset(places)) if places else (None, frozenset())


def _is_vocabulary(table: Value) -> bool:
    """Whether a table has more rows than columns, as those of tokens have."""
    return len(table.shape) == TABLE_RANK and table.shape[0] > table.shape[1]


def _cuts(node: Node, dim: int) -> bool:
    """Whether a node is a slice that takes a part of a dim."""
    if not isinstance(node.op, Slice) or node.op.stride[dim] != 1:
        return False
    return node.outputs[0].shape[dim] < node.inputs[0].shape[dim]


def _carries(node: Node) -> bool:
    """Whether heads pass through: products end the way, and what all heads share is spread."""
    if isinstance(node.op, BroadcastInDim):
        return node.outputs[0].type.elements == node.inputs[0].type.elements
    return not isinstance(node.op, Linear | Attention)


__all__ = ["Plan"]
