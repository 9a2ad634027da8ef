"""ATen operations that read or write at positions that come from data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.elementwise import combine, positive_index, truth
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import BOOL, Shape, TensorType, Value

INDEX: Final = np.dtype(np.int64)
COMPARED_MAX: Final = 16  # indices per row that are compared with every place
SUMS: Final = ("sum", "add")


@aten("embedding.default")
def _embedding(t: Translator, table: Value, indices: Value, *_: object, **__: object) -> Result:
    return t.emit(ops.Gather(0), table, indices)


@aten("index_select.default")
def _index_select(t: Translator, x: Value, dim: int, index: Value) -> Result:
    if not x.shape:
        return x
    dim = t.dim(dim, len(x.shape))
    flat = t.reshape(positive_index(t, index, x.shape[dim]), (index.type.elements,))
    return t.emit(ops.Gather(dim), x, flat)


@aten("take.default")
def _take(t: Translator, x: Value, index: Value) -> Result:
    flat = t.reshape(x, (x.type.elements,))
    return t.emit(ops.Gather(0), flat, positive_index(t, index, x.type.elements))


@aten("gather.default")
def _gather(t: Translator, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Result:
    if not x.shape:
        return x
    dim = t.dim(dim, len(x.shape))
    line = _same_along_others(t, index, dim)
    others = index.shape[:dim] == x.shape[:dim] and index.shape[dim + 1 :] == x.shape[dim + 1 :]
    if line is not None and others and len(x.shape) > 1:
        return t.emit(ops.Gather(dim), x, line)
    return t.emit(ops.TakeAlong(dim), x, index)


def _same_along_others(t: Translator, index: Value, dim: int) -> Value | None:
    """The line of indices when all lines along ``dim`` are one, repeated by a broadcast."""
    maker = t.builder.maker(index)
    if maker is None or not isinstance(maker.op, ops.BroadcastInDim):
        return None
    source = maker.inputs[0]
    wide = [d for d, n in zip(maker.op.dims, source.shape, strict=True) if n > 1]
    if wide not in ([dim], []) or source.type.elements != index.shape[dim]:
        return None
    return t.reshape(source, (index.shape[dim],))


@aten("index.Tensor", "_unsafe_index.Tensor")
def _index(t: Translator, x: Value, indices: Sequence[Value | None]) -> Result:
    places, given = _chosen(t, indices)
    together = places == list(range(places[0], places[0] + len(places)))
    first = places[0] if together else 0
    if not together:
        x = _to_front(t, x, places)
    last = first + len(places)
    sizes = x.shape[first:last]
    flat = t.reshape(x, (*x.shape[:first], math.prod(sizes), *x.shape[last:]))
    shape: Shape = np.broadcast_shapes(*(index.shape for index in given))
    return t.emit(ops.Gather(first), flat, _linear_index(t, given, sizes, shape))


def _chosen(t: Translator, indices: Sequence[Value | None]) -> tuple[list[int], list[Value]]:
    places = [d for d, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    if any(index.dtype == BOOL for index in given):
        raise t.unsupported(
            "indexing by a boolean tensor gives a shape that depends on data",
            next_step="use torch.where, or multiply by the mask",
        )
    return places, given


def _front(places: Sequence[int], rank: int) -> list[int]:
    return [*places, *(d for d in range(rank) if d not in places)]


def _to_front(t: Translator, x: Value, places: Sequence[int]) -> Value:
    return t.transpose(x, _front(places, len(x.shape)))


@aten("index_put.default", "_unsafe_index_put.default", "_index_put_impl.default")
def _index_put(
    t: Translator,
    x: Value,
    indices: Sequence[Value | None],
    values: Value,
    accumulate: bool = False,
    unsafe: bool = False,
) -> Result:
    masks = [index for index in indices if index is not None and index.dtype == BOOL]
    if masks and len(masks) == len(indices) == 1 and not accumulate:
        return _put_where(t, x, masks[0], values)
    places, given = _chosen(t, indices)
    first, depth = places[0], len(places)
    lead: Shape = np.broadcast_shapes(*(index.shape for index in given))
    order = list(range(len(x.shape)))
    if places != list(range(first, first + depth)):
        order, first = _front(places, len(x.shape)), 0
    turned = t.transpose(x, order)
    sizes, kept = turned.shape[first : first + depth], turned.shape[first + depth :]
    seen = t.tensor(values, (*turned.shape[:first], *lead, *kept), x.dtype)
    lines = (*turned.shape[:first], math.prod(lead), *kept)
    flat = t.reshape(turned, (*turned.shape[:first], math.prod(sizes), *kept))
    place = t.reshape(_linear_index(t, given, sizes, lead), (math.prod(lead),))
    done = scatter_lines(t, flat, first, place, t.reshape(seen, lines), accumulate)
    return t.transpose(t.reshape(done, turned.shape), [order.index(d) for d in range(len(order))])


def _put_where(t: Translator, x: Value, mask: Value, values: Value) -> Value:
    """``x[mask] = values`` for one value per masked place, or per row of them."""
    rest = x.shape[len(mask.shape) :]
    if values.shape not in ((), (1,), rest, (1, *rest)):
        raise t.unsupported(
            "writing a number of values that depends on data", got=values.type,
            next_step="use torch.where or masked_scatter",
        )  # fmt: skip
    wide = t.reshape(mask, (*mask.shape, *(1 for _ in rest)))
    chosen = t.broadcast(wide, x.shape)
    return t.emit(ops.Select(), chosen, t.tensor(values, x.shape, x.dtype), x)


def _linear_index(
    t: Translator, indices: Sequence[Value], sizes: Sequence[int], shape: Sequence[int]
) -> Value:
    total: Value | None = None
    for index, size in zip(indices, sizes, strict=True):
        place = t.broadcast(positive_index(t, index, size), shape)
        if total is not None:
            scaled = t.emit(ops.Multiply(), total, t.splat(size, total.type))
            place = t.emit(ops.Add(), scaled, t.convert(place, total.dtype))
        total = place
    if total is None:
        raise t.unsupported("indexing without an index")
    return total


@aten("scatter.src")
def _scatter(t: Translator, x: Value, dim: int, index: Value, source: Value) -> Result:
    return _scattered(t, x, dim, index, source, accumulate=False)


@aten("scatter_add.default")
def _scatter_add(t: Translator, x: Value, dim: int, index: Value, source: Value) -> Result:
    return _scattered(t, x, dim, index, source, accumulate=True)


@aten("index_add.default")
def _index_add(
    t: Translator, x: Value, dim: int, index: Value, source: Value, alpha: Number = 1
) -> Result:
    scaled = source if alpha == 1 else combine_like(t, ops.Multiply(), source, alpha)
    return scatter_lines(t, x, t.dim(dim, len(x.shape)), index, scaled, accumulate=True)


@aten("index_copy.default")
def _index_copy(t: Translator, x: Value, dim: int, index: Value, source: Value) -> Result:
    return scatter_lines(t, x, t.dim(dim, len(x.shape)), index, source, accumulate=False)


@aten("index_fill.int_Scalar", "index_fill.int_Tensor")
def _index_fill(t: Translator, x: Value, dim: int, index: Value, value: Value | Number) -> Result:
    dim = t.dim(dim, len(x.shape))
    shape = (*x.shape[:dim], index.type.elements, *x.shape[dim + 1 :])
    return scatter_lines(t, x, dim, index, t.tensor(value, shape, x.dtype), accumulate=False)


@aten("scatter.value")
def _scatter_value(t: Translator, x: Value, dim: int, index: Value, value: Number) -> Result:
    dim = t.dim(dim, len(x.shape))
    others = index.shape[:dim] == x.shape[:dim] and index.shape[dim + 1 :] == x.shape[dim + 1 :]
    if x.shape and others and index.shape[dim] <= COMPARED_MAX:
        return t.emit(ops.Select(), _hit(t, x, dim, index), t.splat(value, x.type), x)
    return _scattered(t, x, dim, index, t.splat(value, TensorType(index.shape, x.dtype)), False)


def _hit(t: Translator, x: Value, dim: int, index: Value) -> Value:
    """True at the places along ``dim`` that an index names: each is compared with each place."""
    if index.shape[dim] == 1:
        place = t.emit(ops.Iota(x.shape, index.dtype, dim))
        return t.emit(ops.Compare("eq"), t.broadcast(index, x.shape), place)
    wide = (*x.shape, index.shape[dim])
    turned = t.reshape(_last(t, index, dim), (*_without(x.shape, dim), 1, index.shape[dim]))
    order = [d for d in range(len(x.shape)) if d != dim] + [dim]
    place = t.emit(ops.Iota((*_without(x.shape, dim), *wide[dim : dim + 1], wide[-1]),
                            index.dtype, len(x.shape) - 1))  # fmt: skip
    named = t.broadcast(turned, place.shape)
    found = t.emit(ops.Compare("eq"), named, place)
    found = t.emit(ops.Reduce("or", (len(x.shape),)), found)
    return t.transpose(found, [order.index(d) for d in range(len(order))])


def _without(shape: Shape, dim: int) -> Shape:
    return (*shape[:dim], *shape[dim + 1 :])


def _last(t: Translator, x: Value, dim: int) -> Value:
    """x with ``dim`` turned to the last place."""
    return t.transpose(x, [*(d for d in range(len(x.shape)) if d != dim), dim])


@aten("scatter_reduce.two")
def _scatter_reduce(
    t: Translator, x: Value, dim: int, index: Value, source: Value, reduce: str,
    include_self: bool = True,
) -> Result:  # fmt: skip
    if reduce not in SUMS or not include_self:
        raise t.unsupported(
            "scatter_reduce other than a sum onto its input", got=reduce,
            next_step="use scatter_add, or one_hot and a reduction over it",
        )  # fmt: skip
    return _scattered(t, x, dim, index, source, accumulate=True)


def combine_like(t: Translator, op: object, x: Value, number: Number) -> Value:
    """``x <op> number`` in the type of x."""
    return t.emit(op, x, t.splat(number, x.type))  # type: ignore[arg-type]


def _scattered(
    t: Translator, x: Value, dim: int, index: Value, source: Value, accumulate: bool
) -> Value:
    """torch.scatter: one element per index, or whole lines where all lines of indices agree."""
    if not x.shape:
        return combine(t, ops.Add(), x, source) if accumulate else source
    dim = t.dim(dim, len(x.shape))
    source = t.convert(_first_part(t, source, index.shape), x.dtype)
    line = _same_along_others(t, index, dim)
    if line is not None and _without(index.shape, dim) == _without(x.shape, dim):
        return scatter_lines(t, x, dim, line, source, accumulate)
    places = _element_places(t, x.shape, dim, index)
    flat = t.reshape(x, (x.type.elements,))
    count = (index.type.elements,)
    updates = t.reshape(source, count)
    done = t.emit(ops.Scatter(accumulate), flat, t.reshape(places, count), updates)
    return t.reshape(done, x.shape)


def _first_part(t: Translator, x: Value, sizes: Shape) -> Value:
    for dim, size in enumerate(sizes):
        x = cut(t, x, dim, 0, size)
    return x


def _element_places(t: Translator, shape: Shape, dim: int, index: Value) -> Value:
    """Where each index points in the flattened tensor."""
    total = t.emit(ops.Multiply(), index, t.splat(math.prod(shape[dim + 1 :]), index.type))
    for other in range(len(shape)):
        if other == dim or index.shape[other] == 1:
            continue
        line = t.emit(ops.Iota(index.shape, index.dtype, other))
        step = t.splat(math.prod(shape[other + 1 :]), index.type)
        total = t.emit(ops.Add(), total, t.emit(ops.Multiply(), line, step))
    return total


def scatter_lines(
    t: Translator, x: Value, dim: int, index: Value, source: Value, accumulate: bool
) -> Value:
    """``x`` with lines across ``dim`` replaced by, or added to, those of ``source``.

    The dims before ``dim`` become part of the row number, so that nothing is transposed. A single
    line in every block, such as the next position of a cache, is one update of a slice.
    """
    size, inner = x.shape[dim], x.shape[dim + 1 :]
    outer, count = math.prod(x.shape[:dim]), index.type.elements
    place = t.reshape(positive_index(t, index, size), (count,))
    if count == 1 and outer > 1 and not accumulate:
        zero = t.splat(0, place.type)
        position = t.emit(ops.Concatenate(0), *([zero] * dim), place, *([zero] * len(inner)))
        line = t.reshape(t.convert(source, x.dtype), (*x.shape[:dim], 1, *inner))
        return t.emit(ops.DynamicUpdateSlice(), x, line, position)
    if outer > 1:
        wide = TensorType((outer, count), place.dtype)
        block = t.emit(ops.Iota(wide.shape, wide.dtype, 0))
        start = t.emit(ops.Multiply(), block, t.splat(size, wide))
        moved = t.emit(ops.Add(), t.broadcast(place, wide.shape), start)
        place = t.reshape(moved, (outer * count,))
    rows = t.reshape(x, (outer * size, *inner))
    updates = t.reshape(t.convert(source, x.dtype), (outer * count, *inner))
    return t.reshape(t.emit(ops.Scatter(accumulate), rows, place, updates), x.shape)


@aten("slice_scatter.default")
def _slice_scatter(
    t: Translator, x: Value, source: Value, dim: int = 0, start: int | None = None,
    end: int | None = None, step: int = 1,
) -> Result:  # fmt: skip
    dim = t.dim(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[dim])
    source = t.tensor(source, source.shape, x.dtype)
    if step != 1:
        places = ops.Constant.of(np.arange(first, last, step, dtype=np.int64))
        return scatter_lines(t, x, dim, t.emit(places), source, accumulate=False)
    parts = [cut(t, x, dim, 0, first), source, cut(t, x, dim, max(first, last), x.shape[dim])]
    kept = [part for part in parts if part.shape[dim]]
    return t.emit(ops.Concatenate(dim), *kept) if len(kept) > 1 else kept[0]


@aten("select_scatter.default")
def _select_scatter(t: Translator, x: Value, source: Value, dim: int, index: int) -> Result:
    dim = t.dim(dim, len(x.shape))
    index += x.shape[dim] if index < 0 else 0
    thin = t.reshape(source, (*x.shape[:dim], 1, *x.shape[dim + 1 :]))
    return _slice_scatter(t, x, thin, dim, index, index + 1)


@aten("masked_scatter.default")
def _masked_scatter(t: Translator, x: Value, mask: Value, source: Value) -> Result:
    """The masked places take the source's elements in order, or whole rows where masks agree."""
    mask = t.broadcast(mask, x.shape)
    depth = _row_depth(t, mask)
    width = math.prod(x.shape[depth:])
    rows = x.type.elements // width
    if source.type.elements % width:
        depth, width, rows = len(x.shape), 1, x.type.elements
    line = t.reshape(_first_part(t, mask, (*x.shape[:depth], *(1 for _ in x.shape[depth:]))),
                     (rows,))  # fmt: skip
    count = t.emit(ops.Cumulative("add", 0), t.convert(line, INDEX))
    place = t.emit(ops.Subtract(), count, t.splat(1, count.type))
    table = t.reshape(t.convert(source, x.dtype), (source.type.elements // width, width))
    taken = t.reshape(t.emit(ops.Gather(0), table, place), x.shape)
    return t.emit(ops.Select(), mask, taken, x)


def _row_depth(t: Translator, mask: Value) -> int:
    """How many leading dims of a mask differ; over the others it is a broadcast."""
    maker = t.builder.maker(mask)
    if maker is None or not isinstance(maker.op, ops.BroadcastInDim):
        return len(mask.shape)
    wide = [
        d for d, n in zip(maker.op.dims, maker.inputs[0].shape, strict=True) if n == mask.shape[d]
    ]
    return max(wide, default=-1) + 1


@aten("searchsorted.Tensor", "bucketize.Tensor", "searchsorted.Scalar", "bucketize.Scalar")
def _bucketize(
    t: Translator, first: Value | Number, second: Value | Number, *_: object,
    right: bool = False, side: str | None = None, **__: object,
) -> Result:  # fmt: skip
    """Each number against each boundary; those below it are counted."""
    edges, x = (first, second) if t.overload.startswith("searchsorted") else (second, first)
    if not isinstance(edges, Value):
        raise t.unsupported("boundaries that are no tensor", got=edges)
    numbers = t.tensor(x, t.result.shape, edges.dtype)
    lead = numbers.shape
    wide = (*lead, edges.shape[-1])
    given = t.broadcast(t.reshape(numbers, (*lead, 1)), wide)
    if len(edges.shape) > 1:
        edges = t.reshape(edges, (*edges.shape[:-1], 1, edges.shape[-1]))
    below = "le" if right or side == "right" else "lt"
    passed = t.emit(ops.Compare(below), t.broadcast(edges, wide), given)
    counted = t.emit(ops.Reduce("add", (len(lead),)), t.convert(passed, np.dtype(np.int32)))
    return t.convert(counted, t.result.dtype)


@aten("isin.Tensor_Tensor", "isin.Tensor_Scalar")
def _isin(
    t: Translator, x: Value, wanted: Value | Number, assume_unique: bool = False,
    invert: bool = False,
) -> Result:  # fmt: skip
    tested = wanted if isinstance(wanted, Value) else t.splat(wanted, x.type.with_shape((1,)))
    wide = (*x.shape, tested.type.elements)
    given = t.broadcast(t.reshape(x, (*x.shape, 1)), wide)
    line = t.broadcast(t.reshape(t.convert(tested, x.dtype), (tested.type.elements,)), wide)
    found = t.emit(ops.Reduce("or", (len(x.shape),)), t.emit(ops.Compare("eq"), given, line))
    return t.emit(ops.Not(), found) if invert else found


@aten("as_strided.default", "as_strided_copy.default")
def _as_strided(
    t: Translator, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Result:
    """Elements of a dense tensor at computed places, in the longest rows that stay together."""
    places: np.ndarray[Shape, np.dtype[np.int64]] = np.full((), offset or 0, np.int64)
    width, dims = 1, list(zip(size, stride, strict=True))
    while dims and dims[-1][1] == width and _divides(x, dims, offset or 0, width * dims[-1][0]):
        width *= dims.pop()[0]
    for count, step in dims:
        places = places[..., None] + np.arange(count) * step
    table = t.reshape(x, (x.type.elements // width, width))
    rows = t.emit(ops.Gather(0), table, t.emit(ops.Constant.of(places // width)))
    return t.reshape(rows, tuple(size))


def _divides(x: Value, dims: Sequence[tuple[int, int]], offset: int, width: int) -> bool:
    """Whether rows of ``width`` elements start at every place that the outer dims reach."""
    return all(n % width == 0 for n in (x.type.elements, offset, *(s for _, s in dims[:-1])))


@aten("unfold.default", "unfold_copy.default")
def _unfold(t: Translator, x: Value, dim: int, size: int, step: int) -> Result:
    dim = t.dim(dim, len(x.shape))
    count = (x.shape[dim] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    windows = t.emit(ops.Gather(dim), x, t.emit(ops.Constant.of(places)))
    order = [d for d in range(len(windows.shape)) if d != dim + 1]
    return t.transpose(windows, [*order, dim + 1])


@aten("diagonal.default", "diagonal_copy.default")
def _diagonal(t: Translator, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Result:
    rows, columns = t.dim(dim1, len(x.shape)), t.dim(dim2, len(x.shape))
    front = _to_front(t, x, [rows, columns])
    count = t.result.shape[-1]
    start = offset if offset >= 0 else -offset * x.shape[columns]
    places = start + np.arange(count) * (x.shape[columns] + 1)
    flat = t.reshape(front, (x.shape[rows] * x.shape[columns], *front.shape[2:]))
    taken = t.emit(ops.Gather(0), flat, t.emit(ops.Constant.of(places)))
    return t.transpose(taken, [*range(1, len(taken.shape)), 0])


@aten("diagonal_scatter.default")
def _diagonal_scatter(
    t: Translator, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Result:
    rows, columns = t.dim(dim1, len(x.shape)), t.dim(dim2, len(x.shape))
    order = _front([rows, columns], len(x.shape))
    front = t.transpose(x, order)
    count = source.shape[-1]
    start = offset if offset >= 0 else -offset * x.shape[columns]
    places = t.emit(ops.Constant.of(start + np.arange(count) * (x.shape[columns] + 1)))
    flat = t.reshape(front, (x.shape[rows] * x.shape[columns], *front.shape[2:]))
    lines = t.transpose(source, [len(source.shape) - 1, *range(len(source.shape) - 1)])
    done = t.reshape(t.emit(ops.Scatter(False), flat, places, lines), front.shape)
    return t.transpose(done, [order.index(d) for d in range(len(order))])


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(t: Translator, x: Value, mask: Value, value: Value | Number) -> Result:
    branches = (t.tensor(v, t.result.shape, t.result.dtype) for v in (value, x))
    return t.emit(ops.Select(), truth(t, mask, t.result.shape), *branches)
