"""Reductions of ``nki.language`` along free dims, and the norms built from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from tenzing.errors import KernelError
from tenzing.isa.enums import reduce_cmd
from tenzing.isa.operand import DType
from tenzing.machine import active_core
from tenzing.nki import elementwise
from tenzing.nki.tensor import NkiTensor
from tenzing.nki.values import FLOAT32, emit, given_dtype, new_tile, on_chip, returned

__tenzing_internal__ = True

Axis = int | Sequence[int]
STATISTICS: Final = 6  # numbers bn_stats leaves per piece: two of count, mean, variance times count


def free_axes(tile: NkiTensor, axis: Axis, name: str) -> tuple[int, ...]:
    """Axes counted from zero, in order; the partition dim is not among them."""
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = sorted({a + tile.ndim if a < 0 else a for a in given})
    if not axes or axes[0] < 1 or axes[-1] >= tile.ndim:
        raise KernelError(
            f"nl.{name}: axis {axis} of a tile of shape {tile.shape}",
            allowed=f"free dims 1 to {tile.ndim - 1}", where=active_core().here(),
            next_step="reduce partitions with nl.matmul of a tile of ones, or transpose first",
        )  # fmt: skip
    return tuple(axes)


def reduce(
    name: str, op: str, x: Any, axis: Axis, dtype: Any = None, *, keepdims: bool = False,
    negate: bool = False,
) -> NkiTensor:  # fmt: skip
    """Combine the elements along free dims with ``op``: one ``tensor_reduce``."""
    tile = on_chip(x, f"nl.{name}")
    axes = free_axes(tile, axis, name)
    kept = [d for d in range(tile.ndim) if d not in axes]
    data = tile if kept + list(axes) == list(range(tile.ndim)) else tile.permute([*kept, *axes])
    shape = [1 if d in axes else n for d, n in enumerate(tile.shape) if keepdims or d not in axes]
    last = tuple(range(len(kept), tile.ndim))
    out = new_tile(shape, given_dtype(dtype, tile.dtype))
    return returned("tensor_reduce", out, op=op, data=data, axis=last, negate=negate)


def sum(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Sum along free dims."""
    return reduce("sum", "add", x, axis, dtype, keepdims=keepdims)


