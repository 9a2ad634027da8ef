"""Matrix products and attention as kernel calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import as_rows, device_dtype, lowers, unsupported
from tenzing.compiler.ops import DotGeneral, GatedLinear, Linear
from tenzing.errors import KernelError
from tenzing.kernels import attention, attention_backward, gated_linear, linear, rotary
from tenzing.kernels.copies import copied
from tenzing.kernels.matmul import batched_matmul
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl

ACTIVATIONS: Final[Mapping[str, Any]] = {
    "": None, "relu": nl.relu, "gelu": nl.gelu, "gelu_tanh": nl.gelu_apprx_tanh, "silu": nl.silu,
    "tanh": nl.tanh, "logistic": nl.sigmoid,
}  # fmt: skip


@lowers("linear")
def _linear(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, Linear)
    x, weight, scale, bias, residual = op.parts(inputs)
    result = linear(
        as_rows(x), weight, bias, ACTIVATIONS[op.activation],
        None if residual is None else as_rows(residual), device_dtype(node.output.dtype),
        transpose_w=op.weight == "nk", scale=scale,
    )  # fmt: skip
    return [result]


@lowers("gated_linear")
def _gated_linear(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    op = node.op
    assert isinstance(op, GatedLinear)
    if op.weight != "kn":
        raise unsupported(node, "for a weight laid out [n, k]")
    (x, gate, first), (_, up, second) = op.sides(inputs)
    result = gated_linear(
        as_rows(x), gate, up, ACTIVATIONS[op.activation], (first, second),
        device_dtype(node.output.dtype),
    )  # fmt: skip
    return [result]


@lowers("attention")
def _attention(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    q, k, v, *mask = inputs
    a = node.attrs

    def apart(x: NkiTensor, heads: int) -> NkiTensor:
        if a["packed"]:
            return x.reshape((*x.shape[:2], heads, x.shape[2] // heads))
        return x.permute((0, 2, 1, 3))

    result = attention(
        apart(q, a["heads"]), apart(k, a["kv_heads"]), apart(v, a["kv_heads"]),
        mask[0] if mask else None, a["scale"], v.dtype, device_dtype(node.output.dtype),
        a["causal"], a["window"], a["soft_cap"], a["offset"],
        not a["packed"],
    )  # fmt: skip
    return [result]


@lowers("attention_backward")
def _attention_backward(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    q, k, v, grad, *mask = inputs
    a = node.attrs
    rows = [x.permute((0, 2, 1, 3)) for x in (q, k, v, grad)]
    found = attention_backward(
        *rows, mask[0] if mask else None, a["scale"], q.dtype, device_dtype(node.outputs[0].dtype),
        a["causal"],
    )  # fmt: skip
    return list(found)


@lowers("rotary")
def _rotary(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, cos, sin = inputs
    heads, interleaved = node.attrs["packed"], node.attrs["interleaved"]
    if heads:
        apart = x.reshape((*x.shape[:2], heads, x.shape[2] // heads))
        return [rotary(apart, cos, sin, interleaved=interleaved)]
    return [rotary(x.permute((0, 2, 1, 3)), cos, sin, True, interleaved)]


@lowers("dot_general")
def _dot_general(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """Any product as batches of matrices: strided views in, kernel per batch."""
    op = node.op
    assert isinstance(op, DotGeneral)
    sides = []
    for side, x in enumerate(inputs):
        sides.append(_matrices(x, op.batch[side], op.free(side, x.ndim), op.contract[side]))
    (a, depth_first_a), (b, depth_first_b) = sides
    dtype = device_dtype(node.output.dtype)
    return [batched_matmul(a, b, not depth_first_b, dtype, depth_first_a)]


def _matrices(
    x: NkiTensor, batch: tuple[int, ...], free: tuple[int, ...], contract: tuple[int, ...]
) -> tuple[NkiTensor, bool]:
    """[batch, free, contract] or [batch, contract, free], whichever needs no copy.

    Also whether the contraction comes first.
    """
    for groups in ((batch, contract, free), (batch, free, contract)):
        shape = tuple(math.prod(x.shape[d] for d in group) for group in groups)
        view = x.permute([d for group in groups for d in group])
        if shape[-1] > 1 and view.strides[-1] != 1:
            continue  # the DMA would move single elements
        with suppress(KernelError):
            return view.reshape(shape), groups[1] is contract
    order = [d for group in (batch, free, contract) for d in group]
    shape = tuple(math.prod(x.shape[d] for d in group) for group in (batch, free, contract))
    return copied(x.permute(order)).reshape(shape), False
