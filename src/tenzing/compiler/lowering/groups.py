"""Fused groups: tiles of rows and columns through one body of instructions.

Rows go to partitions.  Columns stay together when a row fits into SBUF; otherwise they are cut:
freely in a purely elementwise group, in one pass per level of reductions elsewhere (``streaming``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.lowering.access import is_whole, load_access, load_repeated
from tenzing.compiler.lowering.random import draw_of, drawn_before, start_drawing
from tenzing.compiler.lowering.registry import dense, device_dtype, lowers
from tenzing.compiler.lowering.streaming import run_streamed, taken_apart
from tenzing.compiler.lowering.tiles import Body
from tenzing.compiler.ops import Reduce, RowComposite
from tenzing.compiler.ops.fused import Access, Fused
from tenzing.kernels.tiles import move, spans
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl

SBUF_SHARE: Final = 0.75  # of a partition for the live tiles of a group; the rest is for gaps
SCRATCH_BYTES: Final = 16  # per column: four float32 tiles that one operation may need
INTERLEAVED_MAX: Final = 8  # blocks of rows whose operations alternate
FLAT_COLUMNS_MAX: Final = 2048  # of an elementwise group laid out anew: 8 KiB per DMA row


@dataclass(frozen=True)
class Tiling:
    """How a group is cut: rows by columns in all, and columns per block."""

    rows: int
    columns: int
    block: int
    accesses: tuple[Access, ...]
    streamed: bool = False


@lowers("fused")
def _fused(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, Fused)
    aliases = _aliases(op, inputs)
    if all(a is not None for a in aliases):
        return [a for a in aliases if a is not None]
    tiling = _tiling(op)
    draw = draw_of(op)
    if draw is not None and (tiling.streamed or tiling.block < tiling.columns):
        op, inputs = drawn_before(op, draw, inputs)
        tiling = _tiling(op)
    outs = [
        alias if alias is not None else dense(_stored_shape(op, tiling, value), value.dtype)
        for alias, value in zip(aliases, op.body.outputs, strict=True)
    ]
    written = [out if alias is None else None for out, alias in zip(outs, aliases, strict=True)]
    if tiling.streamed:
        run_streamed(op, inputs, written, tiling.block)
    else:
        _run_blocks(op, tiling, inputs, written)
    return outs


def _run_blocks(
    op: Fused, tiling: Tiling, inputs: list[NkiTensor], outs: Sequence[NkiTensor | None]
) -> None:
    pmax = nl.tile_size.pmax
    draw = draw_of(op)
    known = start_drawing(op, draw, inputs) if draw is not None else {}
    given = [
        (x, access, value)
        for x, access, value in zip(inputs, tiling.accesses, op.body.inputs, strict=True)
        if value not in known
    ]
    for at, width in spans(tiling.columns, tiling.block):
        repeated = {
            value: load_repeated(x, access, min(tiling.rows, pmax), at, width)
            for x, access, value in given
            if math.prod(access.shape[:-1]) == 1 < tiling.rows
        }
        together = 1 if draw is not None else _interleaved(op, width)
        blocks = list(spans(tiling.rows, pmax))
        for first in range(0, len(blocks), together):
            turn = blocks[first : first + together]
            bodies = [Body(op.body, count, width) for _, count in turn]
            for body, (start, count) in zip(bodies, turn, strict=True):
                body.values.update(known)
                for x, access, value in given:
                    whole = repeated.get(value)
                    body.values[value] = (
                        load_access(x, access, start, count, at, width)
                        if whole is None else whole[0:count, 0 : whole.shape[1]]
                    )  # fmt: skip
            for node in op.body.nodes:
                for body in bodies:
                    body.evaluate([node])
            for body, (start, _) in zip(bodies, turn, strict=True):
                _store(body, outs, start, at, width)


def _interleaved(op: Fused, width: int) -> int:
    """Blocks of rows that pass an operation before any passes the next.

    Where functions alternate, Scalar would otherwise load their tables again for every block.
    """
    functions = {node.op.name for node in op.body.nodes if node.work.transcendentals}
    if len(functions) <= 1:
        return 1
    return max(1, min(INTERLEAVED_MAX, _columns_that_fit(op.body) // (2 * width)))


def _store(
    body: Body, outs: Sequence[NkiTensor | None], start: int, at: int, width: int
) -> None:  # fmt: skip
    """Write the block of each output, with every column present, in the output's dtype."""
    for out, value in zip(outs, body.body.outputs, strict=True):
        if out is not None:
            first, size = (0, 1) if out.shape[1] == 1 else (at, width)
            ready = body.widened(body.values[value], size, out.dtype)
            move(out[start : start + body.rows, first : first + size], ready)