def max(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Largest element along free dims."""
    return reduce("max", "maximum", x, axis, dtype, keepdims=keepdims)


def min(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Smallest element along free dims."""
    return reduce("min", "minimum", x, axis, dtype, keepdims=keepdims)


def prod(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Product along free dims."""
    return reduce("prod", "multiply", x, axis, dtype, keepdims=keepdims)


def all(x: Any, axis: Axis, dtype: Any = None) -> NkiTensor:
    """1 where every element along free dims is not zero, else 0."""
    return reduce("all", "logical_and", x, axis, dtype)


def mean(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Mean along free dims: a float32 sum, then a multiply."""
    tile = on_chip(x, "nl.mean")
    count = math.prod(tile.shape[a] for a in free_axes(tile, axis, "mean"))
    total = reduce("mean", "add", tile, axis, FLOAT32, keepdims=keepdims)
    wanted = given_dtype(dtype, tile.dtype)
    return elementwise.binary("multiply", total, 1.0 / count, wanted)


def var(x: Any, axis: Axis, dtype: Any = None, keepdims: bool = False) -> NkiTensor:
    """Variance (not corrected) along free dims; the reduced dims stay, with size one."""
    tile = on_chip(x, "nl.var")
    axes = free_axes(tile, axis, "var")
    wanted = given_dtype(dtype, tile.dtype)
    shape = [1 if d in axes else n for d, n in enumerate(tile.shape)]
    if len(axes) == tile.ndim - 1 and tile.is_contiguous():
        return _variance_by_statistics(tile, shape, wanted)
    centre = elementwise.binary("subtract", tile, mean(tile, axes, FLOAT32, keepdims=True), FLOAT32)
    squares = elementwise.activation("square", centre, FLOAT32)
    return mean(squares, axes, wanted, keepdims=True)


def _variance_by_statistics(tile: NkiTensor, shape: list[int], dtype: DType) -> NkiTensor:
    """All free dims at once: ``bn_stats`` in pieces of its limit, joined by ``bn_aggr``."""
    limit = active_core().chip.integer("vector.bn_stats_free_max")
    partitions, free = tile.layout.partitions, tile.layout.free
    flat = tile.reshape((partitions, free))
    pieces = -(-free // limit)
    stats = new_tile((partitions, pieces * STATISTICS), FLOAT32)
    for k in range(pieces):
        part = flat[:, k * limit : k * limit + limit if k + 1 < pieces else free]
        emit("bn_stats", dst=stats[:, k * STATISTICS : (k + 1) * STATISTICS], data=part)
    moments = new_tile((partitions, 2), FLOAT32)
    emit("bn_aggr", dst=moments, data=stats)
    return elementwise.copy(moments[:, 1:2].reshape(shape), dtype)


def softmax(x: Any, axis: Axis = -1, dtype: Any = None) -> NkiTensor:
    """``exp(x - max) / sum(exp(x - max))`` along free dims."""
    tile = on_chip(x, "nl.softmax")
    axes = free_axes(tile, axis, "softmax")
    wanted = given_dtype(dtype, tile.dtype)
    if len(axes) == tile.ndim - 1:
        return _row_softmax(tile, axes, wanted)
    top = reduce("softmax", "maximum", tile, axes, FLOAT32, keepdims=True)
    powers = elementwise.activation("exp", elementwise.binary("subtract", tile, top, FLOAT32))
    total = reduce("softmax", "add", powers, axes, FLOAT32, keepdims=True)
    return elementwise.binary("multiply", powers, elementwise.reciprocal(total), wanted)


def _row_softmax(tile: NkiTensor, axes: tuple[int, ...], dtype: DType) -> NkiTensor:
    """One row per partition: the sum comes free with the exponential."""
    partitions = tile.layout.partitions
    lowest = reduce("softmax", "maximum", tile, axes, FLOAT32, negate=True)
    powers = new_tile(tile.shape, FLOAT32)
    total = new_tile((partitions, 1), FLOAT32)
    emit("activation", dst=powers, op="exp", data=tile, bias=lowest, reduce_op="add",
         reduce_res=total, reduce_cmd=reduce_cmd.reset_reduce)  # fmt: skip
    return elementwise.binary("multiply", powers, elementwise.reciprocal(total), dtype)


def rms_norm(
    x: Any, w: Any, axis: int, n: int, epsilon: float = 1e-6, dtype: Any = None,
    compute_dtype: Any = None,
) -> NkiTensor:  # fmt: skip
    """``x / sqrt(sum(x * x) / n + epsilon) * w`` along one free dim."""
    tile = on_chip(x, "nl.rms_norm")
    inner = given_dtype(compute_dtype, FLOAT32)
    squares = elementwise.activation("square", tile, inner)
    total = reduce("rms_norm", "add", squares, axis, FLOAT32, keepdims=True)
    emit("tensor_scalar", dst=total, data=total, op0="multiply", operand0=1.0 / n, op1="add",
         operand1=epsilon)  # fmt: skip
    scale = elementwise.activation("rsqrt", total)
    scaled = elementwise.binary("multiply", tile, scale, inner)
    return elementwise.binary("multiply", scaled, w, given_dtype(dtype, tile.dtype))


FUNCTIONS: Final[dict[str, Callable[..., NkiTensor]]] = {
    "sum": sum, "max": max, "min": min, "prod": prod, "all": all, "mean": mean, "var": var,
    "softmax": softmax, "rms_norm": rms_norm,
}  # fmt: skip
for _name, _function in FUNCTIONS.items():
    _function.nki_op = _name  # type: ignore[attr-defined]
