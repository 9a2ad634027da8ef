"""Matrix products and attention as kernel calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import as_rows, copied, device_dtype, lowers, unsupported
from tenzing.kernels import attention, linear
from tenzing.kernels.matmul import batched_matmul
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl

ACTIVATIONS: Final[Mapping[str, Any]] = {
    "": None, "relu": nl.relu, "gelu": nl.gelu, "gelu_tanh": nl.gelu_apprx_tanh, "silu": nl.silu,
    "tanh": nl.tanh, "logistic": nl.sigmoid,
}  # fmt: skip


@lowers("linear")
def _linear(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, weight, *bias = inputs
    if node.attrs["weight"] != "kn":
        raise unsupported(node, "for a weight laid out [n, k]")
    result = linear(
        as_rows(x), weight, bias[0] if bias else None, ACTIVATIONS[node.attrs["activation"]],
        None, device_dtype(node.output.dtype),
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

    done = attention(
        apart(q, a["heads"]), apart(k, a["kv_heads"]), apart(v, a["kv_heads"]),
        mask[0] if mask else None, a["scale"], v.dtype, device_dtype(node.output.dtype),
        a["causal"],
    )  # fmt: skip
    return [done if a["packed"] else copied(done.permute((0, 2, 1, 3)))]


@lowers("dot_general")
def _dot_general(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    """Any product as batches of matrices: strided views in, kernel per batch."""
    op = node.op
    left, right = inputs
    batch, contract = node.attrs["batch"], node.attrs["contract"]
    sides = []
    for side, x in enumerate((left, right)):
        free = op.free(side, x.ndim)  # type: ignore[attr-defined]
        groups = [batch[side], free, contract[side]]
        if side == 1 and _keeps_order(x, [batch[1], contract[1], free]):
            groups = [batch[1], contract[1], free]
        sides.append((_three_dims(x, groups), groups[-1] is not free or side == 0))
    (a, _), (b, transposed) = sides
    result = batched_matmul(a, b, transposed, device_dtype(node.output.dtype))
    return [result]


def _keeps_order(x: NkiTensor, groups: list[tuple[int, ...]]) -> bool:
    order = [d for group in groups for d in group]
    return order == list(range(x.ndim))


def _three_dims(x: NkiTensor, groups: list[tuple[int, ...]]) -> NkiTensor:
    order = [d for group in groups for d in group]
    shape = tuple(math.prod(x.shape[d] for d in group) for group in groups)
    if order == list(range(x.ndim)):
        return x.reshape(shape)
    return copied(x.permute(order)).reshape(shape)
