"""Small random programs, and what they do to memory byte by byte: the slow, obvious way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tenzing import nki
from tenzing.isa.operand import Layout, Space, Storage
from tenzing.isa.program import Program
from tenzing.machine import Options, Placement
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

ROWS = 64  # partitions of every tile; a quarter of them is a legal start
FREE = 32  # float32 elements per partition
TILES = 4
ENGINES = (nisa.vector_engine, nisa.scalar_engine, nisa.gpsimd_engine)
KINDS = ("load", "store", "copy", "add", "exp", "fill", "multiply", "drain")


@dataclass(frozen=True)
class Part:
    """Some rows and every ``step``-th of some columns of a tile."""

    rows: int
    first: int
    count: int
    step: int

    def of(self, tile: Any) -> Any:
        """The view."""
        last = self.first + (self.count - 1) * self.step + 1
        return tile[0 : self.rows, self.first : last : self.step]


@dataclass(frozen=True)
class Step:
    """One instruction: what it does, on which tiles, on which engine."""

    kind: str
    dst: int
    first: int
    second: int
    engine: int
    part: Part
    other: Part


def parts() -> st.SearchStrategy[Part]:
    """Parts of eight columns, so that any two hold as many elements per row."""
    dense = st.builds(Part, st.sampled_from((32, 64)), st.sampled_from((0, 4, 8, 24)),
                      st.just(8), st.just(1))  # fmt: skip
    strided = st.builds(Part, st.sampled_from((32, 64)), st.integers(0, 3), st.just(8),
                        st.sampled_from((2, 3, 4)))  # fmt: skip
    return st.one_of(dense, strided)


def steps(least: int = 1, most: int = 14) -> st.SearchStrategy[list[Step]]:
    """Programs of a few instructions on a few tiles."""
    tile = st.integers(0, TILES - 1)
    one = st.builds(Step, st.sampled_from(KINDS), tile, tile, tile, st.integers(0, 2), parts(),
                    parts())  # fmt: skip
    return st.lists(one, min_size=least, max_size=most)


PLACES = st.one_of(
    st.none(),
    st.lists(st.sampled_from((0, 64, 100, 128, 4096)), min_size=TILES, max_size=TILES),
)  # byte addresses of the tiles: overlapping on purpose; None lets the allocator choose


def kernel(program: Sequence[Step], places: Sequence[int] | None = None) -> Callable[..., Any]:
    """A kernel that performs the steps on two HBM tensors, tiles in SBUF and two in PSUM."""

    def body(x: Any, out: Any) -> None:
        tiles = [
            nl.ndarray((ROWS, FREE), nl.float32, address=None if places is None else (0, places[k]))
            for k in range(TILES)
        ]
        banks = [nl.ndarray((FREE, FREE), nl.float32, buffer=nl.psum) for _ in range(2)]
        for tile in tiles[:2]:
            nisa.memset(dst=tile, value=1.0)
        for step in program:
            perform(step, x, out, tiles, banks)

    return body


def perform(step: Step, x: Any, out: Any, tiles: list[Any], banks: list[Any]) -> None:
    """Issue one step."""
    part, rows = step.part, step.part.rows
    other = Part(rows, step.other.first, step.other.count, step.other.step)
    dst, first = part.of(tiles[step.dst]), other.of(tiles[step.first])
    engine = ENGINES[step.engine]
    match step.kind:
        case "load":
            nisa.dma_copy(dst=dst, src=other.of(x))
        case "store":
            nisa.dma_copy(dst=part.of(out), src=first)
        case "copy":
            nisa.tensor_copy(dst=dst, src=first, engine=engine)
        case "add":
            second = other.of(tiles[step.second])
            nisa.tensor_tensor(dst=dst, data1=first, data2=second, op=nl.add)
        case "exp":
            nisa.activation(dst=dst, op=nl.exp, data=first)
        case "fill":
            nisa.memset(dst=dst, value=2.0)
        case "multiply":
            nisa.nc_matmul(dst=banks[step.second % 2], stationary=tiles[step.dst],
                           moving=tiles[step.first], accumulate=step.engine > 0)  # fmt: skip
        case "drain":
            target = Part(32, part.first, part.count, part.step).of(tiles[step.dst])
            source = Part(32, other.first, other.count, other.step).of(banks[step.second % 2])
            nisa.tensor_copy(dst=target, src=source, engine=ENGINES[step.engine % 2])


def record(
    body: Callable[..., Any], *arrays: Any, target: str = "trn2", values: bool = False
) -> Program:
    """The program of one launch on one core."""
    with nki.session(target, Options(values=values)):
        (program,) = nki.jit(body).launch(*arrays).programs
    return program


def inputs() -> tuple[Any, Any]:
    """The two HBM tensors every program works on."""
    x = np.arange(ROWS * FREE, dtype=np.float32).reshape(ROWS, FREE) / (ROWS * FREE)
    return x, np.zeros_like(x)


def recorded(program: Sequence[Step], places: Sequence[int] | None = None, **rest: Any) -> Program:
    """The program of some steps."""
    return record(kernel(program, places), *inputs(), **rest)


# -- byte by byte ----------------------------------------------------------------------------------


def offsets(layout: Layout) -> set[int]:
    """Bytes that a view touches, counted from its offset."""
    found = {0}
    for count, stride in zip(layout.shape, layout.strides, strict=True):
        found = {at + k * stride for at in found for k in range(count)}
    return {at + byte for at in found for byte in range(layout.itemsize)}


Byte = tuple[str, int, int]


def touched(storage: Storage, offset: int, layout: Layout, placement: Placement) -> set[Byte]:
    """Bytes of the chip's memories: (memory, partition or tensor, byte)."""
    where = {offset + at for at in offsets(layout)}
    if storage.space is Space.HBM:
        return {("hbm", storage.id, at) for at in where}
    shift = 0 if storage.address is not None else int(placement.address[storage.id])
    return {(storage.space.value, at // storage.pitch, at % storage.pitch + shift) for at in where}


def effects(program: Program, placement: Placement) -> list[tuple[set[Byte], set[Byte]]]:
    """Bytes each instruction reads and writes."""
    found = []
    for index in range(len(program)):
        reads: set[Byte] = set()
        writes: set[Byte] = set()
        for storage, offset, layout, is_read, is_written in program.accesses(index):
            here = touched(storage, offset, layout, placement)
            reads |= here if is_read else set()
            writes |= here if is_written else set()
        found.append((reads, writes))
    return found


def hazards(done: list[tuple[set[Byte], set[Byte]]]) -> list[tuple[int, int, str]]:
    """Pairs of instructions that must keep their order, and why."""
    found = []
    for later in range(len(done)):
        reads, writes = done[later]
        for earlier in range(later):
            before_reads, before_writes = done[earlier]
            if before_writes & reads:
                found.append((earlier, later, "read after write"))
            if before_reads & writes:
                found.append((earlier, later, "write after read"))
            if before_writes & writes:
                found.append((earlier, later, "write after write"))
    return found
