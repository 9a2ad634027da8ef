"""Collectives inside one rank's program: the memory they touch.

The time between ranks is the fabric's and is added to the program's. Here a sum leaves the rank's
own tensor in place, and the others write what arrives, as if all ranks sent the same to the first.
"""

from __future__ import annotations

import numpy as np

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import constant, dense, lowers
from tenzing.kernels.copies import copied
from tenzing.kernels.tiles import move
from tenzing.nki import NkiTensor


@lowers("axis_index")
def _axis_index(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [constant(node.op.reference()[0])]


@lowers("all_reduce")
def _all_reduce(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0]]


@lowers("all_gather")
def _all_gather(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [_received(node, inputs[0], node.attrs["dim"])]


def _received(node: Node, part: NkiTensor, dim: int) -> NkiTensor:
    """What every rank sends, one behind the other."""
    out = dense(node.output.shape, part.dtype)
    for rank in range(node.attrs["ranks"]):
        start = rank * part.shape[dim]
        move(out.slice(dim, start, start + part.shape[dim]), part)
    return out


@lowers("reduce_scatter")
def _reduce_scatter(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["dim"]
    return [copied(inputs[0].slice(dim, 0, node.output.shape[dim]))]


@lowers("all_to_all")
def _all_to_all(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["split_dim"]
    part = inputs[0].slice(dim, 0, inputs[0].shape[dim] // node.attrs["ranks"])
    return [_received(node, part, node.attrs["concat_dim"])]


@lowers("collective_permute")
def _collective_permute(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    if all(target for _, target in node.attrs["pairs"]):  # nobody sends to the first
        return [constant(np.zeros(node.output.shape, node.output.dtype))]
    return [copied(inputs[0])]
