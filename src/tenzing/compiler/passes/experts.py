"""Recognises mixtures of experts, and sorts their rows so that each matrix is read once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Shape, Value, rewrite
from tenzing.compiler.ops import (
    BroadcastInDim,
    Constant,
    Convert,
    DotGeneral,
    Elementwise,
    ExpertBlocks,
    ExpertLinear,
    ExpertOrder,
    Gather,
    Reshape,
    Slice,
    TakeRows,
    Transpose,
    block_count,
)
from tenzing.compiler.passes.pipeline import Pass

BLOCKS: Final = (128, 64, 32, 16)  # rows per block, largest first
STACK_RANK: Final = 3


@dataclass(frozen=True)
class RecogniseExperts(Pass):
    """A product of rows with matrices gathered for each row becomes ``expert_linear``."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        stacks = {p for p in graph.parameters if len(p.shape) == STACK_RANK}

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op = node.op
            if not isinstance(op, DotGeneral) or op.batch != ((0,), (0,)):
                return None
            for side in (0, 1):
                found = _gathered(builder, inputs[side], stacks)
                depth, other = op.contract[side], op.contract[1 - side]
                rows = inputs[1 - side]
                if found is None or len(rows.shape) != STACK_RANK or len(depth) != 1:
                    continue
                free = 3 - other[0]  # the dim of the rows that is neither batch nor contracted
                if rows.shape[free] != 1:
                    continue
                flat = builder.add(Reshape((rows.shape[0], rows.shape[other[0]])), rows)
                layout = "kn" if depth == (1,) else "nk"
                product = builder.add(ExpertLinear(layout, op.out_dtype), flat, *found)
                return (builder.add(Reshape(node.outputs[0].shape), product),)
            return None

        return rewrite(graph, rule)


def _gathered(
    builder: GraphBuilder, value: Value, stacks: set[Value]
) -> tuple[Value, Value] | None:
    """The stack of matrices and the row numbers behind one matrix per row."""
    node = builder.maker(value)
    if node is None or node.op != Gather() or node.inputs[0] not in stacks:
        return None
    index = node.inputs[1]
    return (node.inputs[0], index) if len(index.shape) == 1 else None


@dataclass(frozen=True)
class SortByExpert(Pass):
    """Turn expert products of many rows into blocks of one expert each.

    Rows are sorted once per routing; what is computed between two products of one routing is
    computed on sorted rows. Few rows stay as they are: each reads its own matrix. Weights are
    turned to [E, K, N], the layout the tensor engine reads.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        sorter = _Sorter()
        return rewrite(graph, sorter.rule)


class _Sorter:
    def __init__(self) -> None:
        self.sorted: dict[Value, tuple[Value, ExpertOrder, Value]] = {}  # by unsorted value
        self.orders: dict[tuple[ExpertOrder, Value], dict[int, tuple[Value, ...]]] = {}

    def rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        if not isinstance(node.op, ExpertLinear):
            return None
        x, weight, index = inputs
        op = node.op
        if op.weight == "nk":
            weight = builder.add(Transpose((0, 2, 1)), weight, hint=f"{weight.name}.T")
            op = replace(op, weight="kn")
        block = block_size(x.shape[0], weight.shape[0])
        if not block:
            return builder.emit(op, x, weight, index)
        order = ExpertOrder(weight.shape[0], block)
        rows = self._sorted_rows(builder, x, order, index)
        _, row_slot, owner = self._order(builder, order, index)
        product = builder.add(ExpertBlocks("kn", op.out_dtype), rows, weight, owner)
        back = builder.add(Gather(), product, row_slot)
        self.sorted[back] = (product, order, index)
        return (back,)

    def _order(
        self, builder: GraphBuilder, order: ExpertOrder, index: Value, repeat: int = 0
    ) -> tuple[Value, ...]:
        """The outputs of the order; its slots name every ``repeat``-th row (0: any will do)."""
        made = self.orders.setdefault((order, index), {})
        if not repeat and made:
            return next(iter(made.values()))
        if (repeat or 1) not in made:
            made[repeat or 1] = builder.emit(replace(order, repeat=repeat or 1), index)
        return made[repeat or 1]

    def _sorted_rows(
        self, builder: GraphBuilder, x: Value, order: ExpertOrder, index: Value
    ) -> Value:
        """``x`` in the order of the slots."""
        done = self._through(builder, x, order, index)
        if done is not None:
            return done
        source, repeat = repeated_rows(builder, x)
        slots = self._order(builder, order, index, repeat)[0]
        return builder.add(TakeRows(), source, slots)

    def _through(
        self, builder: GraphBuilder, value: Value, order: ExpertOrder, index: Value
    ) -> Value | None:
        """The sorted form of a value computed row by row from sorted ones; None if it is not."""
        known = self.sorted.get(value)
        if known is not None:
            return known[0] if known[1:] == (order, index) else None
        node = builder.maker(value)
        if node is None or len(node.outputs) != 1:
            return None
        slots = order.block * block_count(index.shape[0], order.experts, order.block)
        shape: Shape = (slots, *value.shape[1:])
        if isinstance(node.op, Constant) and node.op.is_splat:
            return builder.add(Constant(shape, node.op.dtype, node.op.data))
        op = _on_rows(node, shape)
        if op is None:
            return None
        parts = [self._through(builder, v, order, index) for v in node.inputs]
        return None if None in parts else builder.add(op, *[p for p in parts if p is not None])


def _on_rows(node: Node, shape: Shape) -> Elementwise | Slice | None:
    """The operation on another number of rows, if it treats every row alone."""
    if isinstance(node.op, Elementwise):
        return node.op
    op = node.op
    if isinstance(op, Slice) and (op.start[0], op.limit[0]) == (0, node.inputs[0].shape[0]):
        return replace(op, limit=(shape[0], *op.limit[1:])) if op.stride[0] == 1 else None
    return None


def repeated_rows(builder: GraphBuilder, x: Value) -> tuple[Value, int]:
    """The rows that ``x`` repeats one after another, and how often; ``x`` itself and 1 if none."""
    node = builder.maker(x)
    if node is not None and isinstance(node.op, Convert):
        source, repeat = repeated_rows(builder, node.inputs[0])
        return (builder.add(node.op, source), repeat) if repeat > 1 else (x, 1)
    spread = builder.maker(node.inputs[0]) if node and isinstance(node.op, Reshape) else None
    if spread is None or not isinstance(spread.op, BroadcastInDim):
        return x, 1
    source, shape = spread.inputs[0], spread.op.shape
    wide = [d for d in source.shape if d != 1]
    if len(shape) != STACK_RANK or shape[2] != x.shape[1] or wide != [shape[0], shape[2]]:
        return x, 1
    return builder.add(Reshape((shape[0], shape[2])), source), shape[1]


def block_size(rows: int, experts: int) -> int:
    """Rows per block, 0 for one matrix per row: the choice that reads the fewest matrices.

    A block takes as long to multiply as its matrix to load at about 128 rows, so blocks shrink
    only when experts have fewer rows than that.
    """
    share = rows / experts
    block = next((b for b in BLOCKS if b <= share), BLOCKS[-1])
    return block if block_count(rows, experts, block) < rows else 0
