"""Gather and scatter in their general form.

Every one is a look-up of rows: the operand is laid out as [rows, columns], where a row is what
lies behind the last indexed dim, and the indices become row numbers.  Look-ups along one dim keep
their own operations, which have better kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation
from tenzing.compiler.frontends.hlo.reader import Reader, hlo
from tenzing.compiler.frontends.hlo.reduction import combiner
from tenzing.compiler.graph import Shape, Value

INDEX: Final = np.dtype(np.int32)
SCATTER_INPUTS: Final = 3


@dataclass(frozen=True)
class Places:
    """How an index vector points into an operand: shared by gather and scatter."""

    operand: Shape
    sizes: Shape  # of the window at each place, 1 in collapsed and batching dims
    mapped: Shape  # operand dim of each number of the vector
    batching: Shape  # operand dims that run along with the indices
    index_batching: Shape  # their dims among the indices
    vector: int  # dim of the indices that holds the vector

    @property
    def pointed(self) -> list[int]:
        """Operand dims that the index decides."""
        return sorted({*self.mapped, *self.batching})

    def limit(self, dim: int) -> int:
        """The last place at which a window still fits."""
        return self.operand[dim] - self.sizes[dim]


def _vectors(reader: Reader, indices: Value, places: Places) -> Value:
    """The indices as [*batch, vector]."""
    indices = reader.convert(indices, INDEX)
    if places.vector == len(indices.shape):
        return reader.reshape(indices, (*indices.shape, 1))
    order = [d for d in range(len(indices.shape)) if d != places.vector]
    return reader.transpose(indices, (*order, places.vector))


def _starts(reader: Reader, vectors: Value, places: Places) -> dict[int, Value]:
    """The place in each pointed dim, as one number per index vector."""
    batch = vectors.shape[:-1]
    found = {}
    for number, dim in enumerate(places.mapped):
        zeros, ones = (0,) * len(batch), (1,) * len(vectors.shape)
        cut = ops.Slice((*zeros, number), (*batch, number + 1), ones)
        one = reader.add(cut, vectors) if vectors.shape[-1] > 1 else vectors
        found[dim] = reader.reshape(one, batch)
    for dim, along in zip(places.batching, places.index_batching, strict=True):
        position = along - (places.vector < along)
        found[dim] = reader.add(ops.Iota(batch, INDEX, position))
    return found


def _clamped(reader: Reader, start: Value, limit: int) -> Value:
    low, high = reader.splat(0, start), reader.splat(limit, start)
    return reader.add(ops.Clamp(), low, start, high)


def _joined(reader: Reader, starts: dict[int, Value], sizes: dict[int, int]) -> Value:
    """One row number from the places in several dims, row-major."""
    total: Value | None = None
    for dim, size in sizes.items():
        if total is None:
            total = starts[dim]
        else:
            scaled = reader.add(ops.Multiply(), total, reader.splat(size, total))
            total = reader.add(ops.Add(), scaled, starts[dim])
    assert total is not None
    return total


@hlo("stablehlo.gather")
def _gather(reader: Reader, operation: Operation, operand: Value, indices: Value) -> Value:
    from jaxlib.mlir.dialects import stablehlo

    numbers = stablehlo.GatherDimensionNumbers(operation.attribute("dimension_numbers"))
    places = Places(
        operand.shape, operation.integers("slice_sizes"), tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims), tuple(numbers.start_indices_batching_dims),
        numbers.index_vector_dim,
    )  # fmt: skip
    dropped = {*numbers.collapsed_slice_dims, *places.batching}
    window = [d for d in range(len(operand.shape)) if d not in dropped]
    vectors = _vectors(reader, indices, places)
    batch = vectors.shape[:-1]
    along = _along(places, vectors)
    if along is not None:
        return _take_along(reader, operation, operand, vectors, places, along)
    found = _rows(reader, operand, vectors, places)  # [*batch, *window sizes]
    found = reader.reshape(found, (*batch, *(places.sizes[d] for d in window)))
    return reader.transpose(found, _result_order(numbers.offset_dims, len(batch), len(window)))


def _result_order(offsets: Sequence[int], batch: int, window: int) -> list[int]:
    """For each dim of the result its dim among [*batch, *window]."""
    rest = iter(range(batch))
    inside = {place: batch + k for k, place in enumerate(sorted(offsets))}
    return [inside[d] if d in inside else next(rest) for d in range(batch + window)]


def _along(places: Places, vectors: Value) -> int | None:
    """The dim of a take_along: one index, all other dims run along in order."""
    if len(places.mapped) != 1 or set(places.sizes) != {1} or not places.batching:
        return None
    (dim,) = places.mapped
    others = [d for d in range(len(places.operand)) if d != dim]
    positions = [a - (places.vector < a) for a in places.index_batching]
    in_order = sorted(places.batching) == others and positions == sorted(positions)
    if (
        list(places.batching) != others
        or not in_order
        or len(vectors.shape) - 1 != len(places.operand)
    ):
        return None
    free = [d for d in range(len(vectors.shape) - 1) if d not in positions]
    return dim if free == [dim] else None


def _take_along(
    reader: Reader, operation: Operation, operand: Value, vectors: Value, places: Places, dim: int
) -> Value:
    numbers = reader.reshape(vectors, vectors.shape[:-1])
    taken = reader.add(ops.TakeAlong(dim), operand, _clamped(reader, numbers, places.limit(dim)))
    return reader.reshape(taken, operation.type.shape)


def _rows(reader: Reader, operand: Value, vectors: Value, places: Places) -> Value:
    """The window at each place, as [*batch, *window over all dims]."""
    starts = _starts(reader, vectors, places)
    batch = vectors.shape[:-1]
    free = [d for d in range(len(operand.shape)) if d not in starts]
    whole = [d for d in starts if d in places.mapped and places.limit(d) == 0 and
             places.sizes[d] != 1]  # fmt: skip
    for dim in whole:  # it always starts at 0
        del starts[dim]
        free.append(dim)
    free.sort()
    pointed = sorted(starts)
    partial = [d for d in free if places.sizes[d] != places.operand[d]]
    if partial:  # a window that starts at 0 of a dim that no index names
        limit = tuple(places.sizes[d] if d in partial else n for d, n in enumerate(operand.shape))
        zeros, ones = (0,) * len(limit), (1,) * len(limit)
        operand = reader.add(ops.Slice(zeros, limit, ones), operand)
    if not pointed:
        return reader.broadcast(operand, (*batch, *operand.shape),
                             range(len(batch), len(batch) + len(operand.shape)))  # fmt: skip
    held = {d: _clamped(reader, starts[d], places.limit(d)) if d in places.mapped else starts[d]
            for d in pointed}  # fmt: skip
    if len(pointed) == 1 and places.sizes[pointed[0]] == 1:
        return _one_dim(reader, operand, held[pointed[0]], pointed[0])
    return _many_dims(reader, operand, held, pointed, free, places)


def _one_dim(reader: Reader, operand: Value, place: Value, dim: int) -> Value:
    """The indices' dims in front of the others, and a dim of 1 where the index pointed."""
    found = reader.add(ops.Gather(dim), operand, place)
    count = len(place.shape)
    order = [*range(dim, dim + count), *range(dim), *range(dim + count, len(found.shape))]
    front = reader.transpose(found, order)
    sizes = [1 if d == dim else n for d, n in enumerate(operand.shape)]
    return reader.reshape(front, (*place.shape, *sizes))


