"""Data movement by DMA: reshapes, transposes, broadcasts, slices, look-ups."""

from __future__ import annotations

import math

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import constant, dense, device_dtype, lowers
from tenzing.kernels.copies import copied
from tenzing.kernels.fill import filled, ramp
from tenzing.kernels.tiles import move
from tenzing.nki import NkiTensor


@lowers("reshape")
def _reshape(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0].reshape(node.output.shape or (1,))]


@lowers("bitcast_convert")
def _bitcast(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [inputs[0].view(device_dtype(node.output.dtype))]


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
    return [constant(node.op.array)]  # type: ignore[attr-defined]


@lowers("concatenate")
def _concatenate(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    dim = node.attrs["dim"]
    out = dense(node.output.shape, node.output.dtype)
    at = 0
    for x in inputs:
        move(out.slice(dim, at, at + x.shape[dim]), x)
        at += x.shape[dim]
    return [out]


@lowers("slice")
def _slice(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    key = tuple(map(slice, a["start"], a["limit"], a["stride"]))
    return [copied(inputs[0][key])]


@lowers("reverse")
def _reverse(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """Negative steps: a descriptor may start anywhere."""
    x = inputs[0]
    turned = set(node.attrs["dims"])
    pattern = [
        [-step if dim in turned else step, size]
        for dim, (step, size) in enumerate(zip(x.strides, x.shape, strict=True))
    ]
    start = sum((x.shape[dim] - 1) * x.strides[dim] for dim in turned)
    return [copied(x.ap(pattern, offset=start))]


@lowers("pad")
def _pad(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, value = inputs
    shape, low = node.output.shape, node.attrs["low"]
    out = filled(value, math.prod(shape)).reshape(shape or (1,))
    inside = tuple(slice(n, n + size) for n, size in zip(low, node.inputs[0].shape, strict=True))
    move(out[inside] if inside else out, x)
    return [out]


@lowers("iota")
def _iota(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    shape, dim = node.output.shape, node.attrs["dim"]
    line = ramp(shape[dim], device_dtype(node.output.dtype))
    if math.prod(shape) == shape[dim]:
        return [line]
    steps = [[int(d == dim), size] for d, size in enumerate(shape)]
    return [copied(line.ap(steps))]
