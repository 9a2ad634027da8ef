"""Moving tiles: load, store, transpose, broadcast, gather, and the matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenzing.errors import KernelError
from tenzing.isa import numerics
from tenzing.isa.operand import Space
from tenzing.machine import active_core
from tenzing.nki.assign import broadcast_view
from tenzing.nki.elementwise import copy
from tenzing.nki.tensor import NkiTensor
from tenzing.nki.values import FLOAT32, emit, given_dtype, new_tile, on_chip, returned

__tenzing_internal__ = True

_EXACT_IN_FLOAT32 = 2  # bytes of the widest integer that float32 holds exactly


def load(src: Any, dtype: Any = None) -> NkiTensor:
    """A tile in SBUF with the values of an HBM tensor, by DMA."""
    tensor = in_hbm(src, "nl.load", "src")
    tile = new_tile(_tile_shape(tensor), given_dtype(dtype, tensor.dtype))
    return returned("dma_copy", tile, src=tensor)


def _tile_shape(tensor: NkiTensor) -> tuple[int, ...]:
    """Sizes of the tile that holds an HBM view; a gather has one row per index."""
    if tensor.index is not None:
        return (tensor.index.layout.partitions, *tensor.shape[1:])
    return tensor.shape


def store(dst: Any, value: Any) -> None:
    """Write a tile of SBUF into an HBM tensor, by DMA."""
    tensor = in_hbm(dst, "nl.store", "dst")
    tile = on_chip(value, "nl.store")
    if tensor.index is None and tensor.size != tile.size:
        raise KernelError(
            f"nl.store: dst has shape {tensor.shape}, value has shape {tile.shape}",
            where=active_core().here(), next_step="slice both to one size",
        )  # fmt: skip
    emit("dma_copy", dst=tensor, src=tile)


def in_hbm(value: Any, what: str, name: str) -> NkiTensor:
    """``value`` as an HBM tensor, or an error."""
    if isinstance(value, NkiTensor) and value.buffer is Space.HBM:
        return value
    got = repr(value) if isinstance(value, NkiTensor) else type(value).__name__
    raise KernelError(f"{what}: {name} must be a tensor in HBM", got=got,
                      where=active_core().here(),
                      next_step="between tiles on chip use nl.copy")  # fmt: skip


def load_transpose2d(src: Any, dtype: Any = None) -> NkiTensor:
    """A tile in SBUF with an HBM matrix transposed on the way, by DMA."""
    tensor = in_hbm(src, "nl.load_transpose2d", "src")
    if tensor.ndim != 2:  # noqa: PLR2004 - a matrix
        raise KernelError("nl.load_transpose2d: src must have 2 dims", got=tensor.shape,
                          where=active_core().here())  # fmt: skip
    wanted = given_dtype(dtype, tensor.dtype)
    tile = returned("dma_transpose", new_tile(tensor.shape[::-1], tensor.dtype), src=tensor)
    return tile if wanted == tensor.dtype else copy(tile, wanted)


def transpose(x: Any, dtype: Any = None) -> NkiTensor:
    """Partition and free dim swapped by the Tensor engine; the result is in PSUM."""
    tile = on_chip(x, "nl.transpose")
    wanted = given_dtype(dtype, tile.dtype)
    shape = (tile.layout.free, tile.layout.partitions)
    out = returned("nc_transpose", new_tile(shape, tile.dtype, Space.PSUM), data=tile)
    return out if wanted == tile.dtype else copy(out, wanted)


def matmul(x: Any, y: Any, transpose_x: bool = False) -> NkiTensor:
    """``x @ y``, or ``x.T @ y`` when x comes transposed; float32 in PSUM."""
    left, right = on_chip(x, "nl.matmul"), on_chip(y, "nl.matmul")
    stationary = left if transpose_x else copy(transpose(left))
    shape = (stationary.layout.free, *right.shape[1:])
    out = new_tile(shape, FLOAT32, Space.PSUM)
    return returned("nc_matmul", out, stationary=stationary, moving=right, accumulate=False)


def expand_dims(x: Any, axis: int) -> NkiTensor:
    """A view with a dim of size one inserted at ``axis``."""
    tile = x if isinstance(x, NkiTensor) else on_chip(x, "nl.expand_dims")
    return tile.expand_dim(axis + tile.ndim + 1 if axis < 0 else axis)


def broadcast_to(x: Any, shape: Sequence[int], dtype: Any = None) -> NkiTensor:
    """Dims of size one repeated up to ``shape``.

    Free dims are repeated by a stride of zero. The partition dim is repeated by the Tensor engine:
    a row of ones times the tile, in pieces of one PSUM bank. A float32 result stays in PSUM when it
    takes at most half of it; others are copied to SBUF. 32-bit integers are refused: the product
    would round them.
    """
    tile = on_chip(x, "nl.broadcast_to")
    wanted = given_dtype(dtype, tile.dtype)
    sizes = tuple(int(n) for n in shape)
    if len(sizes) != tile.ndim:
        raise KernelError(f"nl.broadcast_to: {tile.shape} has another rank than {sizes}",
                          where=active_core().here(), next_step="nl.expand_dims first")  # fmt: skip
    if sizes[0] != tile.shape[0] and tile.shape[0] == 1:
        tile = _repeat_partition(tile, sizes[0])
    view = broadcast_view(tile, sizes)
    return view if view.dtype == wanted else copy(view, wanted)


def _repeat_partition(tile: NkiTensor, count: int) -> NkiTensor:
    if not numerics.is_float(tile.dtype) and tile.dtype.itemsize > _EXACT_IN_FLOAT32:
        raise KernelError(
            f"nl.broadcast_to: partitions of {tile.dtype.name} cannot be repeated exactly",
            where=active_core().here(), next_step="load the row into every partition by DMA",
        )  # fmt: skip
    chip = active_core().chip
    moving = tile.reshape((1, tile.layout.free))
    if moving.buffer is not Space.SBUF or not numerics.is_float(moving.dtype):
        moving = copy(moving, moving.dtype if numerics.is_float(moving.dtype) else FLOAT32)
    free = moving.layout.free
    small = free * FLOAT32.itemsize * 2 <= chip.integer("psum.bytes_per_partition")
    keep = small and tile.dtype == FLOAT32
    out = new_tile((count, free), tile.dtype, Space.PSUM if keep else Space.SBUF)
    step = chip.integer("psum.bank_bytes") // FLOAT32.itemsize
    for start in range(0, free, step):
        part = slice(start, start + step if start + step < free else free)
        target = out[:, part]
        bank = target if keep else new_tile(target.shape, FLOAT32, Space.PSUM)
        emit("nc_matmul", dst=bank, stationary=ones_row(moving.dtype, count),
             moving=moving[:, part], is_stationary_onezero=True, accumulate=False)  # fmt: skip
        if not keep:
            emit("tensor_copy", dst=target, src=bank)
    return out.reshape((count, *tile.shape[1:]))


def ones_row(dtype: Any, count: int) -> NkiTensor:
    """A row of ``count`` ones in one partition, made once per core."""
    core = active_core()
    key = ("ones", dtype, count)
    row = core.kept.get(key)
    if not isinstance(row, NkiTensor):
        row = core.kept[key] = new_tile((1, count), dtype)
        emit("memset", dst=row, value=1.0)
    return row


def gather_flattened(data: Any, indices: Any, axis: int = 0, dtype: Any = None) -> NkiTensor:
    """``out[p, i] = data[p, indices[p, i]]`` with the free dims of ``data`` taken as one.

    ``axis`` other than 0 is refused: the published page gives it no meaning.
    """
    if axis != 0:
        raise KernelError("nl.gather_flattened: axis must be 0", got=axis,
                          where=active_core().here())  # fmt: skip
    source, index = on_chip(data, "nl.gather_flattened"), on_chip(indices, "nl.gather_flattened")
    wanted = given_dtype(dtype, source.dtype)
    out = returned("nc_n_gather", new_tile(index.shape, source.dtype), data=source, indices=index)
    return out if wanted == source.dtype else copy(out, wanted)


__all__ = [
    "broadcast_to", "expand_dims", "gather_flattened", "in_hbm", "load", "load_transpose2d",
    "matmul", "ones_row", "store", "transpose",
]  # fmt: skip
