"""A graph as text, for people and for golden files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from tenzing.compiler.graph import Graph, Node, Value, dtype_name


def to_text(graph: Graph, *, scopes: bool = False) -> str:
    """One line per value; ``scopes`` adds the path of the module each node came from."""
    return "\n".join(_graph_lines(graph, scopes, "")) + "\n"


def _graph_lines(graph: Graph, scopes: bool, indent: str) -> Iterator[str]:
    arguments = ", ".join(map(str, graph.inputs))
    yield f"{indent}graph {graph.name}({arguments}) {{"
    inner = indent + "  "
    for value in graph.parameters:
        yield f"{inner}parameter {value}"
    for node in graph.nodes:
        yield from _node_lines(node, scopes, inner)
    for alias in graph.aliases:
        yield f"{inner}alias output {alias.output} -> %{alias.target}"
    yield f"{inner}return {_names(graph.outputs)}"
    if graph.preparation is not None:
        yield f"{indent}}} prepared by"
        yield from _graph_lines(graph.preparation, scopes, indent)
    else:
        yield f"{indent}}}"


def _node_lines(node: Node, scopes: bool, indent: str) -> Iterator[str]:
    attrs, bodies = [], []
    defaults = {f.name: f.default for f in fields(node.op)}  # type: ignore[arg-type]
    for key, value in node.attrs.items():
        if isinstance(value, Graph):
            bodies.append(value)
        elif defaults.get(key, ...) != value:
            attrs.append(f"{key}={_attr(value)}")
    results = ", ".join(map(str, node.outputs))
    left, _, types = results.partition(": ") if len(node.outputs) == 1 else (results, "", "")
    line = f"{indent}{left} = {node.op.name}({_names(node.inputs)})"
    line += f" {{{', '.join(attrs)}}}" if attrs else ""
    line += f" : {types}" if types else ""
    line += f"  # {node.scope}" if scopes and node.scope else ""
    yield line
    for body in bodies:
        yield from _graph_lines(body, False, indent + "  ")


def _names(values: tuple[Value, ...]) -> str:
    return ", ".join(f"%{value.name}" for value in values)


def _attr(value: Any) -> str:
    if isinstance(value, np.dtype):
        return dtype_name(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_attr(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
