"""Nodes of the optimised graph as kernel calls on HBM tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.lowering.tiles import Body, Tile, device_dtype, unsupported
from tenzing.compiler.ops.fused import Access, Fused
from tenzing.errors import TenzingError
from tenzing.kernels import attention, gather_rows, linear
from tenzing.kernels.matmul import batched_matmul
from tenzing.kernels.tiles import spans
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import new_tensor

Tensors = dict[Value, NkiTensor]
Progress = Callable[[int, int], None]

ACTIVATIONS: Final[Mapping[str, Any]] = {
    "": None, "relu": nl.relu, "gelu": nl.gelu, "gelu_tanh": nl.gelu_apprx_tanh, "silu": nl.silu,
    "tanh": nl.tanh, "logistic": nl.sigmoid,
}  # fmt: skip


def lower_graph(graph: Graph, bound: Tensors, progress: Progress | None = None) -> list[NkiTensor]:
    """Issue the kernels of every node on the active core; HBM tensors of the outputs.

    ``bound`` holds an HBM tensor for each input and parameter.
    """
    tensors = dict(bound)
    for number, node in enumerate(graph.nodes):
        rule = RULES.get(node.op.name)
        if rule is None:
            raise unsupported(node)
        try:
            results = rule(node, [tensors[v] for v in node.inputs])
        except TenzingError as error:
            raise error.at(node.loc) from None
        for value, result in zip(node.outputs, results, strict=True):
            tensors[value] = result.reshape(value.shape or (1,))
        if progress is not None:
            progress(number + 1, len(graph.nodes))
    return [tensors[v] for v in graph.outputs]


def dense(shape: tuple[int, ...], dtype: Any) -> NkiTensor:
    """A new HBM tensor."""
    return nl.ndarray(shape or (1,), dtype=device_dtype(np.dtype(dtype)), buffer=nl.hbm)


def _rows(x: NkiTensor) -> NkiTensor:
    """Leading dims joined: [rows, last dim]."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


# -- matrix products and attention ---------------------------------------------------------------


def _linear(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, weight, *bias = inputs
    if node.attrs["weight"] != "kn":
        raise unsupported(node, "for a weight laid out [n, k]")
    result = linear(
        _rows(x), weight, bias[0] if bias else None, ACTIVATIONS[node.attrs["activation"]],
        None, device_dtype(node.output.dtype),
    )  # fmt: skip
    return [result]


def _attention(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    q, k, v, *mask = inputs
    a = node.attrs
    if a["causal"] or a["heads"] != a["kv_heads"]:
        raise unsupported(node, "with causal masks or shared key heads")

    def apart(x: NkiTensor) -> NkiTensor:
        if a["packed"]:
            return x.reshape((*x.shape[:2], a["heads"], x.shape[2] // a["heads"]))
        return x.permute((0, 2, 1, 3))

    flat = None
    if mask:
        shape = mask[0].shape
        if shape[1:3] != (1, 1):
            raise unsupported(node, f"for a mask of shape {shape}")
        flat = mask[0].reshape((shape[0], shape[3]))
        if shape[3] == 1 < apart(k).shape[1]:
            raise unsupported(node, f"for a mask of shape {shape}")
    done = attention(apart(q), apart(k), apart(v), flat, a["scale"], v.dtype)
    if not a["packed"]:
        return [_copied(done.permute((0, 2, 1, 3)))]
    return [done]


def _dot_general(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """Any product as batches of matrices: strided views in, kernel per batch."""
    op = node.op
    left, right = inputs
    batch, contract = node.attrs["batch"], node.attrs["contract"]
    sides = []
    for side, x in enumerate((left, right)):
        free = op.free(side, x.ndim)  # type: ignore[attr-defined]
        groups = [batch[side], free, contract[side]]
        if side == 1 and _keeps_order(x, [batch[1], contract[1], free]):
            groups = [batch[1], contract[1], free]
        sides.append((_three_dims(x, groups), groups[-1] is not free or side == 0))
    (a, _), (b, transposed) = sides
    result = batched_matmul(a, b, transposed, device_dtype(node.output.dtype))
    return [result]


def _keeps_order(x: NkiTensor, groups: list[tuple[int, ...]]) -> bool:
    order = [d for group in groups for d in group]
    return order == list(range(x.ndim))


def _three_dims(x: NkiTensor, groups: list[tuple[int, ...]]) -> NkiTensor:
    order = [d for group in groups for d in group]
    shape = tuple(math.prod(x.shape[d] for d in group) for group in groups)
    if order == list(range(x.ndim)):
        return x.reshape(shape)
    return _copied(x.permute(order)).reshape(shape)


def _gather(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    table, indices = inputs
    if node.attrs["dim"] != 0:
        raise unsupported(node, "along a dim that is not the first")
    flat = table.reshape((table.shape[0], math.prod(table.shape[1:])))
    return [gather_rows(flat, indices)]


# -- movement ---------------------------------------------------------------------------------


def _copied(x: NkiTensor) -> NkiTensor:
    """A dense copy of a strided HBM view, by DMA."""
    out = dense(x.shape, x.dtype)
    nisa.dma_copy(dst=out, src=x)
    return out


def _reshape(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0].reshape(node.output.shape or (1,))]


def _transpose(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [_copied(inputs[0].permute(node.attrs["permutation"]))]


def _broadcast(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x = inputs[0]
    shape, dims = node.output.shape, tuple(node.attrs["dims"])
    steps = [0] * len(shape)
    for source, target in enumerate(dims):
        if x.shape[source] == shape[target]:
            steps[target] = x.strides[source]
    view = x.ap([[s, n] for s, n in zip(steps, shape, strict=True)])
    return [_copied(view)]


def _constant(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    value = node.output
    contents = np.broadcast_to(np.asarray(node.attrs["value"]), value.shape or (1,))
    dtype = device_dtype(value.dtype)
    return [new_tensor(value.shape or (1,), dtype, nl.hbm, name="constant", origin="constant",
                       contents=np.ascontiguousarray(contents).astype(dtype))]  # fmt: skip


def _concatenate(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["dim"]
    out = dense(node.output.shape, node.output.dtype)
    at = 0
    for x in inputs:
        nisa.dma_copy(dst=out.slice(dim, at, at + x.shape[dim]), src=x)
        at += x.shape[dim]
    return [out]


def _slice(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    key = tuple(map(slice, a["start"], a["limit"], a["stride"]))
    return [_copied(inputs[0][key])]


# -- fused groups -----------------------------------------------------------------------------


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


RULES: Final[Mapping[str, Callable[[Node, list[NkiTensor]], list[NkiTensor]]]] = {
    "linear": _linear, "attention": _attention, "dot_general": _dot_general, "gather": _gather,
    "reshape": _reshape, "transpose": _transpose, "broadcast_in_dim": _broadcast,
    "constant": _constant, "concatenate": _concatenate, "slice": _slice, "fused": _fused,
}  # fmt: skip
