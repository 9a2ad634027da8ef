"""Row reductions and row composites of fused groups as instructions on tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import device_dtype, unsupported
from tenzing.compiler.lowering.tiles import Body, Tile, tiles
from tenzing.kernels.rows import normalise_rows, rms_rows, softmax_rows
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

REDUCE: Final[Mapping[str, Any]] = {
    "add": nl.add, "maximum": nl.maximum, "minimum": nl.minimum, "multiply": nl.multiply,
    "or": nl.maximum, "and": nl.minimum,  # of booleans, which are 0 and 1
}  # fmt: skip


def _whole(body: Body, node: Node, number: int, tile: Tile) -> NkiTensor:
    """An input with every column present."""
    value = node.inputs[number]
    dtype = tile.dtype if isinstance(tile, NkiTensor) else device_dtype(value.dtype)
    return body.widened(tile, node.inputs[0].shape[-1], dtype)


@tiles("reduce")
def _reduce(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    rank = len(node.inputs[0].shape)
    if tuple(node.attrs["dims"]) != (rank - 1,):
        raise unsupported(node, "for these dims inside a fused group")
    x = inputs[0]
    wide = body.widened(
        x, body.columns, x.dtype if isinstance(x, NkiTensor) else device_dtype(node.output.dtype)
    )
    dst = body.fresh(node, 1)
    nisa.tensor_reduce(dst=dst, op=REDUCE[node.attrs["kind"]], data=wide, axis=1)
    return dst


@tiles("layer_norm")
def _layer_norm(body: Body, node: Node, inputs: list[Tile]) -> list[Tile]:
    x, *vectors = [_whole(body, node, i, t) for i, t in enumerate(inputs)]
    scale, shift = (*vectors, None, None)[:2]
    found = normalise_rows(x, scale, shift, node.attrs["epsilon"], body.result_dtype(node))
    return list(found[: len(node.outputs)])


@tiles("rms_norm")
def _rms_norm(body: Body, node: Node, inputs: list[Tile]) -> list[Tile]:
    x, *vectors = [_whole(body, node, i, t) for i, t in enumerate(inputs)]
    scale = vectors[0] if vectors else None
    found = rms_rows(x, scale, node.attrs["epsilon"], body.result_dtype(node))
    return list(found[: len(node.outputs)])


@tiles("softmax")
def _softmax(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    return softmax_rows(_whole(body, node, 0, inputs[0]), body.result_dtype(node))


__all__ = ["REDUCE"]
