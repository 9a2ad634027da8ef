"""Random bits as kernel calls, and inside fused groups.

A group draws its words tile by tile in the order of its elements, so they are those of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tenzing.compiler.graph import Node, Value
from tenzing.compiler.lowering.registry import lowers
from tenzing.compiler.lowering.tiles import Body, Tile, tiles, widest
from tenzing.compiler.ops import RandomBits
from tenzing.compiler.ops.fused import Access, Fused
from tenzing.kernels.random import random_bits, seed_generator
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


@lowers("random_bits")
def _random_bits(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    shape = node.output.shape
    return [random_bits(inputs[0], math.prod(shape), node.attrs["offset"]).reshape(shape or (1,))]


@tiles("random_bits")
def _drawn(body: Body, node: Node, inputs: list[Tile]) -> Tile:
    """The next words: the group has set the seed."""
    width = body.columns if node.output.shape[-1] == widest(body.body) else 1
    tile = body.fresh(node, width, nl.uint32)
    nisa.rng(dst=tile, engine=nisa.engine.vector)
    return tile


def draw_of(op: Fused) -> Node | None:
    """The node of a group that draws: there is one at most."""
    return next((node for node in op.body.nodes if isinstance(node.op, RandomBits)), None)


def state_of(op: Fused, draw: Node) -> Value:
    """The input of the group's body that holds the state of its draw."""
    return op.body.producers()[draw.inputs[0]].inputs[0]


def start_drawing(op: Fused, draw: Node, inputs: Sequence[NkiTensor]) -> Mapping[Value, Tile]:
    """Set the seed before a group's first tile; what its body may take for the state's tile."""
    state = state_of(op, draw)
    number = op.body.inputs.index(state)
    flat = inputs[number].reshape((inputs[number].size,))
    offset = op.accesses[number].offset
    seed_generator(flat[offset : offset + 1], draw.attrs["offset"])
    return {state: 0}


def drawn_before(
    op: Fused, draw: Node, inputs: Sequence[NkiTensor]
) -> tuple[Fused, list[NkiTensor]]:
    """The group that reads its words from HBM: one whose tiles are not in their order."""
    number = op.body.inputs.index(state_of(op, draw))
    rows, columns = shape = draw.output.shape
    words = random_bits(inputs[number], rows * columns, draw.attrs["offset"])
    body = replace(
        op.body,
        inputs=(*op.body.inputs, draw.output),
        nodes=tuple(node for node in op.body.nodes if node is not draw),
    )
    accesses = (*op.accesses, Access(shape, (columns, 1)))
    return replace(op, accesses=accesses, body=body), [*inputs, words.reshape(shape)]


__all__ = ["draw_of", "drawn_before", "start_drawing", "state_of"]
