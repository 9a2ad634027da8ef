"""``nki.language``: the current surface, as AWS publishes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from tenzing.errors import KernelError
from tenzing.isa import numerics
from tenzing.machine import active_core
from tenzing.nki import assign as _assign
from tenzing.nki import elementwise as _elementwise
from tenzing.nki import reductions as _reductions
from tenzing.nki.creation import (
    MemoryRegion,
    empty_like,
    full,
    hbm,
    is_hbm,
    is_on_chip,
    is_psum,
    is_sbuf,
    ndarray,
    ones,
    private_hbm,
    psum,
    rand,
    random_seed,
    sbuf,
    shared_constant,
    shared_hbm,
    shared_identity_matrix,
    tile_size,
    zeros,
    zeros_like,
)  # fmt: skip
from tenzing.nki.indexing import DynamicSlice
from tenzing.nki.isa import VirtualRegister
from tenzing.nki.kernel import INSTANCE
from tenzing.nki.movement import (
    broadcast_to,
    expand_dims,
    gather_flattened,
    load,
    load_transpose2d,
    matmul,
    store,
    transpose,
)  # fmt: skip
from tenzing.nki.tensor import OPERATORS, NkiTensor

__tenzing_internal__ = True

# Names of functions and dtypes come from tables, so that one row is one public name.
globals().update(numerics.DTYPES)
globals().update(_elementwise.FUNCTIONS)
globals().update(_reductions.FUNCTIONS)

ds: Final = DynamicSlice


class Opcode:
    """An operator that is only a name for instructions, with no function of its own."""

    def __init__(self, name: str) -> None:
        self.nki_op = self.__name__ = name

    def __repr__(self) -> str:
        return f"nl.{self.nki_op}"


average: Final = Opcode("average")
prelu: Final = Opcode("prelu")
bypass: Final = Opcode("bypass")


# -- loops: every one runs in Python, so the record is the unrolled kernel -------------------------


def _range(start: Any, stop: Any = None, step: int = 1) -> Iterable[int]:
    first, last = (0, start) if stop is None else (start, stop)
    return range(int(first), int(last), int(step))


def affine_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations the compiler may reorder; here they run in order."""
    return _range(start, stop, step)


def sequential_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations that depend on the one before."""
    return _range(start, stop, step)


def static_range(start: int, stop: int | None = None, step: int = 1) -> Iterable[int]:
    """Iterations unrolled while the kernel is built."""
    return _range(start, stop, step)


def dynamic_range(start: Any, stop: Any = None, step: int = 1) -> Iterable[int]:
    """Iterations counted on the chip; bounds may be registers."""
    return _range(start, stop, step)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any], None], step: int = 1) -> None:
    """Call ``body_fun(i)`` with a register for each ``i`` from ``lower`` below ``upper``."""
    for i in _range(lower, upper, step):
        body_fun(VirtualRegister(i))


def while_loop(init: Any, body_fun: Callable[[Any], Any]) -> None:
    """``r = body_fun(r)`` for as long as the register ``r`` is not zero."""
    if not active_core().values:
        raise KernelError("nl.while_loop: how often it runs is known only with values",
                          where=active_core().here(), next_step="run with values")  # fmt: skip
    register = init
    while int(register):
        register = body_fun(VirtualRegister(int(register)))


def no_reorder() -> AbstractContextManager[None]:
    """A region in program order; every kernel here runs in program order."""
    return nullcontext()


# -- the launch grid -------------------------------------------------------------------------------


def program_id(axis: int = 0) -> int:
    """Index of the running program along one axis of the launch grid."""
    ids = INSTANCE.get().ids
    return ids[_grid_axis(axis, len(ids))] if ids else 0


def num_programs(axes: Any = 0) -> int:
    """Programs along an axis of the launch grid; along all of them for None."""
    grid = INSTANCE.get().grid
    wanted = range(len(grid)) if axes is None else (axes,) if isinstance(axes, int) else axes
    count = 1
    for axis in wanted if grid else ():
        count *= grid[_grid_axis(axis, len(grid))]
    return count


def program_ndim() -> int:
    """Axes of the launch grid; 0 without one."""
    return len(INSTANCE.get().grid)


def _grid_axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise KernelError(f"axis {axis} of a launch grid of {rank} axes",
                          where=active_core().here())  # fmt: skip
    return axis


def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Write the values of a tensor to standard output; nothing when only time is asked for."""
    if tensor.data is not None:
        sys.stdout.write(f"{print_prefix} {tensor.numpy()}\n")


OPERATORS.update(
    {
        **_elementwise.FUNCTIONS,
        "assign": _assign.assign,
        "accumulate": _assign.accumulate,
        "in_place": _assign.in_place,
        "broadcast_to": broadcast_to,
    }
)

__all__ = [
    *numerics.DTYPES, *_elementwise.FUNCTIONS, *_reductions.FUNCTIONS,
    "MemoryRegion", "NkiTensor", "affine_range", "average", "broadcast_to", "bypass",
    "device_print", "ds", "dynamic_range", "empty_like", "expand_dims", "fori_loop", "full",
    "gather_flattened", "hbm", "is_hbm", "is_on_chip", "is_psum", "is_sbuf", "load",
    "load_transpose2d", "matmul", "ndarray", "no_reorder", "num_programs", "ones", "prelu",
    "private_hbm", "program_id", "program_ndim", "psum", "rand", "random_seed", "sbuf",
    "sequential_range", "shared_constant", "shared_hbm", "shared_identity_matrix", "static_range",
    "store", "tile_size", "transpose", "while_loop", "zeros", "zeros_like",
]  # fmt: skip
