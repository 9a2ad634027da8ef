"""``neuronxcc.nki.language``: the current functions and those only the older language had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.errors import KernelError
from tenzing.isa import numerics
from tenzing.isa.operand import Space
from tenzing.machine import active_core
from tenzing.nki import creation as _creation
from tenzing.nki import language as current
from tenzing.nki.assign import copy_into, fill, in_place
from tenzing.nki.elementwise import copy
from tenzing.nki.indexing import MeshGrid, arange
from tenzing.nki.kernel import GridDim
from tenzing.nki.older.blocks import Allocation, BlockTensor, ParDim
from tenzing.nki.older.masks import masked
from tenzing.nki.tensor import NkiTensor, new_tensor
from tenzing.nki.values import given_dtype

__tenzing_internal__ = True

mgrid: Final = MeshGrid()
par_dim: Final = ParDim


_PLAIN: Final = {n: v for n in current.__all__ if not callable(v := getattr(current, n))}
_KEPT: Final = {n: getattr(current, n) for n in ("NkiTensor", "ds", "average", "bypass", "prelu")}
_WRAPPED: Final = {
    n: masked(f"nl.{n}", v)
    for n in current.__all__
    if n not in _PLAIN and n not in _KEPT and callable(v := getattr(current, n))
}
globals().update({**_PLAIN, **_KEPT, **_WRAPPED})


# -- loops and grids -------------------------------------------------------------------------------


def affine_range(*args: int, **_: Any) -> Iterable[int]:
    """Iterations the compiler may reorder; compiler directives have no effect."""
    return current.affine_range(*args)


def sequential_range(*args: int, **_: Any) -> Iterable[int]:
    """Iterations that depend on the one before; compiler directives have no effect."""
    return current.sequential_range(*args)


def static_range(*args: int, **_: Any) -> Iterable[int]:
    """Iterations unrolled while the kernel is built."""
    return current.static_range(*args)


@dataclass(frozen=True, slots=True)
class PhysicalCores:
    """``nl.nc(n)``: a part of a grid dim that runs on ``n`` cores."""

    count: int


nc: Final = PhysicalCores


def spmd_dim(first: Any, second: Any) -> GridDim:
    """A grid dim of ``programs x cores``: its programs are dealt to the cores."""
    cores = [d for d in (first, second) if isinstance(d, PhysicalCores)]
    sizes = [d for d in (first, second) if not isinstance(d, PhysicalCores)]
    if len(cores) != 1:
        raise KernelError("nl.spmd_dim takes one number and one nl.nc(...)",
                          got=(first, second))  # fmt: skip
    return GridDim(int(sizes[0]) * cores[0].count, cores[0].count)


# -- creation --------------------------------------------------------------------------------------


def ndarray(
    shape: Sequence[int], dtype: Any, *, buffer: Any = None, name: str = "", **_: Any
) -> Any:
    """A new tensor: dims before ``nl.par_dim`` make it a grid of tiles."""
    memory = Space.SBUF if buffer is None else buffer
    space = memory.space if isinstance(memory, Allocation) else memory
    dims = tuple(shape)
    first = next((k for k, n in enumerate(dims) if isinstance(n, ParDim)), 0)
    sizes = tuple(int(n) for n in dims)
    if not isinstance(space, Space) or not space.on_chip:
        return _creation.ndarray(sizes, dtype, space, name)
    wanted = numerics.dtype(dtype)
    tile_shape = sizes[first:] if len(sizes) - first > 1 else (*sizes[first:], 1)

    def make(index: tuple[int, ...]) -> NkiTensor:
        address = None
        if isinstance(memory, Allocation):
            address = memory.address(index, tile_shape, wanted.itemsize)
        return new_tensor(tile_shape, wanted, space, name=name, address=address)

    if first == 0:
        return make(())
    return BlockTensor(sizes[:first], tile_shape, wanted, space, make)


def full(
    shape: Sequence[int], fill_value: float, dtype: Any, *, buffer: Any = None, name: str = "",
    **_: Any,
) -> Any:  # fmt: skip
    """A new tensor with one number everywhere."""
    tensor = ndarray(shape, dtype, buffer=buffer, name=name)
    for tile in tensor.tiles() if isinstance(tensor, BlockTensor) else [tensor]:
        fill(tile, fill_value)
    return tensor


def zeros(shape: Sequence[int], dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Any:
    """A new tensor of zeros."""
    return full(shape, 0, dtype, buffer=buffer, name=name)


def ones(shape: Sequence[int], dtype: Any, *, buffer: Any = None, name: str = "", **_: Any) -> Any:
    """A new tensor of ones."""
    return full(shape, 1, dtype, buffer=buffer, name=name)


def zeros_like(a: Any, dtype: Any = None, *, buffer: Any = None, name: str = "", **_: Any) -> Any:
    """Zeros with the sizes of another tensor."""
    memory = a.buffer if buffer is None else buffer
    return zeros(a.shape, given_dtype(dtype, a.dtype), buffer=memory, name=name)


def empty_like(a: Any, dtype: Any = None, *, buffer: Any = None, name: str = "", **_: Any) -> Any:
    """A tensor, not written yet, with the sizes of another."""
    memory = a.buffer if buffer is None else buffer
    return ndarray(a.shape, given_dtype(dtype, a.dtype), buffer=memory, name=name)


def static_cast(value: Any, dtype: Any) -> Any:
    """An array or tile in another dtype."""
    if isinstance(value, NkiTensor):
        return copy(value, dtype)
    wanted = numerics.dtype(dtype)
    source = np.asarray(value)
    out = np.empty(source.shape, wanted)
    numerics.store(out, numerics.f32(source))
    return out


# -- movement: the older compiler copied out of PSUM by itself -------------------------------------


def _in_sbuf(tile: Any) -> Any:
    in_psum = isinstance(tile, NkiTensor) and tile.buffer is Space.PSUM
    return copy(tile) if in_psum else tile


def _store(dst: Any, value: Any) -> None:
    """Write a tile into an HBM tensor; one in PSUM goes through SBUF, already in dst's dtype."""
    if isinstance(value, NkiTensor) and value.buffer is Space.PSUM:
        value = copy(value, dst.dtype if isinstance(dst, NkiTensor) else None)
    current.store(dst, value)


