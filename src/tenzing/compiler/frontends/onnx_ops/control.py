"""ONNX control flow, sequences and optionals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.onnx_ops.movement import parts_of
from tenzing.compiler.frontends.onnx_ops.translator import Item, Region, Translator, onnx
from tenzing.compiler.graph import BOOL, TensorType, Value
from tenzing.compiler.verify import verify

INDEX: Final = np.dtype(np.int64)
INT32: Final = np.dtype(np.int32)
MOST_TURNS: Final = 4096  # of a loop that is written out
LOOP_STATE: Final = 2  # the turn's number and the condition, before what a body carries


@onnx("If")
def _if(t: Translator, condition: Value, *, then_branch: Region, else_branch: Region) -> Item:
    known = t.known(condition)
    if known is not None:
        return tuple((then_branch if known.reshape(-1)[0] else else_branch).inline(()))
    captured = {**then_branch.captured(), **else_branch.captured()}
    branches = []
    for region in (else_branch, then_branch):
        builder, outputs = region.apart((), captured)
        if not all(isinstance(v, Value) for v in outputs):
            raise t.unsupported("a branch that yields a sequence and depends on data")
        branches.append(verify(builder.build(outputs)))
    kinds = [tuple(v.type for v in branch.outputs) for branch in branches]
    if kinds[0] != kinds[1] and condition in t.knowledge.values:
        chosen = then_branch if t.number(condition, "the branch taken") else else_branch
        return tuple(chosen.inline(()))
    if kinds[0] != kinds[1]:
        raise t.unsupported(
            "branches yield different shapes, so a shape depends on data",
            got=" or ".join(", ".join(map(str, kind)) for kind in kinds),
        )  # fmt: skip
    index = t.convert(t.reshape(condition, ()), INT32)
    return t.emit_all(ops.Case(tuple(branches)), index, *captured.values())


@onnx("Loop")
def _loop(
    t: Translator, count: Value | None, condition: Value | None, *carried: Item, body: Region
) -> Item:
    turns = _turns(t, count)
    first = True if condition is None else _flag(t, condition)
    if turns is not None and first is not None:
        done = _written_out(t, turns, first, carried, body)
        if done is not None:
            return done
    return _while(t, count, condition, carried, body)


def _turns(t: Translator, count: Value | None) -> int | None:
    """The number of turns, as far as it is known: without a count, as many as are allowed."""
    if count is None:
        return MOST_TURNS
    if count in t.knowledge.values:
        return int(t.number(count, "the number of turns"))
    return None


def _flag(t: Translator, condition: Value) -> bool | None:
    found = t.knowledge.values.get(condition)
    if found is None:
        return None
    return bool(t.number(condition, "the condition of the loop"))


def _written_out(
    t: Translator, turns: int, going: bool, carried: Sequence[Item], body: Region
) -> Item:
    """One body after another; None when a condition depends on data."""
    state = list(carried)
    columns: list[list[Value]] = []
    mark = len(t.builder.nodes)
    turn = 0
    while going and turn < turns:
        number, flag = t.constant(np.int64(turn)), t.constant(np.bool_(True))
        again, *results = body.inline((number, flag, *state))
        state = results[: len(carried)]
        rows = results[len(carried) :]
        columns = columns or [[] for _ in rows]
        for column, row in zip(columns, rows, strict=True):
            column.append(row)
        known = _flag(t, again)
        if known is None:
            del t.builder.nodes[mark:]
            return None
        going, turn = known, turn + 1
        if turn == MOST_TURNS:
            raise t.unsupported("a loop of so many turns", got=turn)
    if not columns and body.outputs > len(carried) + 1:
        raise t.unsupported("a loop of no turns that collects rows")
    return (*state, *(_stacked(t, column, 0) for column in columns))


def _stacked(t: Translator, rows: Sequence[Value], dim: int) -> Value:
    thin = [t.reshape(v, (*v.shape[:dim], 1, *v.shape[dim:])) for v in rows]
    return t.emit(ops.Concatenate(dim), *thin) if len(thin) > 1 else thin[0]


def _while(
    t: Translator, count: Value | None, condition: Value | None, carried: Sequence[Item],
    body: Region,
) -> Item:  # fmt: skip
    """A loop whose end depends on data; the rows it would collect have no static number."""
    if body.outputs > len(carried) + 1:
        raise t.unsupported("a loop that collects a number of rows that depends on data")
    if not all(isinstance(v, Value) for v in carried):
        raise t.unsupported("a loop that carries sequences and depends on data")
    going = t.constant(np.bool_(True)) if condition is None else t.reshape(condition, ())
    start = [t.constant(np.int64(0)), going]
    endless = np.int64(np.iinfo(np.int32).max)
    limit = t.constant(endless) if count is None else t.reshape(count, ())
    captured = body.captured()
    own = [v.type for v in (*start, *carried)]
    builder, outputs = body.apart(own, captured)
    builder.input("most_turns", (), INDEX)
    turn = builder.add(ops.Add(), builder.inputs[0], builder.add(ops.Constant.of(np.int64(1))))
    again = builder.add(ops.Reshape(()), outputs[0])
    turned = verify(builder.build([turn, again, *outputs[1:]]))
    tester = type(builder)("condition", type(builder.knowledge)())
    taken = [tester.input(v.name, v.shape, v.dtype) for v in (*turned.inputs,)]
    below = tester.add(ops.Compare("lt"), taken[0], taken[-1])
    test = verify(tester.build([tester.add(ops.And(), below, taken[1])]))
    op = ops.While(test, turned, LOOP_STATE + len(carried))
    return t.emit_all(op, *start, *carried, *captured.values(), limit)[LOOP_STATE:]


@onnx("Scan", since=9)
def _scan(
    t: Translator, *values: Value, body: Region, num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (), scan_output_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (), scan_output_directions: Sequence[int] = (),
) -> Item:  # fmt: skip
    """Every turn written out: its number is the static length of the rows."""
    held = len(values) - num_scan_inputs
    state, rows = list(values[:held]), values[held:]
    axes = [t.axis(a, len(v.shape)) for a, v in
            zip(scan_input_axes or [0] * len(rows), rows, strict=True)]  # fmt: skip
    back = scan_input_directions or [0] * len(rows)
    turns = rows[0].shape[axes[0]]
    columns: list[list[Value]] = []
    for turn in range(turns):
        taken = [_line(t, v, a, turns - 1 - turn if b else turn)
                 for v, a, b in zip(rows, axes, back, strict=True)]  # fmt: skip
        results = body.inline((*state, *taken))
        state = results[:held]
        columns = columns or [[] for _ in results[held:]]
        for column, row in zip(columns, results[held:], strict=True):
            column.append(row)
    out_axes = scan_output_axes or [0] * len(columns)
    out_back = scan_output_directions or [0] * len(columns)
    stacked = [
        _stacked(t, column[::-1] if b else column, t.axis(a, len(column[0].shape) + 1))
        for column, a, b in zip(columns, out_axes, out_back, strict=True)
    ]
    return (*state, *stacked)


def _line(t: Translator, x: Value, dim: int, at: int) -> Value:
    return t.reshape(cut(t, x, dim, at, at + 1), (*x.shape[:dim], *x.shape[dim + 1 :]))


@onnx("Scan", since=8)
def _scan_batched(
    t: Translator, lengths: Value | None, *values: Value, body: Region, num_scan_inputs: int,
    directions: Sequence[int] = (),
) -> Item:  # fmt: skip
    """Version 8: a leading batch dim, over which everything repeats."""
    if lengths is not None:
        raise t.unsupported("a scan over rows of several lengths")
    batch = values[0].shape[0]
    each = [_scan(t, *(_line(t, v, 0, i) for v in values), body=body,
                  num_scan_inputs=num_scan_inputs, scan_input_directions=directions)
            for i in range(batch)]  # fmt: skip
    return tuple(_stacked(t, column, 0) for column in zip(*each, strict=True))


# -- sequences: their length is known while the graph is built ------------------------------------


@onnx("SequenceConstruct")
def _construct(t: Translator, *values: Value) -> Item:
    return values


@onnx("SequenceEmpty")
def _empty(t: Translator, *, dtype: int = 1) -> Item:
    return ()


@onnx("SequenceInsert")
def _insert(t: Translator, items: Item, value: Value, at: Value | None = None) -> Item:
    place = t.number(at, "the position in the sequence", len(items))
    found = list(items)
    found.insert(place, value)
    return tuple(found)


@onnx("SequenceErase")
def _erase(t: Translator, items: Item, at: Value | None = None) -> Item:
    found = list(items)
    found.pop(t.number(at, "the position in the sequence", -1))
    return tuple(found)


@onnx("SequenceAt")
def _at(t: Translator, items: Item, at: Value) -> Item:
    return items[t.number(at, "the position in the sequence")]


@onnx("SequenceLength")
def _length(t: Translator, items: Item) -> Item:
    return t.constant(np.int64(len(items)))


@onnx("ConcatFromSequence")
def _concat_sequence(t: Translator, items: Item, *, axis: int, new_axis: int = 0) -> Item:
    rank = len(items[0].shape)
    if new_axis:
        return _stacked(t, items, t.axis(axis, rank + 1))
    return t.emit(ops.Concatenate(t.axis(axis, rank)), *items)


@onnx("SplitToSequence", since=11)
def _split_sequence(
    t: Translator, x: Value, split: Value | None = None, *, axis: int = 0, keepdims: int = 1
) -> Item:
    dim = t.axis(axis, len(x.shape))
    total = x.shape[dim]
    sizes = [1] * total if split is None else list(t.ints(split, "the sizes of the parts") or ())
    if split is not None and not split.shape:
        size = sizes[0]
        sizes = [min(size, total - at) for at in range(0, total, size)]
    parts = parts_of(t, x, dim, sizes)
    if split is None and not keepdims:
        return tuple(_line(t, part, dim, 0) for part in parts)
    return parts


@onnx("Optional")
def _optional(t: Translator, x: Item = None, **_: Any) -> Item:
    return (x,) if isinstance(x, tuple) else x


@onnx("OptionalGetElement")
def _optional_element(t: Translator, x: Item) -> Item:
    if x is None:
        raise t.unsupported("the content of an optional that holds none")
    return (x,) if isinstance(x, tuple) else x


@onnx("OptionalHasElement")
def _optional_present(t: Translator, x: Item = None) -> Item:
    return t.splat(x is not None, TensorType((), BOOL))
