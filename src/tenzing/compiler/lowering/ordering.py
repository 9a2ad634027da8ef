"""Largest elements, sorting, running sums and reductions of other dims than the last.

The engines work along rows; another dim is turned to the last place by DMA and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tenzing.compiler.graph import Node, is_narrow_integer
from tenzing.compiler.lowering.registry import as_rows, device_dtype, lowers, unsupported
from tenzing.compiler.lowering.rowwise import REDUCE
from tenzing.kernels.copies import copied
from tenzing.kernels.reductions import reduce_middle
from tenzing.kernels.scans import cumulative
from tenzing.kernels.topk import SEARCH_MAX, top_k
from tenzing.nki import NkiTensor

Rows = Callable[[NkiTensor], tuple[NkiTensor, ...]]


def _along(x: NkiTensor, dim: int, kernel: Rows) -> list[NkiTensor]:
    """``kernel`` on rows along ``dim``; its results keep the order of dims."""
    last = x.ndim - 1
    order = [*(d for d in range(x.ndim) if d != dim), dim]
    back = [order.index(d) for d in range(x.ndim)]
    turned = x if dim == last else copied(x.permute(order))
    results = []
    for rows in kernel(as_rows(turned)):
        whole = rows.reshape((*turned.shape[:-1], rows.shape[-1]))
        results.append(whole if dim == last else copied(whole.permute(back)))
    return results


def _check_length(node: Node, columns: int, k: int) -> None:
    """Long rows are searched in parts, whose best k are compared two lists at a time."""
    if columns > SEARCH_MAX < 2 * k:
        raise unsupported(node, f"for the first {k} of {columns} elements, more than {SEARCH_MAX}")


@lowers("top_k")
def _top_k(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    _check_length(node, node.inputs[0].shape[-1], node.attrs["k"])
    dtype = device_dtype(node.outputs[1].dtype)
    return list(top_k(as_rows(inputs[0]), node.attrs["k"], True, dtype))


@lowers("sort")
def _sort(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim, falling = node.attrs["dim"], node.attrs["descending"]
    size, dtype = node.inputs[0].shape[dim], device_dtype(node.outputs[1].dtype)
    _check_length(node, size, size)
    return _along(inputs[0], dim, lambda rows: top_k(rows, size, falling, dtype))


@lowers("argmax")
def _argmax(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dtype = device_dtype(node.output.dtype)
    return _along(inputs[0], node.attrs["dim"], lambda rows: top_k(rows, 1, True, dtype)[1:])


@lowers("cumulative")
def _cumulative(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    kind = node.attrs["kind"]
    if kind == "multiply" and is_narrow_integer(node.output.dtype):
        raise unsupported(node, "for running products of integers of 8 or 16 bits")
    return _along(inputs[0], node.attrs["dim"], lambda rows: (cumulative(rows, kind),))


@lowers("reduce")
def _reduce(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """Neighbouring dims are reduced in place, others after a turn."""
    shape, dims = node.inputs[0].shape, tuple(node.attrs["dims"])
    if not shape or math.prod(shape) == 0:
        raise unsupported(node, "for a tensor without elements or dims")
    kept = [d for d in range(len(shape)) if d not in dims]
    x = inputs[0]
    if dims != tuple(range(dims[0], dims[0] + len(dims))):
        x = copied(x.permute([*kept, *dims]))
        outer, inner = math.prod(shape[d] for d in kept), 1
    else:
        outer, inner = math.prod(shape[: dims[0]]), math.prod(shape[dims[-1] + 1 :])
    reduced = math.prod(shape[d] for d in dims)
    op = REDUCE[node.attrs["kind"]]
    return [reduce_middle(x.reshape((outer, reduced, inner)), op, x.dtype)]
