"""``nki.isa``: one function per instruction, derived from ``tenzing.isa``."""

from __future__ import annotations

from typing import Any, Final

from tenzing.errors import KernelError, close_names
from tenzing.isa import REGISTRY, Engine
from tenzing.isa.enums import (
    dge_mode,
    dma_engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from tenzing.machine import active_core
from tenzing.nki.assign import fill
from tenzing.nki.creation import current_chip
from tenzing.nki.emit import surface_function
from tenzing.nki.tensor import NkiTensor

__tenzing_internal__ = True

__all__ = [
    *REGISTRY, "VirtualRegister", "dge_mode", "dma_engine", "engine", "get_nc_sub_version",
    "get_nc_version", "gpsimd_engine", "matmul_perf_mode", "nc_version", "oob_mode", "reduce_cmd",
    "register_alloc", "register_load", "register_move", "scalar_engine", "tensor_engine",
    "unknown_engine", "vector_engine",
]  # fmt: skip

NkiValidationError = KernelError
engine = Engine
tensor_engine: Final = Engine.tensor
vector_engine: Final = Engine.vector
scalar_engine: Final = Engine.scalar
gpsimd_engine: Final = Engine.gpsimd
unknown_engine: Final = Engine.unknown

globals().update({nki: surface_function(kind) for nki, kind in REGISTRY.items()})


class VirtualRegister:
    """A scalar register of an engine; holds an integer while the kernel is simulated."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __bool__(self) -> bool:
        return bool(self.value)


def register_alloc(x: int | None = None) -> VirtualRegister:
    """A new register, holding ``x``."""
    return VirtualRegister(int(x or 0))


def register_move(dst: VirtualRegister, src: int | VirtualRegister) -> None:
    """Copy an integer into a register."""
    dst.value = int(src)


def register_load(dst: VirtualRegister, src: NkiTensor) -> None:
    """Read a one-element tile into a register."""
    if src.size != 1:
        raise KernelError(f"register_load takes one element, got shape {src.shape}",
                          where=active_core().here())  # fmt: skip
    dst.value = 0 if src.data is None else int(src.numpy().reshape(-1)[0])


def register_store(dst: NkiTensor, src: int | VirtualRegister) -> None:
    """Write a register into a one-element tensor; recorded and timed as a fill of that element."""
    if dst.size != 1:
        raise KernelError(f"register_store takes one element, got shape {dst.shape}",
                          where=active_core().here())  # fmt: skip
    fill(dst, int(src))


def get_nc_version() -> nc_version:
    """Generation of the target NeuronCore."""
    return nc_version(current_chip().generation)


def get_nc_sub_version() -> int:
    """Silicon revision within the generation: the first."""
    return 0


def __getattr__(name: str) -> Any:
    known = close_names(name, sorted(REGISTRY)) or ", ".join(sorted(REGISTRY))
    raise AttributeError(f"nki.isa has no '{name}' in tenzing; it knows {known}")
