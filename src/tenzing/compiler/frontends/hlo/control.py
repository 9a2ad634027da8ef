"""Branches and loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Found, Reader, hlo
from tenzing.compiler.graph import Graph, Value, inline
from tenzing.compiler.ops.control import Case, While

INDEX: Final = np.dtype(np.int32)


@hlo("stablehlo.case")
def _case(reader: Reader, operation: Operation, index: Value) -> Found:
    branches, free = reader.regions("branch", operation.blocks())
    return _chosen(reader, reader.convert(index, INDEX), branches, free)


@hlo("stablehlo.if")
def _if(reader: Reader, operation: Operation, predicate: Value) -> Found:
    (then, otherwise), free = reader.regions("branch", operation.blocks())
    return _chosen(reader, reader.convert(predicate, INDEX), [otherwise, then], free)


def _chosen(
    reader: Reader, index: Value, branches: Sequence[Graph], free: Sequence[Value]
) -> tuple[Value, ...]:
    op, decided = Case(tuple(branches)), reader.number(index)
    if decided is not None:
        return inline(reader.builder, op.branch(int(decided)), free)
    return reader.builder.emit(op, index, *free)


@hlo("stablehlo.while")
def _while(reader: Reader, operation: Operation, *inputs: Value) -> Found:
    """What a turn returns as it got it does not change, so it is fixed and not carried."""
    (test, turn), free = reader.regions("loop", operation.blocks())
    moving = [k for k, value in enumerate(turn.outputs) if value != turn.inputs[k]]
    if not moving:
        raise reader.unsupported(operation, "that never changes anything")
    still = [k for k in range(len(turn.inputs)) if k not in moving]
    order = [*moving, *still]
    loop = While(_ordered(test, order, [0]), _ordered(turn, order, moving), len(moving))
    given = [*inputs, *free]
    results = list(inputs)
    found = reader.builder.emit(loop, *(given[k] for k in order))
    for place, value in zip(moving, found, strict=True):
        results[place] = value
    return results


def _ordered(graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The graph with its inputs in another order and some of its outputs."""
    return Graph(
        graph.name, tuple(graph.inputs[k] for k in inputs), (), graph.nodes,
        tuple(graph.outputs[k] for k in outputs),
    )  # fmt: skip
