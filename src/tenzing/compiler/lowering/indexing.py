"""Operations whose positions come from data, as DMAs that follow index tiles."""

from __future__ import annotations

import math
from typing import Final

from tenzing.compiler.graph import Node, Shape
from tenzing.compiler.lowering.registry import (
    as_rows,
    lowers,
    lowers_in_place,
    unsupported,
)
from tenzing.kernels.copies import copied
from tenzing.kernels.indexing import (
    element_numbers,
    gather_columns,
    gather_rows,
    row_numbers,
    scatter_add_rows,
    scatter_rows,
    window_rows,
)
from tenzing.nki import NkiTensor

COLUMNS_ON_CHIP: Final = 4096  # rows up to here are loaded whole to pick elements from
PATTERN_DIMS: Final = 4  # of one iota


def _sides(shape: Shape, dim: int) -> tuple[int, int, int]:
    """Elements before, along and after a dim."""
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


@lowers("gather")
def _gather(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    table, indices = inputs
    outer, size, inner = _sides(node.inputs[0].shape, node.attrs["dim"])
    rows = table.reshape((outer * size, inner))
    if outer == 1:
        return [gather_rows(rows, indices)]
    return [gather_rows(rows, row_numbers(indices, outer, size))]


@lowers("take_along")
def _take_along(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, indices = inputs
    dim, shape, taken = node.attrs["dim"], node.inputs[0].shape, node.inputs[1].shape
    x = _cut_to(x, taken, dim)
    last = dim == len(shape) - 1
    if last and shape[dim] <= COLUMNS_ON_CHIP:
        return [gather_columns(as_rows(x), as_rows(indices))]
    outer, count, inner = _sides(taken, dim)
    place = element_numbers(indices.reshape((outer, count, inner)), shape[dim], inner)
    return [gather_rows(x.reshape((outer * shape[dim] * inner, 1)), place)]


def _cut_to(x: NkiTensor, sizes: Shape, dim: int) -> NkiTensor:
    """The part of x that indices of these sizes can reach."""
    window = tuple(slice(0, x.shape[d] if d == dim else n) for d, n in enumerate(sizes))
    whole = all(d == dim or n == x.shape[d] for d, n in enumerate(sizes))
    return x if whole else copied(x[window])


@lowers("scatter")
def _scatter(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return _scatter_in_place(node, [copied(inputs[0]), *inputs[1:]])


@lowers_in_place("scatter")
def _scatter_in_place(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    table, indices, updates = inputs
    shape = node.inputs[0].shape
    columns = math.prod(shape[1:])
    kernel = scatter_add_rows if node.attrs["accumulate"] else scatter_rows
    kernel(table.reshape((shape[0], columns)), indices, updates.reshape((indices.size, columns)))
    return [table]


@lowers("dynamic_slice")
def _dynamic_slice(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, position = inputs
    rows, index, _ = _window(node, x, position, node.output.shape)
    return [gather_rows(rows, index)]


@lowers("dynamic_update_slice")
def _dynamic_update_slice(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return _update_in_place(node, [copied(inputs[0]), *inputs[1:]])


@lowers_in_place("dynamic_update_slice")
def _update_in_place(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, update, position = inputs
    rows, index, columns = _window(node, x, position, node.inputs[1].shape)
    scatter_rows(rows, index, update.reshape((index.size, columns)))
    return [x]


def _window(
    node: Node, x: NkiTensor, position: NkiTensor, sizes: Shape
) -> tuple[NkiTensor, NkiTensor, int]:
    """The tensor as rows, the rows that a window covers, and their width."""
    shape = node.inputs[0].shape
    cut = [d for d, (large, small) in enumerate(zip(shape, sizes, strict=True)) if large != small]
    depth = cut[-1] + 1 if cut else 1
    if depth > PATTERN_DIMS:
        raise unsupported(node, f"that moves a window in dim {depth - 1}")
    columns = math.prod(shape[depth:])
    index = window_rows(position, shape[:depth], sizes[:depth])
    return x.reshape((math.prod(shape[:depth]), columns)), index, columns
