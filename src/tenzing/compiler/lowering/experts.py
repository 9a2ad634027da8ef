"""Mixtures of experts as kernel calls."""

from __future__ import annotations

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import device_dtype, lowers, unsupported
from tenzing.kernels.experts import expert_blocks, expert_order, expert_rows, take_rows
from tenzing.nki import NkiTensor


def _weights(node: Node, weight: NkiTensor) -> NkiTensor:
    if node.attrs["weight"] != "kn":
        raise unsupported(node, "for weights laid out [experts, n, k]")
    return weight


@lowers("expert_linear")
def _expert_linear(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, weight, index = inputs
    return [expert_rows(x, _weights(node, weight), index, device_dtype(node.output.dtype))]


@lowers("expert_blocks")
def _expert_blocks(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    x, weight, owner = inputs
    return [expert_blocks(x, _weights(node, weight), owner, device_dtype(node.output.dtype))]


@lowers("expert_order")
def _expert_order(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a = node.attrs
    blocks = node.outputs[2].shape[0]
    return list(expert_order(inputs[0], a["experts"], a["block"], a["repeat"], blocks))


@lowers("take_rows")
def _take_rows(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    return [take_rows(*inputs)]
