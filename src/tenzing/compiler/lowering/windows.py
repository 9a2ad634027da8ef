"""Convolutions and pooling as kernel calls on volumes of three spatial dims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tenzing.compiler.graph import Node, Shape
from tenzing.compiler.lowering.registry import device_dtype, lowers, unsupported
from tenzing.compiler.ops.window import LEAD, Convolution, Window
from tenzing.kernels.convolution import convolution
from tenzing.kernels.copies import copied
from tenzing.kernels.pooling import LOWEST, pool, unpool_max
from tenzing.kernels.windows import Geometry
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl

SPACE: Final = 3  # spatial dims of a volume
KINDS: Final[Mapping[str, Any]] = {
    "maximum": (nl.maximum, LOWEST), "minimum": (nl.minimum, -LOWEST), "add": (nl.add, 0.0),
}  # fmt: skip


def _triple(values: Shape, fill: int) -> tuple[int, int, int]:
    """Numbers of depth, rows and columns; a line is a volume of one plane of one row."""
    depth, row, column = (*(fill,) * (SPACE - len(values)), *values)
    return depth, row, column


def _geometry(node: Node, window: Window, taps: Shape, positions: Shape) -> Geometry:
    if not 1 <= len(taps) <= SPACE:
        raise unsupported(node, f"for {len(taps)} spatial dims")
    return Geometry(
        _triple(taps, 1), _triple(positions, 1), _triple(window.strides, 1),
        _triple(tuple(low for low, _ in window.padding), 0), _triple(window.dilation, 1),
        _triple(window.base_dilation, 1),
    )  # fmt: skip


@lowers("convolution")
def _convolution(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, Convolution)
    x, kernel, *bias = inputs
    taps, _, _ = op.kernel(kernel.shape)
    geometry = _geometry(node, op.window, taps, node.output.shape[LEAD:])
    rank = len(taps)
    if op.layout == "oi":
        kernel = copied(kernel.permute((*range(LEAD, LEAD + rank), 1, 0)))
    space = _triple(x.shape[LEAD:], 1)
    out = convolution(
        x.reshape((*x.shape[:LEAD], *space)),
        kernel.reshape((*geometry.taps, *kernel.shape[rank:])),
        bias[0] if bias else None, geometry, op.groups, device_dtype(node.output.dtype),
    )  # fmt: skip
    return [out]


def _rows(x: NkiTensor, spatial: int) -> NkiTensor:
    """[rows, d, h, w]."""
    lead = x.ndim - spatial
    return x.reshape((math.prod(x.shape[:lead]), *_triple(x.shape[lead:], 1)))


@lowers("reduce_window")
def _reduce_window(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    rank = len(a["size"])
    geometry = _geometry(node, a["window"], a["size"], node.output.shape[-rank:])
    kind, fill = KINDS[a["kind"]]
    return [pool(_rows(inputs[0], rank), kind, fill, geometry)]


@lowers("select_and_scatter")
def _select_and_scatter(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    rank = len(a["size"])
    geometry = _geometry(node, a["window"], a["size"], node.inputs[1].shape[-rank:])
    return [unpool_max(*(_rows(x, rank) for x in inputs), geometry)]