def _stored_shape(op: Fused, tiling: Tiling, value: Value) -> tuple[int, int]:
    wide = math.prod(value.shape) == tiling.rows * tiling.columns
    return tiling.rows, tiling.columns if wide else 1


def _tiling(op: Fused) -> Tiling:
    """Whole rows where they fit; otherwise, or where rows are badly shaped, another cut."""
    limit = _columns_that_fit(op.body)
    plain = Tiling(op.rows, op.columns, op.columns, op.accesses)
    if any(isinstance(node.op, Reduce | RowComposite) for node in op.body.nodes):
        if op.columns <= limit:
            return plain
        return replace(plain, block=_columns_that_fit(taken_apart(op.body)), streamed=True)
    flat = _flattened(op, min(limit, FLAT_COLUMNS_MAX))
    return flat or replace(plain, block=min(op.columns, limit))


def _flattened(op: Fused, columns_max: int) -> Tiling | None:
    """A dense elementwise group cut anew, when its rows would leave lanes or columns empty."""
    elements = op.rows * op.columns
    crowded = op.rows < nl.tile_size.pmax < op.columns
    thin = op.columns * nl.tile_size.pmax < columns_max < elements
    draw = draw_of(op)
    made = [*op.body.outputs, *(draw.outputs if draw is not None else ())]
    wide = all(math.prod(v.shape) == elements for v in made)
    if not wide or not (crowded or thin):
        return None
    columns = _divisor(elements, columns_max)
    single = Access((1, 1), (0, 0))
    accesses = []
    for access in op.accesses:
        if access.distinct == 1 or math.prod(access.shape) == 1:
            accesses.append(replace(single, offset=access.offset))
        elif is_whole(access, elements):
            accesses.append(Access((elements // columns, columns), (columns, 1)))
        else:
            return None
    return Tiling(elements // columns, columns, columns, tuple(accesses))


def _divisor(elements: int, most: int) -> int:
    """The largest divisor up to ``most`` that still fills the partitions, as far as one does."""
    wanted = min(most, max(elements // nl.tile_size.pmax, 1))
    return next(n for n in range(wanted, 0, -1) if elements % n == 0)


def _columns_that_fit(body: Graph) -> int:
    return int(nl.tile_size.total_available_sbuf_size * SBUF_SHARE) // _live_bytes(body)


def _live_bytes(body: Graph) -> int:
    """Bytes per column of the tiles alive at the fullest moment of the body."""
    last = {value: number for number, node in enumerate(body.nodes) for value in node.inputs}
    last.update((value, len(body.nodes)) for value in body.outputs)
    live = {value for value in body.inputs if value.shape[-1] > 1}
    peak = sum(v.dtype.itemsize for v in live)
    for number, node in enumerate(body.nodes):
        live.update(node.outputs)
        peak = max(peak, sum(v.dtype.itemsize for v in live))
        live = {v for v in live if last.get(v, -1) > number}
    return peak + SCRATCH_BYTES


def _aliases(op: Fused, inputs: list[NkiTensor]) -> list[NkiTensor | None]:
    """Outputs that are an input unchanged: nothing but a conversion to the same device dtype."""
    makers = op.body.producers()
    result: list[NkiTensor | None] = []
    for value in op.body.outputs:
        node = makers.get(value)
        source = node.inputs[0] if node is not None and node.op.name == "convert" else value
        found = None
        if source in op.body.inputs and device_dtype(source.dtype) == device_dtype(value.dtype):
            number = op.body.inputs.index(source)
            if is_whole(op.accesses[number], inputs[number].size):
                found = inputs[number]
        result.append(found)
    return result