def _many_dims(
    reader: Reader, operand: Value, starts: dict[int, Value], pointed: list[int], free: list[int],
    places: Places,
) -> Value:  # fmt: skip
    """Row numbers of every element of the window in the pointed dims."""
    batch = starts[pointed[0]].shape
    window = [places.sizes[d] for d in pointed]
    shape, lead = (*batch, *window), range(len(batch))
    row = _rows_of_windows(reader, starts, pointed, places)
    table = reader.transpose(operand, (*pointed, *free))
    rows = math.prod(operand.shape[d] for d in pointed)
    columns = [operand.shape[d] for d in free]
    table = reader.reshape(table, (rows, math.prod(columns)))
    found = reader.reshape(reader.add(ops.Gather(0), table, row), (*shape, *columns))
    order = {d: len(batch) + k for k, d in enumerate((*pointed, *free))}
    return reader.transpose(found, (*lead, *(order[d] for d in range(len(operand.shape)))))


@hlo("stablehlo.scatter")
def _scatter(reader: Reader, operation: Operation, *inputs: Value) -> Value:
    from jaxlib.mlir.dialects import stablehlo

    if len(inputs) != SCATTER_INPUTS:
        raise reader.unsupported(operation, "into several tensors at once")
    operand, indices, updates = inputs
    numbers = stablehlo.ScatterDimensionNumbers(operation.attribute("scatter_dimension_numbers"))
    kind = _update_kind(reader, operation)
    dropped = {*numbers.inserted_window_dims, *numbers.input_batching_dims}
    kept = [d for d in range(len(operand.shape)) if d not in dropped]
    window = dict(zip(kept, sorted(numbers.update_window_dims), strict=True))
    sizes = tuple(updates.shape[window[d]] if d in window else 1 for d in range(len(operand.shape)))
    places = Places(
        operand.shape, sizes, tuple(numbers.scattered_dims_to_operand_dims),
        tuple(numbers.input_batching_dims), tuple(numbers.scatter_indices_batching_dims),
        numbers.index_vector_dim,
    )  # fmt: skip
    vectors = _vectors(reader, indices, places)
    lead = [d for d in range(len(updates.shape)) if d not in numbers.update_window_dims]
    order = (*lead, *sorted(numbers.update_window_dims))
    turned = reader.reshape(reader.transpose(updates, order), (*vectors.shape[:-1], *sizes))
    if not places.mapped:
        raise reader.unsupported(operation, "without indices")
    return _written(reader, operand, vectors, turned, places, kind)


