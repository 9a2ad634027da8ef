"""Groups whose rows are wider than SBUF: the columns pass by once per level of reductions.

Composites are first taken apart.  A value has the level of the deepest reduction before it; a pass
over the columns combines all reductions of one level, computing again what they need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.lowering.access import load_access, load_repeated
from tenzing.compiler.lowering.rowwise import REDUCE
from tenzing.compiler.lowering.tiles import Body, Tile
from tenzing.compiler.ops import Reduce, RowComposite
from tenzing.compiler.ops.fused import Access, Fused
from tenzing.kernels.tiles import move, spans
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


def run_streamed(
    op: Fused, inputs: Sequence[NkiTensor], outs: Sequence[NkiTensor | None], block: int
) -> None:
    """Compute a group in blocks of columns; ``outs`` [rows, columns or 1], None where unwanted."""
    body = taken_apart(op.body)
    for start, count in spans(op.rows, nl.tile_size.pmax):
        _RowBlock(op, body, list(inputs), start, count, block).run(outs)


def taken_apart(body: Graph) -> Graph:
    """The body with reductions and elementwise operations in place of composites."""

    def rule(
        builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        return node.op.decompose(builder, *inputs) if isinstance(node.op, RowComposite) else None

    return rewrite(body, rule)


class _RowBlock:
    """One block of rows; ``narrow`` holds what is one number per row, for all passes."""

    def __init__(
        self, op: Fused, body: Graph, inputs: list[NkiTensor], start: int, count: int, block: int
    ) -> None:
        self.op, self.body, self.start, self.count, self.block = op, body, start, count, block
        self.sources = list(zip(inputs, op.accesses, body.inputs, strict=True))
        self.narrow: dict[Value, Tile] = {}
        self.level = _levels(body)
        self.wide = _wide_values(body, op.columns)

    def run(self, outs: Sequence[NkiTensor | None]) -> None:
        for x, access, value in self.sources:
            if value not in self.wide:
                self.narrow[value] = self._load(x, access, 0, 1)
        reductions = [n for n in self.body.nodes if isinstance(n.op, Reduce)]
        for level in range(1 + max(self.level.values(), default=0)):
            self._evaluate_narrow(level)
            due = [n for n in reductions if self._finishes(n, level)]
            if due:
                self._reduce(due)
        self._evaluate_narrow(len(self.body.nodes))
        self._write(outs)

    def _finishes(self, node: Node, level: int) -> bool:
        return node.inputs[0] in self.wide and self.level[node.output] == level + 1

    def _evaluate_narrow(self, level: int) -> None:
        """Values of one number per row whose reductions are known by now."""
        ready = [
            node
            for node in self.body.nodes
            if node.output not in self.wide
            and node.output not in self.narrow
            and self.level[node.output] <= level
            and all(value in self.narrow for value in node.inputs)
        ]
        for node in ready:
            self.narrow.update(self._values([node], self.narrow, self.op.columns))
        if ready:
            self._evaluate_narrow(level)

    def _reduce(self, due: list[Node]) -> None:
        nodes = self._needed(node.inputs[0] for node in due)
        for at, width in spans(self.op.columns, self.block):
            values = self._columns(nodes, at, width)
            for node in due:
                (part,) = self._values([node], values, width).values()
                total = self.narrow.get(node.output)
                if total is not None:
                    part = self._joined(node, total, part)
                self.narrow[node.output] = part

    def _joined(self, node: Node, total: Tile, part: Tile) -> NkiTensor:
        assert isinstance(total, NkiTensor)
        assert isinstance(part, NkiTensor)
        both = nl.ndarray(part.shape, dtype=part.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=both, data1=total, data2=part, op=REDUCE[node.attrs["kind"]])
        return both

    def _write(self, outs: Sequence[NkiTensor | None]) -> None:
        targets = [(o, v) for o, v in zip(outs, self.body.outputs, strict=True) if o is not None]
        rows = slice(self.start, self.start + self.count)
        for out, value in targets:
            if value not in self.wide:
                tile = Body(self.body, self.count, 1).widened(self.narrow[value], 1, out.dtype)
                move(out[rows, 0:1], tile)
        wide = [(out, value) for out, value in targets if value in self.wide]
        nodes = self._needed(value for _, value in wide)
        for at, width in spans(self.op.columns, self.block) if wide else ():
            values = self._columns(nodes, at, width)
            for out, value in wide:
                body = Body(self.body, self.count, width)
                tile = body.widened(values[value], width, out.dtype)
                move(out[rows, at : at + width], tile)

    def _needed(self, wanted: Iterable[Value]) -> list[Node]:
        """Nodes of wide values that lead to the wanted ones, in order."""
        needed = set(wanted)
        kept = []
        for node in reversed(self.body.nodes):
            if node.output in needed and node.output in self.wide:
                needed.update(node.inputs)
                kept.append(node)
        return kept[::-1]

    def _columns(self, nodes: list[Node], at: int, width: int) -> dict[Value, Tile]:
        """Values of the nodes, and all they read, for one block of columns."""
        read = {value for node in nodes for value in node.inputs}
        read.update(self.body.outputs)
        known = dict(self.narrow)
        for x, access, value in self.sources:
            if value in self.wide and (value in read or self._is_reduced(value)):
                known[value] = self._load(x, access, at, width)
        return {**known, **self._values(nodes, known, width)}

    def _is_reduced(self, value: Value) -> bool:
        return any(isinstance(n.op, Reduce) and value in n.inputs for n in self.body.nodes)

    def _values(self, nodes: list[Node], known: dict[Value, Tile], width: int) -> dict[Value, Tile]:
        body = Body(self.body, self.count, width)
        body.values.update(known)
        body.evaluate(nodes)
        return {node.output: body.values[node.output] for node in nodes}

    def _load(self, x: NkiTensor, access: Access, at: int, width: int) -> NkiTensor:
        if math.prod(access.shape[:-1]) == 1 < self.op.rows:
            return load_repeated(x, access, self.count, at, width)
        return load_access(x, access, self.start, self.count, at, width)


def _levels(body: Graph) -> dict[Value, int]:
    """Reductions on the longest way to each value."""
    level = dict.fromkeys(body.inputs, 0)
    for node in body.nodes:
        deepest = max((level[v] for v in node.inputs), default=0)
        level[node.output] = deepest + isinstance(node.op, Reduce)
    return level


def _wide_values(body: Graph, columns: int) -> set[Value]:
    """Values that differ along the columns."""
    wide = {value for value in body.inputs if value.shape[-1] == columns}
    for node in body.nodes:
        if not isinstance(node.op, Reduce) and wide.intersection(node.inputs):
            wide.add(node.output)
    return wide


__all__ = ["run_streamed", "taken_apart"]
