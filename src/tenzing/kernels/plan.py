"""How a matrix product is cut into tiles, and an estimate of what a cut costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from tenzing.kernels.operands import Chunk, chunks
from tenzing.nki import language as nl
from tenzing.nki.creation import current_chip

SBUF_SHARE: Final = 0.75  # of a partition for operands; the rest holds results on their way out
PLANS_REMEMBERED: Final = 4096
CHUNK_BYTES: Final = 8192  # per partition: one load is then 1 MiB, long enough to hide its start
FIRST_BYTES: Final = 2048  # per partition of the first load: shorter ones cost as much
LOADS_IN_FLIGHT: Final = 4  # of an operand that is used once; more would only delay stores
CROWDING: Final = 0.02  # of the time of loads, even hidden ones: neighbours need DMA too
SHORT_NS: Final = 20_000  # of multiplying: below it, the start and end of a kernel count
DOUBLE_ROW: Final = 2  # rows of fp8 in one cell
STREAM_GROUPS: Final = 1.5  # of an operand that several kept groups use: one and half of the next


@dataclass(frozen=True)
class Shape:
    """Products of [rows, depth] and ``rights`` matrices [depth, columns], by bytes an element.

    ``one_pass``: TensorE takes the dtype at full rate, as it does all but float32.
    """

    rows: int
    depth: int
    columns: int
    itemsize: int
    rights: int = 1
    banks_taken: int = 0  # by work beside the products
    one_pass: bool = True

    @property
    def unit(self) -> int:
        """Blocks of the contraction that one product takes: two of fp8 where a cell holds both."""
        double = self.itemsize == 1 and current_chip().flag("tensor.double_row_fp8")
        return DOUBLE_ROW if double else 1


@dataclass(frozen=True)
class Plan:
    """A cut of ``left @ right``.

    A group is ``row_tiles`` x ``column_tiles`` PSUM banks that are summed together over the whole
    depth, so that one load of either side serves several products. ``kept``: which operand's
    ``panel`` groups stay in SBUF while the other streams past: "left", "right" or "none".
    """

    row_tiles: int
    column_tiles: int
    kept: str
    panel: int
    chunk_blocks: int

    def parts(self, shape: Shape, blocks: int = 0) -> list[Chunk]:
        """Cuts of the contraction, ``blocks`` a load once loads are long."""
        widest = max(
            min(s, n) for s, n in zip(steps(self), (shape.rows, shape.columns), strict=True)
        )
        first = -(-FIRST_BYTES // (widest * shape.itemsize))
        return chunks(shape.depth, blocks or self.chunk_blocks, first, shape.unit)

    def side(self, shape: Shape, name: str) -> tuple[list[Chunk], int, int]:
        """The loads, their columns, and for how many there is memory, of "left" or "right"."""
        step = min(steps(self)[name == "right"], shape.columns if name == "right" else shape.rows)
        parts = self.parts(shape, max(self.chunk_blocks, CHUNK_BYTES // (step * shape.itemsize)))
        loads = len(parts)
        if self.kept == name:
            return parts, step, loads * self.panel
        if self.panel == 1:
            return parts, step, min(LOADS_IN_FLIGHT, loads * 2)
        return parts, step, max(math.ceil(loads * STREAM_GROUPS), min(LOADS_IN_FLIGHT, loads * 2))

    def bytes_per_partition(self, shape: Shape) -> int:
        """SBUF for both operands."""
        total = 0
        for name in ("left", "right"):
            parts, step, slots = self.side(shape, name)
            count = slots * (shape.rights if name == "right" else 1)
            total += max(part.blocks for part in parts) * step * count * shape.itemsize
        return total

    def __str__(self) -> str:
        return (f"{self.row_tiles}x{self.column_tiles} banks, {self.panel} groups of "
                f"{self.kept} kept, {self.chunk_blocks} blocks a load")  # fmt: skip


def default_plan(shape: Shape) -> Plan:
    """The cut with the least estimated time on the current chip; the earlier of equals."""
    return _best(shape, current_chip().name)


@lru_cache(maxsize=PLANS_REMEMBERED)
def _best(shape: Shape, chip: str) -> Plan:
    if multiply_ns(shape) < SHORT_NS:
        # a short product is a link in a chain: hand rows on as soon as they are done
        plan = _fitted(shape, Plan(1, 1, "right", 1, 1))
        if plan is not None:
            return plan
    return min(candidates(shape), key=lambda plan: estimate_ns(shape, plan))


def candidates(shape: Shape) -> Iterator[Plan]:
    """Cuts that fit the memories."""
    banks = (nl.tile_size.psum_num_banks - shape.banks_taken) // shape.rights
    rows = -(-shape.rows // nl.tile_size.pmax)
    columns = -(-shape.columns // nl.tile_size.gemm_moving_fmax)
    seen = set()
    for row_tiles in (4, 2, 8, 1):  # powers of two, the squarest first
        row_tiles = min(row_tiles, rows, banks)
        column_tiles = min(banks // row_tiles, columns)
        for kept in ("left", "right", "none"):
            plan = _fitted(shape, Plan(row_tiles, column_tiles, kept, 1, 1))
            if plan is not None and plan not in seen:
                seen.add(plan)
                yield plan


def _fitted(shape: Shape, plan: Plan) -> Plan | None:
    """The plan with the largest loads and the most kept groups that fit."""
    step_rows, step_columns = steps(plan)
    widest = max(min(step_rows, shape.rows), min(step_columns, shape.columns)) * shape.itemsize
    plan = replace(plan, chunk_blocks=max(1, CHUNK_BYTES // widest))
    room = int(nl.tile_size.total_available_sbuf_size * SBUF_SHARE)
    count = (
        -(-shape.rows // step_rows) if plan.kept == "left" else -(-shape.columns // step_columns)
    )
    kept = group_bytes(shape, plan)[plan.kept == "right"]
    most = 1 if plan.kept == "none" else min(count, room // kept)
    for panel in range(most, 0, -1):
        fitted = replace(plan, panel=panel)
        if fitted.bytes_per_partition(shape) <= room:
            return fitted
    return None


def steps(plan: Plan) -> tuple[int, int]:
    """Rows and columns of one group."""
    return plan.row_tiles * nl.tile_size.pmax, plan.column_tiles * nl.tile_size.gemm_moving_fmax


def group_bytes(shape: Shape, plan: Plan) -> tuple[int, int]:
    """Bytes per partition of one group of the left and of the right operand."""
    blocks = -(-shape.depth // nl.tile_size.pmax)
    rows, columns = steps(plan)
    return (blocks * min(rows, shape.rows) * shape.itemsize,
            blocks * min(columns, shape.columns) * shape.itemsize * shape.rights)  # fmt: skip


def move_ns(shape: Shape, plan: Plan) -> float:
    """Time of the DMA engines: the kept operand once, the other once per panel.

    The left operand is transposed on its way, and a run of a row is one descriptor.
    """
    chip = current_chip()
    rows, columns = steps(plan)
    again_left = 1 if plan.kept == "left" else -(-shape.columns // (columns * plan.panel))
    again_right = 1 if plan.kept == "right" else -(-shape.rows // (rows * plan.panel))
    engine = chip.number("dma.engine_gb_s")
    overhead = chip.number("dma.descriptor_ns") * engine  # bytes that a descriptor costs
    total = 0.0
    for width, step, again, rate in (
        (shape.rows, nl.tile_size.pmax * plan.chunk_blocks, again_left,
         chip.number("dma.transpose_factor_hbm")),
        (shape.columns * shape.rights, min(columns, shape.columns), again_right, 1.0),
    ):  # fmt: skip
        size = width * shape.depth * shape.itemsize
        total += size * again * (1 + overhead / (step * shape.itemsize)) / rate
    return total / (engine * chip.integer("dma.engines"))


def multiply_ns(shape: Shape) -> float:
    """Time of TensorE at full rate."""
    chip = current_chip()
    passes = chip.number("tensor.fp32_passes") * chip.number("tensor.fp32_cycles_per_row")
    wide = 1.0 if shape.one_pass else passes
    pmax = nl.tile_size.pmax
    tiles = -(-shape.rows // pmax) * -(-shape.depth // (pmax * shape.unit))
    return tiles * shape.columns * shape.rights * wide / chip.number("tensor.clock_ghz")


def estimate_ns(shape: Shape, plan: Plan) -> float:
    """The slower of TensorE and the DMA engines, and what the first group waits for its loads."""
    chip = current_chip()
    multiply = multiply_ns(shape)
    blocks = -(-shape.depth // nl.tile_size.pmax)
    rate = chip.number("dma.engine_gb_s") * chip.integer("dma.engines")
    move = move_ns(shape, plan)
    first = sum(group_bytes(shape, plan)) * nl.tile_size.pmax / rate
    step_rows, step_columns = steps(plan)
    share = min(step_rows / shape.rows, 1) * min(step_columns / shape.columns, 1)
    start = first / blocks + max(0.0, first - multiply * share)
    return max(multiply, move) + start + CROWDING * move


__all__ = [
    "Plan", "Shape", "candidates", "default_plan", "estimate_ns", "group_bytes", "move_ns",
    "multiply_ns", "steps",
]  # fmt: skip
