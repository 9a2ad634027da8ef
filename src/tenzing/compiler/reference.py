"""Runs a graph with the NumPy meaning of each operation (numerics = "graph")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tenzing.compiler.graph import Array, Graph, GraphError, Value

Weights = Mapping[str, Array]


def evaluate(graph: Graph, bound: Mapping[Value, Array]) -> tuple[Array, ...]:
    """Outputs of ``graph`` when its inputs and parameters hold ``bound``.

    Values are dropped after their last use, so memory follows what is live.
    """
    arrays = dict(bound)
    last_use = {value: index for index, node in enumerate(graph.nodes) for value in node.inputs}
    kept = set(graph.outputs)
    for index, node in enumerate(graph.nodes):
        results = node.op.reference(*(arrays[value] for value in node.inputs))
        arrays.update(zip(node.outputs, results, strict=True))
        for value in node.inputs:
            if last_use[value] == index and value not in kept:
                arrays.pop(value, None)
    return tuple(arrays[value] for value in graph.outputs)


def prepare(graph: Graph, weights: Weights) -> dict[str, Array]:
    """The arrays of the graph's parameters, computed from raw weights where it says so."""
    prepared = dict(weights)
    if graph.preparation is not None:
        raw = prepare(graph.preparation, weights)
        bound = {v: _bind(v, raw) for v in graph.preparation.parameters}
        results = evaluate(graph.preparation, bound)
        names = (value.name for value in graph.preparation.outputs)
        prepared.update(zip(names, results, strict=True))
    return {value.name: _bind(value, prepared) for value in graph.parameters}


def run(graph: Graph, inputs: Sequence[Array], weights: Weights) -> tuple[Array, ...]:
    """Outputs of ``graph`` for ``inputs`` in order and raw ``weights`` by name.

    Raises GraphError when an array is missing or does not have its declared type.
    """
    if len(inputs) != len(graph.inputs):
        raise GraphError(
            f"graph {graph.name} takes another number of inputs",
            got=len(inputs),
            allowed=len(graph.inputs),
        )
    return run_prepared(graph, inputs, prepare(graph, weights))


def run_prepared(graph: Graph, inputs: Sequence[Array], prepared: Weights) -> tuple[Array, ...]:
    """As :func:`run` with the arrays of the graph's own parameters, as ``prepare`` gives them."""
    given = {v.name: np.asarray(a) for v, a in zip(graph.inputs, inputs, strict=True)}
    bound = {value: _bind(value, given) for value in graph.inputs}
    bound |= {value: _bind(value, prepared) for value in graph.parameters}
    return evaluate(graph, bound)


def _bind(value: Value, arrays: Weights) -> Array:
    array = arrays.get(value.name)
    if array is None:
        raise GraphError(f"no array is bound to %{value.name}", allowed=value.type)
    if array.shape != value.shape or array.dtype != value.dtype:
        raise GraphError(
            f"array for %{value.name} has another type",
            got=f"{array.dtype.name}{list(array.shape)}",
            allowed=value.type,
        )
    return array
