"""Tiles that calls return: where they are allocated, and how the call that fills them is held back.

A call that returns a tile does not issue its instruction at once. When the tile is assigned to one
the user already has (``buffer[i] = nl.exp(x)``), the instruction writes there, as on the chip;
otherwise it fills a tile of its own before the next instruction. Either way its source line is the
line of the call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final, NamedTuple

import numpy as np

from tenzing.errors import KernelError
from tenzing.isa import REGISTRY, Instruction, numerics
from tenzing.isa.operand import DType, Space, View
from tenzing.machine import Core, active_core
from tenzing.nki.emit import hidden_operands, slow_key
from tenzing.nki.tensor import NkiTensor, new_tensor

__tenzing_internal__ = True

Number = int | float
FLOAT32: Final = numerics.dtype("float32")
# Their result is not a float32 number rounded on write: the tile must have the dtype they ask for.
_KEEP_DTYPE: Final = frozenset(
    {"dma_copy", "dma_transpose", "nc_matmul", "nc_matmul_mx", "nc_transpose", "tensor_copy"}
)
_TILE_RANK: Final = 2  # a tile has a partition dim and at least one free dim


class Site(NamedTuple):
    """Where in the user's source a call stands; named like a frame."""

    f_code: CodeType
    f_lasti: int


def call_site(core: Core) -> Site:
    """The user's line that led here."""
    frame = core.user_frame(2)
    return Site(frame.f_code, frame.f_lasti)


def issue(core: Core, kind: type[Instruction], site: Site, arguments: dict[str, Any]) -> None:
    """Record one instruction as if its ``nki.isa`` function had been called at ``site``."""
    complete = {n: arguments.get(n, s.default) for n, s in kind.specs.items()}
    for name in hidden_operands(kind):
        complete[name] = getattr(complete[name.removesuffix("_index")], "index", None)
    key = slow_key(kind, site, complete)
    template = core.templates.get(key)
    if template is None:
        template = core.make_template(key, kind, complete, (site.f_code, site.f_lasti))
    views = tuple(v for n in kind.operands if isinstance(v := complete[n], View))
    core.record(template, views)


@dataclass(slots=True, eq=False)
class Pending:
    """An instruction whose destination is not decided yet."""

    core: Core
    kind: type[Instruction]
    site: Site
    arguments: dict[str, Any]

    def __call__(self, dst: View, **more: Any) -> None:
        """Issue it into ``dst``."""
        issue(self.core, self.kind, self.site, {**self.arguments, **more, "dst": dst})

    def fits(self, tile: View, target: View) -> bool:
        """Whether writing ``target`` directly gives the bits a copy of ``tile`` would give."""
        if target.layout.space not in self.kind.operands["dst"].spaces:
            return False
        if (tile.layout.partitions, tile.layout.free) != (
            target.layout.partitions, target.layout.free
        ):  # fmt: skip
            return tile.layout.size == target.layout.size and not target.layout.space.on_chip
        if tile.dtype == target.dtype:
            return True
        return tile.dtype == FLOAT32 and self.kind.nki not in _KEEP_DTYPE


def emit(name: str, /, **arguments: Any) -> None:
    """Issue an instruction now, at the user's line."""
    core = active_core()
    core.flush()
    issue(core, REGISTRY[name], call_site(core), arguments)


def returned(name: str, tile: NkiTensor, /, **arguments: Any) -> NkiTensor:
    """Hand out ``tile``, to be filled by an instruction that is held back."""
    core = active_core()
    core.defer(tile, Pending(core, REGISTRY[name], call_site(core), arguments))
    return tile


def new_tile(shape: Sequence[int], dtype: Any, space: Space = Space.SBUF) -> NkiTensor:
    """A tile for a result; a single dim is the partition dim."""
    dims = tuple(shape)
    if len(dims) < _TILE_RANK:
        dims = (*dims, 1)
    return new_tensor(dims, dtype, space)


def on_chip(value: Any, what: str) -> NkiTensor:
    """``value`` as a tile of SBUF or PSUM, or an error that says what to do."""
    if not isinstance(value, NkiTensor):
        raise KernelError(f"{what}: a tile is needed", got=type(value).__name__,
                          where=active_core().here())  # fmt: skip
    if not value.buffer.on_chip:
        raise KernelError(
            f"{what}: {value!r} is in HBM; engines read SBUF and PSUM only",
            where=active_core().here(), next_step="load it first: tile = nl.load(tensor)",
        )  # fmt: skip
    return value


def as_number(value: Any) -> Number | None:
    """A Python number out of a Python or NumPy scalar, else None."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    return value if isinstance(value, int | float) else None


def given_dtype(dtype: Any, default: DType) -> DType:
    """The dtype the user asked for, else ``default``."""
    return default if dtype is None else numerics.dtype(dtype)


def promoted(first: DType, second: DType) -> DType:
    """The dtype that holds both: the wider of one kind, float over integer, float32 otherwise."""
    if first == second:
        return first
    floats = [d for d in (first, second) if numerics.is_float(d)]
    if len(floats) == 1:
        return floats[0]
    wide, narrow = sorted((first, second), key=lambda d: -d.itemsize)
    if wide.itemsize > narrow.itemsize:
        return wide
    return FLOAT32 if floats else numerics.dtype("int32")


# -- is anybody else holding the value? ------------------------------------------------------------


class _Probe:
    """Walks the same calls as ``NkiTensor.__setitem__`` to learn a temporary's reference count."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        _probe(self, value)


def _probe(target: _Probe, value: Any) -> None:
    target.seen.append(sys.getrefcount(value))


def _counts() -> tuple[int, int]:
    probe = _Probe()
    probe[0] = object()
    named = object()
    probe[0] = named
    return probe.seen[0], probe.seen[1]


_TEMPORARY, _NAMED = _counts()


def is_temporary(references: int) -> bool:
    """Whether a value counted in ``assign`` is held by nobody else; False when unsure."""
    return _TEMPORARY < _NAMED and references <= _TEMPORARY


__all__ = [
    "FLOAT32", "Number", "Pending", "Site", "as_number", "call_site", "emit", "given_dtype",
    "is_temporary", "issue", "new_tile", "on_chip", "promoted", "returned",
]  # fmt: skip
