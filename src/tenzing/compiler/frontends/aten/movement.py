"""ATen operations that move or select data."""

from __future__ import annotations

from collections.abc import Sequence

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import Value


@aten("view.default", "_unsafe_view.default", "reshape.default", "view_copy.default")
def _view(t: Translator, x: Value, shape: Sequence[int]) -> Result:
    return t.reshape(x, shape)


@aten(
    "flatten.using_ints",
    "unflatten.int",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
    "squeeze_copy.dim",
    "unsqueeze_copy.default",
)
def _to_result_shape(t: Translator, x: Value, *_: object, **__: object) -> Result:
    return t.reshape(x, t.result.shape)


@aten("permute.default", "permute_copy.default")
def _permute(t: Translator, x: Value, dims: Sequence[int]) -> Result:
    return t.transpose(x, dims)


@aten("transpose.int", "swapaxes.default")
def _transpose(t: Translator, x: Value, one: int, other: int) -> Result:
    order = list(range(len(x.shape)))
    order[one], order[other] = order[other], order[one]
    return t.transpose(x, order)


@aten("t.default", "numpy_T.default", "mT.default")
def _t(t: Translator, x: Value) -> Result:
    order = list(range(len(x.shape)))
    return t.transpose(x, [*order[:-2], *order[-2:][::-1]])


@aten("expand.default", "expand_copy.default", "expand_as.default", "broadcast_to.default")
def _expand(t: Translator, x: Value, *_: object, **__: object) -> Result:
    return t.broadcast(x, t.result.shape)


@aten("repeat.default")
def _repeat(t: Translator, x: Value, times: Sequence[int]) -> Result:
    sizes = (1,) * (len(times) - len(x.shape)) + x.shape
    split = [n for pair in zip(times, sizes, strict=True) for n in pair]
    dims = tuple(range(1, len(split), 2))
    stretched = t.emit(ops.BroadcastInDim(tuple(split), dims), t.reshape(x, sizes))
    return t.reshape(stretched, t.result.shape)


@aten("slice.Tensor", "slice_copy.Tensor")
def _slice(
    t: Translator,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Result:
    dim = t.dim(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[dim])
    return cut(t, x, dim, first, max(first, last), step)


def cut(t: Translator, x: Value, dim: int, first: int, last: int, step: int = 1) -> Value:
    """Elements first, first + step, ... below last along one dim."""
    if (first, last, step) == (0, x.shape[dim], 1):
        return x
    start, limit, stride = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    start[dim], limit[dim], stride[dim] = first, last, step
    return t.emit(ops.Slice(tuple(start), tuple(limit), tuple(stride)), x)


@aten("select.int", "select_copy.int")
def _select(t: Translator, x: Value, dim: int, index: int) -> Result:
    dim = t.dim(dim, len(x.shape))
    index += x.shape[dim] if index < 0 else 0
    return t.reshape(cut(t, x, dim, index, index + 1), t.result.shape)


@aten("narrow.default")
def _narrow(t: Translator, x: Value, dim: int, start: int, length: int) -> Result:
    return cut(t, x, t.dim(dim, len(x.shape)), start, start + length)


@aten("split.Tensor", "split_copy.Tensor")
def _split(t: Translator, x: Value, size: int, dim: int = 0) -> Result:
    total = x.shape[t.dim(dim, len(x.shape))]
    sizes = [min(size, total - start) for start in range(0, total, size)]
    return _split_sizes(t, x, sizes, dim)


@aten("split_with_sizes.default", "split_with_sizes_copy.default", "split.sizes")
def _split_sizes(t: Translator, x: Value, sizes: Sequence[int], dim: int = 0) -> Result:
    dim = t.dim(dim, len(x.shape))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        cut(t, x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)
    )


@aten("chunk.default")
def _chunk(t: Translator, x: Value, chunks: int, dim: int = 0) -> Result:
    total = x.shape[t.dim(dim, len(x.shape))]
    return _split(t, x, max(1, -(-total // chunks)), dim)


@aten("unbind.int", "unbind_copy.int")
def _unbind(t: Translator, x: Value, dim: int = 0) -> Result:
    dim = t.dim(dim, len(x.shape))
    shape = (*x.shape[:dim], *x.shape[dim + 1 :])
    return tuple(t.reshape(cut(t, x, dim, i, i + 1), shape) for i in range(x.shape[dim]))


@aten("cat.default", "concat.default")
def _cat(t: Translator, parts: Sequence[Value], dim: int = 0) -> Result:
    kept = [t.convert(p, t.result.dtype) for p in parts if p.shape != (0,)]
    return t.emit(ops.Concatenate(t.dim(dim, len(t.result.shape))), *kept)


@aten("stack.default")
def _stack(t: Translator, parts: Sequence[Value], dim: int = 0) -> Result:
    dim = t.dim(dim, len(t.result.shape))
    thin = tuple(1 if d == dim else n for d, n in enumerate(t.result.shape))
    return t.emit(ops.Concatenate(dim), *(t.reshape(p, thin) for p in parts))


@aten("constant_pad_nd.default")
def _pad(t: Translator, x: Value, padding: Sequence[int], value: Number = 0) -> Result:
    rank = len(x.shape)
    low, high = [0] * rank, [0] * rank
    for index in range(len(padding) // 2):
        low[rank - 1 - index] = padding[2 * index]
        high[rank - 1 - index] = padding[2 * index + 1]
    for dim in range(rank):
        end = x.shape[dim] + min(high[dim], 0)
        x = cut(t, x, dim, max(-low[dim], 0), end)
    grow_low, grow_high = (tuple(max(n, 0) for n in edge) for edge in (low, high))
    if not any((*grow_low, *grow_high)):
        return x
    return t.emit(ops.Pad(grow_low, grow_high), x, t.splat(value, x.type.with_shape(())))


@aten("flip.default")
def _flip(t: Translator, x: Value, dims: Sequence[int]) -> Result:
    return t.emit(ops.Reverse(t.dims(dims, len(x.shape))), x)


@aten("roll.default")
def _roll(t: Translator, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Result:
    if not dims:
        flat = _roll(t, t.reshape(x, (x.type.elements,)), shifts, [0])
        return t.reshape(flat, x.shape) if isinstance(flat, Value) else flat
    for shift, raw in zip(shifts, dims, strict=True):
        dim = t.dim(raw, len(x.shape))
        size = x.shape[dim]
        edge = size - shift % size if size else 0
        if shift % max(size, 1):
            parts = cut(t, x, dim, edge, size), cut(t, x, dim, 0, edge)
            x = t.emit(ops.Concatenate(dim), *parts)
    return x


@aten(
    "_assert_tensor_metadata.default",
    "_assert_async.msg",
    "_assert_scalar.default",
    "sym_constrain_range.default",
    "sym_constrain_range_for_size.default",
)
def _nothing(t: Translator, *_: object, **__: object) -> Result:
    return None
