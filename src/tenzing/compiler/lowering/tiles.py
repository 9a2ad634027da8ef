"""The body of a fused group on SBUF tiles: one instruction, or a few, per operation.

A body value is a tile ``[rows, columns]`` or ``[rows, 1]`` (one column stands for all), or a
Python number that is the same everywhere.  The rules are in ``arithmetic`` and ``rowwise``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Graph, Node, Value, is_float, registering
from tenzing.compiler.lowering.registry import device_dtype, unsupported
from tenzing.compiler.ops import Constant
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

Tile = NkiTensor | float
TileRule = Callable[["Body", Node, list[Tile]], Tile | list[Tile]]

SAME_TILE: Final = ("reshape", "broadcast_in_dim")
TILE_RULES: Final[dict[str, TileRule]] = {}


def tiles(*names: str) -> Callable[[TileRule], TileRule]:
    """Register the rule of operations inside a group: tiles in, a tile per output back."""
    return registering(TILE_RULES, "tile rule", names)


class Body:
    """Evaluates a fused body on one block of rows and columns."""

    def __init__(self, body: Graph, rows: int, columns: int) -> None:
        self.body, self.rows, self.columns = body, rows, columns
        self.values: dict[Value, Tile] = {}
        users = body.users()
        returned = set(body.outputs)
        # a value that is only converted is written in the final dtype at once
        self.written_as = {
            value: users[value][0].outputs[0].dtype
            for node in body.nodes
            for value in node.outputs
            if value not in returned
            and len(users.get(value, ())) == 1
            and users[value][0].op.name == "convert"
            and is_float(value.dtype)
            and is_float(users[value][0].outputs[0].dtype)
        }

    def evaluate(self, nodes: Sequence[Node]) -> None:
        """Compute these nodes from values already known."""
        for node in nodes:
            result = self._node(node, [self.values[v] for v in node.inputs])
            found = result if isinstance(result, list) else [result]
            self.values.update(zip(node.outputs, found, strict=True))

    def _node(self, node: Node, inputs: list[Tile]) -> Tile | list[Tile]:
        name = node.op.name
        if name == "constant":
            return _splat(node)
        if name in SAME_TILE:
            return inputs[0]
        rule = TILE_RULES.get(name)
        if rule is None:
            raise unsupported(node, "inside a fused group")
        return rule(self, node, inputs)

    def result_dtype(self, node: Node) -> np.dtype[Any]:
        """The dtype in which the node's result is written."""
        value = node.outputs[0]
        return device_dtype(self.written_as.get(value, value.dtype))

    def fresh(self, node: Node, width: int, dtype: Any = None) -> NkiTensor:
        """A new tile for the node's result."""
        dtype = self.result_dtype(node) if dtype is None else dtype
        return nl.ndarray((self.rows, width), dtype=dtype, buffer=nl.sbuf)

    def filled(self, number: float, width: int = 1, dtype: Any = nl.float32) -> NkiTensor:
        """A tile of one number."""
        tile = nl.ndarray((self.rows, width), dtype=dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=number)
        return tile

    def widened(self, tile: Tile, width: int, dtype: Any) -> NkiTensor:
        """The tile with ``width`` columns in this dtype; itself when it has them."""
        if not isinstance(tile, NkiTensor):
            return self.filled(tile, width, dtype)
        if tile.shape[1] == width and tile.dtype == dtype:
            return tile
        wide = nl.ndarray((self.rows, width), dtype=dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=wide, src=spread(tile, width))
        return wide


def widest(body: Graph) -> int:
    """Columns of a group's body: more than one, unless every value has one per row."""
    return max((v.shape[-1] for v in body.values() if len(v.shape) > 1), default=1)


def spread(tile: NkiTensor, width: int) -> NkiTensor:
    """A view that repeats a single column."""
    return tile if tile.shape[1] == width else tile.broadcast(1, width)


def width_of(tiles_given: Sequence[Tile]) -> int:
    """Columns that an operation on these tiles yields."""
    return max((t.shape[1] for t in tiles_given if isinstance(t, NkiTensor)), default=1)


def _splat(node: Node) -> float:
    op = node.op
    assert isinstance(op, Constant)
    if not op.is_splat:
        raise unsupported(node, "inside a fused group")
    return int(op.number) if op.dtype.kind in "iub" else op.number


__all__ = ["TILE_RULES", "Body", "Tile", "spread", "tiles", "widest", "width_of"]
