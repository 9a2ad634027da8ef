"""Sorting by one key or several, and the largest elements."""

from __future__ import annotations

from functools import cmp_to_key
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.frontends.hlo.reduction import is_iota
from tenzing.compiler.graph import Graph, Value

INDEX: Final = np.dtype(np.int32)


@hlo("stablehlo.sort")
def _sort(reader: Reader, operation: Operation, *operands: Value) -> list[Value]:
    """By the least important key first: sorting keeps the order of equals."""
    (block,) = operation.blocks()
    keys = _keys(reader, reader.region(operation.name, block), len(operands))
    if not keys:
        raise reader.unsupported(operation, "by something else than its operands")
    dim = operation.integer("dimension", -1) % max(len(operands[0].shape), 1)
    found = list(operands)
    for number, descending in reversed(keys):
        key, order = reader.builder.emit(ops.Sort(dim, descending, INDEX), found[number])
        found = [
            key if place == number else _taken(reader, value, order, dim)
            for place, value in enumerate(found)
        ]
    return found


def _keys(reader: Reader, body: Graph, count: int) -> list[tuple[int, bool]]:
    """Operands that decide whether one row comes before another, and whether they descend.

    Found by trying: rows that differ in one operand show the keys, rows that differ in two in
    opposite ways show which of them is asked first.
    """

    def before(**smaller: bool) -> bool:
        numbers = [0.0] * (2 * count)
        for name, first in smaller.items():
            numbers[2 * int(name[1:]) + first] = 1.0
        return bool(reader.try_out(body, *numbers)[0])

    rising = {k: before(**{f"k{k}": True}) for k in range(count)}
    keys = [k for k in range(count) if rising[k] != before(**{f"k{k}": False})]

    def earlier(a: int, b: int) -> int:
        return -1 if before(**{f"k{a}": rising[a], f"k{b}": not rising[b]}) else 1

    return [(k, not rising[k]) for k in sorted(keys, key=cmp_to_key(earlier))]


def _taken(reader: Reader, value: Value, order: Value, dim: int) -> Value:
    if is_iota(reader, value, dim):  # an argsort: the places themselves
        return reader.convert(order, value.dtype)
    return reader.add(ops.TakeAlong(dim), value, order)


@hlo("chlo.top_k")
def _top_k(reader: Reader, operation: Operation, x: Value) -> tuple[Value, ...]:
    return reader.builder.emit(ops.TopK(operation.integer("k"), INDEX), x)
