"""Convolutions and pooling as kernel calls on images of two spatial dims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tenzing.compiler.graph import Node, Shape
from tenzing.compiler.lowering.registry import copied, device_dtype, lowers, unsupported
from tenzing.compiler.ops.window import LEAD, Convolution, Window
from tenzing.kernels.convolution import convolution
from tenzing.kernels.pooling import LOWEST, pool, unpool_max
from tenzing.kernels.windows import Geometry
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl

PLANE: Final = 2  # spatial dims of an image
KINDS: Final[Mapping[str, Any]] = {
    "maximum": (nl.maximum, LOWEST), "minimum": (nl.minimum, -LOWEST), "add": (nl.add, 0.0),
}  # fmt: skip


def _pair(values: Shape, fill: int) -> tuple[int, int]:
    """A vertical and a horizontal number; a line is an image of one row."""
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def _geometry(node: Node, window: Window, taps: Shape, positions: Shape) -> Geometry:
    if not 1 <= len(taps) <= PLANE:
        raise unsupported(node, f"for {len(taps)} spatial dims")
    return Geometry(
        _pair(taps, 1), _pair(positions, 1), _pair(window.strides, 1),
        _pair(tuple(low for low, _ in window.padding), 0), _pair(window.dilation, 1),
        _pair(window.base_dilation, 1),
    )  # fmt: skip


def _plane(x: NkiTensor, spatial: int) -> NkiTensor:
    """Spatial dims as two."""
    return x if spatial == PLANE else x.reshape((*x.shape[:-1], 1, x.shape[-1]))


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
    if rank == 1:
        kernel = kernel.reshape((1, *kernel.shape))
    out = convolution(_plane(x, rank), kernel, bias[0] if bias else None, geometry, op.groups,
                      device_dtype(node.output.dtype))  # fmt: skip
    return [out]


def _rows(x: NkiTensor, spatial: int) -> NkiTensor:
    """[rows, h, w]."""
    rows = math.prod(x.shape[: x.ndim - spatial])
    return _plane(x.reshape((rows, *x.shape[x.ndim - spatial :])), spatial)


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
