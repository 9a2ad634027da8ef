"""Digests of graphs by content: equal where only names of values differ."""

from __future__ import annotations

import hashlib
from typing import Any

from tenzing.compiler.graph import Graph, Value
from tenzing.compiler.ops import Constant


def digest(graph: Graph) -> str:
    """A digest of a graph with the content of its constants; names of values do not matter."""
    known: dict[Value, str] = {}
    state = hashlib.sha256()
    for kind, values in (("input", graph.inputs), ("parameter", graph.parameters)):
        for value in values:
            known[value] = f"{kind}{len(known)}"
            state.update(f"{known[value]} {value.type}\n".encode())
    for node in graph.nodes:
        given = " ".join(known[v] for v in node.inputs)
        state.update(f"{op_line(node.op)} ({given})\n".encode())
        for value in node.outputs:
            known[value] = f"v{len(known)}"
            state.update(f"{value.type}\n".encode())
    state.update(" ".join(known[v] for v in graph.outputs).encode())
    return state.hexdigest()


def op_line(op: Any) -> str:
    """An operation with all its attributes, graphs and constants by their digests."""
    if isinstance(op, Constant):
        return f"constant {op.dtype} {op.shape} {hashlib.sha256(op.data).hexdigest()}"
    attrs = " ".join(f"{k}={digest(v) if isinstance(v, Graph) else v}" for k, v in op.attrs.items())
    return f"{op.name} {attrs}"


__all__ = ["digest", "op_line"]
