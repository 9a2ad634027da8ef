"""A graph as text, for people, for golden files and for :mod:`tenzing.compiler.parser`.

One line per node. A constant of equal elements is a number, a small one a list, a larger one the
digest of its bytes, which :func:`to_text` adds at the end when asked for payloads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import F32, TF32, Graph, Node, TensorType, Value, dtype_name
from tenzing.compiler.ops import Access, Constant, Fused

LISTED_ELEMENTS: Final = 16  # constants up to this size are written out
DIGEST_DIGITS: Final = 16
WORD: Final = re.compile(r"[A-Za-z_][\w.\-]*")
NAME: Final = re.compile(r"[\w.\-]+")


def to_text(graph: Graph, *, scopes: bool = False, payloads: bool = False) -> str:
    """One line per value; ``scopes`` adds the path of the module each node came from.

    ``payloads`` adds the bytes of large constants, so that the text says everything.
    """
    lines = list(_graph_lines(graph, scopes, ""))
    if payloads:
        lines += [
            f'payload {digest(d)} "{base64.b64encode(d).decode()}"' for d in large_constants(graph)
        ]
    return "\n".join(lines) + "\n"


def digest(data: bytes) -> str:
    """The name of a large constant's bytes in a text."""
    return "sha256." + hashlib.sha256(data).hexdigest()[:DIGEST_DIGITS]


def element_text(dtype: np.dtype[Any], data: bytes) -> str | None:
    """The shortest number that reads back to these bits; None when no number does."""
    element = np.frombuffer(data, F32 if dtype == TF32 else dtype)[0]
    for text in (str(element), repr(element.item())):
        if element_bytes(dtype, text) == data:
            return text
    return None


def element_bytes(dtype: np.dtype[Any], text: str) -> bytes:
    """The bits of a number as :func:`element_text` writes it."""
    if dtype.kind in "iu":
        return np.array(int(text), dtype).tobytes()
    if dtype.kind == "b":
        return np.array(text == "True", dtype).tobytes()
    with np.errstate(over="ignore"):
        return np.array(float(text)).astype(F32 if dtype == TF32 else dtype).tobytes()


def large_constants(graph: Graph) -> list[bytes]:
    """Bytes of the constants that are written as digests, each once."""
    found: dict[bytes, None] = {}
    for node in graph.nodes:
        if isinstance(node.op, Constant) and "data" in _constant_attrs(node.op):
            found[node.op.data] = None
        for region in node.op.regions:
            found.update(dict.fromkeys(large_constants(region)))
    if graph.preparation is not None:
        found.update(dict.fromkeys(large_constants(graph.preparation)))
    return list(found)


def _graph_lines(graph: Graph, scopes: bool, indent: str) -> Iterator[str]:
    arguments = ", ".join(map(_value, graph.inputs))
    yield f"{indent}graph {_quoted(graph.name, NAME)}({arguments}) {{"
    inner = indent + "  "
    for value in graph.parameters:
        yield f"{inner}parameter {_value(value)}"
    for node in graph.nodes:
        yield from _node_lines(node, scopes, inner)
    for alias in graph.aliases:
        yield f"{inner}alias output {alias.output} -> %{_quoted(alias.target, NAME)}"
    yield f"{inner}return {_names(graph.outputs)}".rstrip()
    if graph.preparation is not None:
        yield f"{indent}}} prepared by"
        yield from _graph_lines(graph.preparation, scopes, indent)
    else:
        yield f"{indent}}}"


def _node_lines(node: Node, scopes: bool, indent: str) -> Iterator[str]:
    results = ", ".join(map(_value, node.outputs))
    left, _, types = results.partition(": ") if len(node.outputs) == 1 else (results, "", "")
    attrs = ", ".join(f"{key}={text}" for key, text in _attrs(node).items())
    line = f"{indent}{left} = {node.op.name}({_names(node.inputs)})"
    line += f" {{{attrs}}}" if attrs else ""
    line += f" : {types}" if types else ""
    line += f"  # {node.scope}" if scopes and node.scope else ""
    yield line
    for region in node.op.regions:
        yield from _graph_lines(region, False, indent + "  ")


def _attrs(node: Node) -> dict[str, str]:
    if isinstance(node.op, Constant):
        return _constant_attrs(node.op)
    if isinstance(node.op, Fused):  # the shapes are those of the results
        return {"tile": f"{node.op.rows}x{node.op.columns}", "reads": _attr(node.op.accesses)}
    defaults = {f.name: f.default for f in fields(node.op)}  # type: ignore[arg-type]
    return {
        key: _attr(value) for key, value in node.attrs.items()
        if not _is_region(value) and defaults.get(key, ...) != value
    }  # fmt: skip


def _constant_attrs(op: Constant) -> dict[str, str]:
    size = op.dtype.itemsize
    if len(op.data) <= LISTED_ELEMENTS * size:
        parts = [op.data[at : at + size] for at in range(0, len(op.data), size)]
        texts = [element_text(op.dtype, part) for part in parts]
        written = [text for text in texts if text is not None]
        if op.is_splat and len(written) == 1:
            return {"value": written[0]}
        if len(written) == len(parts):
            return {"values": "[" + ", ".join(written) + "]"}
    return {"data": digest(op.data)}


def _is_region(value: Any) -> bool:
    parts = value if isinstance(value, tuple) and value else (value,)
    return all(isinstance(part, Graph) for part in parts)


def _value(value: Value) -> str:
    return f"%{_quoted(value.name, NAME)}: {value.type}"


def _names(values: tuple[Value, ...]) -> str:
    return ", ".join(f"%{_quoted(value.name, NAME)}" for value in values)


def _quoted(text: str, plain: re.Pattern[str]) -> str:
    return text if plain.fullmatch(text) else json.dumps(text)


def _attr(value: Any) -> str:
    if isinstance(value, np.dtype):
        return dtype_name(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_attr(item) for item in value) + "]"
    if isinstance(value, str):
        return _quoted(value, WORD)
    if isinstance(value, TensorType | Access):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{f.name}={_attr(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({', '.join(parts)})"
    return repr(value)
