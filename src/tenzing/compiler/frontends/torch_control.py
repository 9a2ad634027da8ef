"""PyTorch's control flow operators: cond, while_loop and scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from tenzing.compiler.graph import Graph, GraphBuilder, Value, inline
from tenzing.compiler.ops import Case, Concatenate, Convert, Reshape, Slice, While


def _cond(
    builder: GraphBuilder, predicate: Value, then: Graph, otherwise: Graph,
    operands: Sequence[Value] = (),
) -> tuple[Value, ...]:  # fmt: skip
    flat = builder.add(Reshape(()), predicate)
    index = builder.add(Convert(np.dtype(np.int32)), flat)
    return builder.emit(Case((otherwise, then)), index, *operands)


def _while_loop(
    builder: GraphBuilder, condition: Graph, body: Graph, carried: Sequence[Value],
    fixed: Sequence[Value] = (),
) -> tuple[Value, ...]:  # fmt: skip
    return builder.emit(While(condition, body, len(carried)), *carried, *fixed)


def _scan(
    builder: GraphBuilder, step: Graph, start: Sequence[Value], rows: Sequence[Value],
    fixed: Sequence[Value] = (),
) -> tuple[Value, ...]:  # fmt: skip
    """Every turn written out: its number is the static length of the rows."""
    carried = list(start)
    collected: list[list[Value]] = [[] for _ in step.outputs[len(start) :]]
    for turn in range(rows[0].shape[0]):
        taken = [_row(builder, value, turn) for value in rows]
        results = inline(builder, step, [*carried, *taken, *fixed])
        carried = list(results[: len(start)])
        for column, value in zip(collected, results[len(start) :], strict=True):
            column.append(builder.add(Reshape((1, *value.shape)), value))
    return (*carried, *(builder.add(Concatenate(0), *column) for column in collected))


def _row(builder: GraphBuilder, value: Value, turn: int) -> Value:
    rest = value.shape[1:]
    zeros, ones = (0,) * len(rest), (1,) * len(value.shape)
    row = builder.add(Slice((turn, *zeros), (turn + 1, *rest), ones), value)
    return builder.add(Reshape(rest), row)


CONTROL: Final[Mapping[str, Callable[..., tuple[Value, ...]]]] = {
    "cond": _cond, "while_loop": _while_loop, "scan": _scan,
}  # fmt: skip

__all__ = ["CONTROL"]
