"""Data movement by DMA: reshapes, transposes, broadcasts, slices, look-ups."""

from __future__ import annotations

import math

import numpy as np

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import copied, dense, device_dtype, lowers, unsupported
from tenzing.kernels import gather_rows
from tenzing.nki import NkiTensor
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import new_tensor


@lowers("reshape")
def _reshape(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0].reshape(node.output.shape or (1,))]


@lowers("transpose")
def _transpose(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [copied(inputs[0].permute(node.attrs["permutation"]))]


@lowers("broadcast_in_dim")
def _broadcast(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x = inputs[0]
    shape, dims = node.output.shape, tuple(node.attrs["dims"])
    steps = [0] * len(shape)
    for source, target in enumerate(dims):
        if x.shape[source] == shape[target]:
            steps[target] = x.strides[source]
    view = x.ap([[s, n] for s, n in zip(steps, shape, strict=True)])
    return [copied(view)]


@lowers("constant")
def _constant(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    value = node.output
    contents = np.broadcast_to(np.asarray(node.attrs["value"]), value.shape or (1,))
    dtype = device_dtype(value.dtype)
    return [new_tensor(value.shape or (1,), dtype, nl.hbm, name="constant", origin="constant",
                       contents=np.ascontiguousarray(contents).astype(dtype))]  # fmt: skip


@lowers("concatenate")
def _concatenate(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["dim"]
    out = dense(node.output.shape, node.output.dtype)
    at = 0
    for x in inputs:
        nisa.dma_copy(dst=out.slice(dim, at, at + x.shape[dim]), src=x)
        at += x.shape[dim]
    return [out]


@lowers("slice")
def _slice(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    key = tuple(map(slice, a["start"], a["limit"], a["stride"]))
    return [copied(inputs[0][key])]


@lowers("gather")
def _gather(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    table, indices = inputs
    if node.attrs["dim"] != 0:
        raise unsupported(node, "along a dim that is not the first")
    flat = table.reshape((table.shape[0], math.prod(table.shape[1:])))
    return [gather_rows(flat, indices)]