def _transpose(x: Any, *, dtype: Any = None) -> NkiTensor:
    """Partition and free dim swapped by the Tensor engine, copied to SBUF."""
    return copy(current.transpose(_in_sbuf(x)), given_dtype(dtype, x.dtype))


def _matmul(x: Any, y: Any, *, transpose_x: bool = False) -> NkiTensor:
    """``x @ y``, or ``x.T @ y``; operands in PSUM are copied to SBUF first."""
    return current.matmul(_in_sbuf(x), _in_sbuf(y), transpose_x)


store: Final = masked("nl.store", _store)
transpose: Final = masked("nl.transpose", _transpose)
matmul: Final = masked("nl.matmul", _matmul)


@dataclass(frozen=True, slots=True)
class LoopReduction:
    """One iteration's share of a reduction over loops; assigning it writes or combines."""

    tile: NkiTensor
    op: Any
    first: bool

    def write_into(self, target: NkiTensor) -> None:
        """Copy in the first iteration, combine in the others."""
        if self.first:
            copy_into(target, self.tile)
        else:
            in_place(self.op, target, self.tile)


def loop_reduce(x: NkiTensor, op: Any, loop_indices: Sequence[int], **_: Any) -> LoopReduction:
    """The reduction of ``x`` over loops that start at zero; assign it to the result tile."""
    if not isinstance(x, NkiTensor):
        raise KernelError("nl.loop_reduce takes a tile", got=type(x).__name__,
                          where=active_core().here())  # fmt: skip
    return LoopReduction(x, op, not any(int(i) for i in loop_indices))


__all__ = [
    *current.__all__, "arange", "loop_reduce", "mgrid", "nc", "par_dim", "spmd_dim", "static_cast",
]  # fmt: skip