def _update_kind(reader: Reader, operation: Operation) -> str:
    """``add``, ``set`` or another combiner."""
    (block,) = operation.blocks()
    body = reader.region(operation.name, block)
    if not body.nodes and body.outputs[0] == body.inputs[1]:
        return "set"
    kind = combiner(reader, operation, block)
    if kind != "add":
        raise reader.unsupported(operation, f"with {kind} where only add and set are known")
    return kind


def _written(
    reader: Reader, operand: Value, vectors: Value, updates: Value, places: Places, kind: str
) -> Value:
    """Rows of the operand, in the pointed dims, written at their numbers; beyond is dropped."""
    starts = _starts(reader, vectors, places)
    free = [d for d in range(len(operand.shape)) if d not in starts]
    for dim in [d for d in free if places.sizes[d] != places.operand[d]]:
        starts[dim] = reader.add(ops.Constant.splat(0, vectors.shape[:-1], INDEX))
        free.remove(dim)
    pointed, batch = sorted(starts), vectors.shape[:-1]
    row = _row_numbers(reader, starts, pointed, places, batch)
    rows = math.prod(operand.shape[d] for d in pointed)
    columns = math.prod(operand.shape[d] for d in free)
    layout = (*pointed, *free)
    table = reader.reshape(reader.transpose(operand, layout), (rows, columns))
    lead = range(len(batch))
    turned = reader.transpose(updates, (*lead, *(len(batch) + d for d in layout)))
    new = reader.reshape(turned, (*row.shape, columns))
    written = reader.add(ops.Scatter(kind == "add"), table, row, new)
    shaped = reader.reshape(written, [operand.shape[d] for d in layout])
    return reader.transpose(shaped, [layout.index(d) for d in range(len(layout))])


def _row_numbers(
    reader: Reader, starts: dict[int, Value], pointed: list[int], places: Places, batch: Shape
) -> Value:
    """The row of every update element; -1, which is dropped, where its window leaves."""
    fits: Value | None = None
    for dim in (d for d in pointed if d in places.mapped):
        start = starts[dim]
        low = reader.add(ops.Compare("ge"), start, reader.splat(0, start))
        high = reader.add(ops.Compare("le"), start, reader.splat(places.limit(dim), start))
        inside = reader.add(ops.And(), low, high)
        fits = inside if fits is None else reader.add(ops.And(), fits, inside)
    assert fits is not None
    row = _rows_of_windows(reader, starts, pointed, places)
    outside = reader.splat(-1, row)
    fitting = reader.broadcast(fits, row.shape, range(len(batch)))
    return reader.add(ops.Select(), fitting, row, outside)


def _rows_of_windows(
    reader: Reader, starts: dict[int, Value], pointed: list[int], places: Places
) -> Value:
    """The row number of every element of every window in the pointed dims."""
    batch = starts[pointed[0]].shape
    shape = (*batch, *(places.sizes[d] for d in pointed))
    each = {}
    for number, dim in enumerate(pointed):
        wide = reader.broadcast(starts[dim], shape, range(len(batch)))
        if places.sizes[dim] > 1:
            inside = reader.add(ops.Iota(shape, INDEX, len(batch) + number))
            wide = reader.add(ops.Add(), wide, inside)
        each[dim] = wide
    return _joined(reader, each, {d: places.operand[d] for d in pointed})
