"""StableHLO programs, in memory or in files, as models: NumPy arrays in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.hlo import read_module
from tenzing.compiler.frontends.hlo.mlir import PORTABLE
from tenzing.compiler.frontends.interface import ArrayInterface, Imported
from tenzing.compiler.graph import Array, Graph, Node, Value
from tenzing.compiler.ops import Constant
from tenzing.compiler.verify import verify
from tenzing.errors import UsageError

SUFFIXES: Final = (".mlir", ".mlirbc", ".stablehlo")
DIALECT: Final = "stablehlo."
INLINE_ELEMENTS: Final = 256  # a constant with more elements, not all equal, is a weight


def accepts(model: Any) -> bool:
    """Whether a model is a StableHLO program: a file of such a name, its text or its bytes."""
    if isinstance(model, bytes):
        return model.startswith(PORTABLE)
    if isinstance(model, Path):
        return model.suffix in SUFFIXES
    return isinstance(model, str) and (model.endswith(SUFFIXES) or DIALECT in model)


def import_program(
    model: Any, inputs: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
) -> Imported:
    """A program whose inputs and outputs are NumPy arrays; its large constants are weights.

    Without example inputs it is called with zeros. Raises UsageError for what is no program,
    UnsupportedOp for an operation without a rule.
    """
    source, name = _source(model)
    graph, weights = with_weights(read_module(source, name, what=name))
    names = tuple(f"output{k}" for k in range(len(graph.outputs)))
    interface = ArrayInterface(graph.inputs, names)
    if inputs or keywords:
        interface.arrays(inputs, keywords or {})
        return Imported(graph, weights, interface)
    zeros = tuple(np.zeros(value.shape, value.dtype) for value in graph.inputs)
    return Imported(graph, weights, interface, (zeros, {}))


def _source(model: Any) -> tuple[str | bytes, str]:
    if isinstance(model, bytes) or (isinstance(model, str) and not model.endswith(SUFFIXES)):
        return model, "program"
    path = Path(model)
    try:
        return path.read_bytes(), path.stem
    except OSError as error:
        raise UsageError(f"this file cannot be read: {error.strerror}", got=str(path)) from None


def with_weights(graph: Graph) -> tuple[Graph, dict[str, Array]]:
    """The graph with its large constants as parameters, and their arrays by name."""
    kept: list[Node] = []
    weights: dict[str, Array] = {}
    parameters: list[Value] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Constant) and not op.is_splat and op.array.size > INLINE_ELEMENTS:
            parameters.append(node.output)
            weights[node.output.name] = op.array
        else:
            kept.append(node)
    every = (*graph.parameters, *parameters)
    return verify(replace(graph, nodes=tuple(kept), parameters=every)), weights


__all__ = ["accepts", "import_program", "with_weights"]
