"""Fused groups: tiles of rows through one body of instructions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tenzing.compiler.graph import Node, Value
from tenzing.compiler.lowering.registry import dense, device_dtype, lowers
from tenzing.compiler.lowering.tiles import Body, Tile
from tenzing.compiler.ops.fused import Access, Fused
from tenzing.kernels.tiles import spans
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


@lowers("fused")
def _fused(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, Fused)
    aliases = _aliases(op, inputs)
    if all(a is not None for a in aliases):
        return [a for a in aliases if a is not None]
    outs = [
        alias if alias is not None else dense(_tile_shape(op, value), value.dtype)
        for alias, value in zip(aliases, op.body.outputs, strict=True)
    ]
    pmax = nl.tile_size.pmax
    repeated = {
        value: _load_repeated(x, access, min(op.rows, pmax))
        for x, access, value in zip(inputs, op.accesses, op.body.inputs, strict=True)
        if value.shape[0] == 1 < op.rows
    }
    for start, count in spans(op.rows, pmax):
        body = Body(op.body, count, op.columns)
        given: dict[Value, Tile] = {}
        for x, access, value in zip(inputs, op.accesses, op.body.inputs, strict=True):
            if value in repeated:
                whole = repeated[value]
                given[value] = whole[0:count, 0 : whole.shape[1]]
            else:
                given[value] = _load_access(x, access, start, count)
        for out, alias, tile, value in zip(
            outs, aliases, body.run(given), op.body.outputs, strict=True
        ):
            if alias is None:
                ready = body.full_width(tile, value)
                nisa.dma_copy(dst=out[start : start + count, 0 : out.shape[1]], src=ready)
    return outs


def _tile_shape(op: Fused, value: Value) -> tuple[int, int]:
    return op.rows, math.prod(value.shape) // op.rows


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
            if _is_whole(op.accesses[number], inputs[number]):
                found = inputs[number]
        result.append(found)
    return result


def _is_whole(access: Access, x: NkiTensor) -> bool:
    step = 1
    for size, stride in zip(reversed(access.shape), reversed(access.strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return access.offset == 0 and step == x.size


def _load_repeated(x: NkiTensor, access: Access, partitions: int) -> NkiTensor:
    """A tile of one row on every partition."""
    columns, step = access.shape[-1], access.strides[-1]
    tile = nl.ndarray((partitions, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x.ap([[0, partitions], [step, columns]], offset=access.offset))
    return tile


def _load_access(x: NkiTensor, access: Access, start: int, count: int) -> NkiTensor:
    """Rows ``start`` to ``start + count`` of an access as a tile; one DMA per run of rows."""
    columns, step = access.shape[-1], access.strides[-1]
    tile = nl.ndarray((count, columns), dtype=x.dtype, buffer=nl.sbuf)
    for row, rows, offset, stride in _row_runs(access, start, count):
        place = row - start
        nisa.dma_copy(
            dst=tile[place : place + rows, 0:columns],
            src=x.ap([[stride, rows], [step, columns]], offset=offset),
        )
    return tile


def _row_runs(access: Access, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """First row, rows, element offset and step of each run of evenly spaced rows."""
    dims = _joined(access.shape[:-1], access.strides[:-1])
    inner, stride = dims[-1] if dims else (1, 0)
    row = start
    while row < start + count:
        block, inside = divmod(row, inner)
        rows = min(inner - inside, start + count - row)
        offset = access.offset + inside * stride
        for size, step in reversed(dims[:-1]):
            block, index = divmod(block, size)
            offset += index * step
        yield row, rows, offset, stride
        row += rows


def _joined(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Neighbouring dims joined where one step leads from one to the next."""
    dims: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = (dims[-1][0] * size, stride)
        else:
            dims.append((size, stride))
    return dims
