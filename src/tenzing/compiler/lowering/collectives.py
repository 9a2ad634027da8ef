"""Collectives inside one rank's program: the memory they touch.

The time between ranks is the fabric's and is added to the program's. Here a sum leaves the rank's
own tensor in place, and a gather writes what arrives from each rank, as if all sent the same.
"""

from __future__ import annotations

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import copied, dense, lowers
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa


@lowers("all_reduce")
def _all_reduce(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0]]


@lowers("all_gather")
def _all_gather(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, dim = inputs[0], node.attrs["dim"]
    out = dense(node.output.shape, x.dtype)
    for rank in range(node.attrs["ranks"]):
        start = rank * x.shape[dim]
        nisa.dma_copy(dst=out.slice(dim, start, start + x.shape[dim]), src=x)
    return [out]


@lowers("reduce_scatter")
def _reduce_scatter(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["dim"]
    return [copied(inputs[0].slice(dim, 0, node.output.shape[dim]))]
