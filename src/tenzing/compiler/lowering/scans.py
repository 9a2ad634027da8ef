"""Recurrences as kernel calls."""

from __future__ import annotations

from tenzing.compiler.graph import Node
from tenzing.compiler.lowering.registry import as_rows, lowers
from tenzing.kernels.state_space import linear_scan
from tenzing.nki import NkiTensor


@lowers("linear_scan")
def _linear_scan(node: Node, inputs: list[NkiTensor]) -> list[NkiTensor]:
    a, b, start = inputs
    return [linear_scan(as_rows(a), as_rows(b), start.reshape((start.size, 1)))]
