"""What ``tile[...] = value`` and ``tile += value`` mean: one instruction, or a copy."""

from __future__ import annotations

import sys
from typing import Any, Protocol, runtime_checkable

from tenzing.errors import KernelError
from tenzing.isa.operand import Space, View
from tenzing.machine import active_core
from tenzing.nki.tensor import NkiTensor
from tenzing.nki.values import Pending, as_number, emit, is_temporary, new_tile, returned

__tenzing_internal__ = True


@runtime_checkable
class Assignable(Protocol):
    """A value that knows how it is assigned: a reduction over loops of the older language."""

    def write_into(self, target: NkiTensor) -> None:
        """Write or combine into ``target``."""


def assign(target: NkiTensor, value: Any) -> None:
    """``target[...] = value``: a held-back call writes there directly; a tile is copied."""
    number = as_number(value)
    if number is not None:
        fill(target, number)
        return
    if not isinstance(value, NkiTensor):
        if isinstance(value, Assignable):
            value.write_into(target)
            return
        raise KernelError("only a tile or a number can be assigned to a tile",
                          got=type(value).__name__, where=active_core().here())  # fmt: skip
    core = active_core()
    pending = core.claim(value)
    if isinstance(pending, Pending):
        if is_temporary(sys.getrefcount(value)) and pending.fits(value, target):
            pending(target)
            return
        pending(value)
    copy_into(target, value)


def place_into(target: NkiTensor, value: NkiTensor) -> None:
    """Give ``value``, which nobody else holds, its place in ``target``."""
    pending = active_core().claim(value)
    if isinstance(pending, Pending):
        if pending.fits(value, target):
            pending(target)
            return
        pending(value)
    copy_into(target, value)


def fill(target: NkiTensor, number: float) -> None:
    """Write one number everywhere; HBM is reached through a tile."""
    if target.buffer.on_chip:
        emit("memset", dst=target, value=number)
        return
    emit("dma_copy", dst=target, src=filled_like(target, number))


def filled_like(target: NkiTensor, number: float) -> NkiTensor:
    """An SBUF tile with the sizes of an HBM view, holding one number."""
    tile = new_tile(target.shape, target.dtype)
    emit("memset", dst=tile, value=number)
    return tile


def copy_into(target: NkiTensor, value: NkiTensor) -> None:
    """Copy a tile or tensor; a DMA when HBM takes part, an engine otherwise."""
    if not (target.buffer.on_chip and value.buffer.on_chip):
        if target.size != value.size:
            raise _mismatch(target, value)
        emit("dma_copy", dst=target, src=value)
        return
    emit("tensor_copy", dst=target, src=broadcast_view(value, target.shape))


def broadcast_view(value: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """``value`` with free dims of one repeated (stride 0) so that it covers ``shape``."""
    layout = value.layout
    free = 1
    for count in shape[1:]:
        free *= count
    if (layout.partitions, layout.free) == (shape[0], free):
        return value
    sizes = (*value.shape[:1], *(1,) * (len(shape) - value.ndim), *value.shape[1:])
    steps = (*layout.strides[:1], *(0,) * (len(shape) - value.ndim), *layout.strides[1:])
    fits = len(sizes) == len(shape) and sizes[0] == shape[0]
    if not fits or any(n not in (1, m) for n, m in zip(sizes, shape, strict=True)):
        raise KernelError(
            f"a tile of shape {value.shape} does not broadcast to {shape}",
            allowed="equal partitions; free dims equal or 1", where=active_core().here(),
            next_step="repeat partitions with tile.broadcast_to(shape)",
        )  # fmt: skip
    strides = tuple(0 if n != m else s for n, m, s in zip(sizes, shape, steps, strict=True))
    return value._with(value.offset, shape, (layout.strides[0], *strides[1:]))


def _mismatch(target: NkiTensor, value: NkiTensor) -> KernelError:
    return KernelError(
        f"{value.size} elements of shape {value.shape} do not fit shape {target.shape}",
        where=active_core().here(), next_step="slice both sides to the same sizes",
    )  # fmt: skip


def accumulate(target: NkiTensor, value: Any) -> NkiTensor:
    """``target += value``: a matrix product adds in PSUM, anything else adds on an engine."""
    core = active_core()
    pending = core.claim(value) if isinstance(value, NkiTensor) else None
    if isinstance(pending, Pending):
        product = pending.kind.nki.startswith("nc_matmul") and target.buffer is Space.PSUM
        if product and is_temporary(sys.getrefcount(value)):
            pending(target, accumulate=core.psum_holds(target))
            return target
        pending(value)
    return in_place("add", target, value)


def in_place(op: str, target: NkiTensor, value: Any) -> NkiTensor:
    """``target = target <op> value`` on an engine."""
    number = as_number(value)
    if number is not None:
        emit("tensor_scalar", dst=target, data=target, op0=op, operand0=number)
        return target
    if not isinstance(value, NkiTensor) or not value.buffer.on_chip:
        raise KernelError(f"in-place {op} needs a tile on chip or a number", got=repr(value),
                          where=active_core().here(), next_step="load it first")  # fmt: skip
    other = broadcast_view(value, target.shape)
    emit("tensor_tensor", dst=target, data1=target, data2=not_both_psum(target, other), op=op)
    return target


def not_both_psum(first: View, second: NkiTensor) -> NkiTensor:
    """``second``, through SBUF when both operands are in PSUM, which no engine can read at once."""
    if not (first.layout.space is second.layout.space is Space.PSUM):
        return second
    tile = returned("tensor_copy", new_tile(second.shape, second.dtype), src=second)
    active_core().flush()
    return tile


__all__ = [
    "accumulate", "assign", "broadcast_view", "copy_into", "fill", "filled_like", "in_place",
    "not_both_psum", "place_into",
]  # fmt: skip
