"""Instructions of the Tensor engine: matrix product and transpose through the systolic array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa import enums, numerics
from tenzing.isa.instruction import (
    Array,
    Cost,
    DType,
    Engine,
    Exactness,
    Instruction,
    Layout,
    Space,
    attr,
    elementwise_ps,
    reads,
    stride_factor,
    updates,
    writes,
)  # fmt: skip
from tenzing.units import cycles_to_ps

MULTIPLY_ADD: Final = 2  # operations per multiply-accumulate
DOUBLE: Final = 2  # rows a cell holds in double-row mode
FULL_RATE: Final = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn", "bfloat16", "float16")
FP8: Final = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
FP32: Final = ("tfloat32", "float32")
HALF_BYTES: Final = np.dtype(np.float16).itemsize
INPUTS: Final = (*FULL_RATE, *FP32)


class NcMatmul(Instruction, nki="nc_matmul", engines=(Engine.tensor,), exactness=Exactness.bounded):
    """Multiply on the systolic array: ``dst = stationary.T @ moving``, or add that to ``dst``.

    The contraction runs along the partitions; in ``double_row`` mode along the partitions and a
    first free dim of two. Sums are float32 in the canonical order of the numerics; the silicon's
    own order is not public, so a result is within rounding of it. With ``is_transpose`` and a
    permutation as ``moving`` the bits of ``stationary`` pass through unchanged, as NeuronCore-v3
    and newer document; on v2 that holds for finite values only. ``tile_position`` and
    ``tile_size`` are checked, but small tiles are timed as if they had the array alone.
    """

    dst: Layout = updates(Space.PSUM)
    stationary: Layout = reads(Space.SBUF)
    moving: Layout = reads(Space.SBUF)
    is_stationary_onezero: bool = attr(False)
    is_moving_onezero: bool = attr(False)
    is_transpose: bool = attr(False)
    accumulate: bool | None = attr(None)
    tile_position: tuple[int, ...] = attr(())
    tile_size: tuple[int, ...] = attr(())
    perf_mode: enums.matmul_perf_mode = attr(enums.matmul_perf_mode.none)

    @property
    def double_row(self) -> bool:
        """Whether two contraction rows share a cell."""
        return self.perf_mode is enums.matmul_perf_mode.double_row

    @property
    def rows(self) -> int:
        """Contraction rows per partition."""
        return DOUBLE if self.double_row else 1

    def limits(self, chip: Chip) -> Iterator[str]:
        """Sizes, dtype pairs and modes."""
        if self.double_row:
            yield from self._double_row_limits(chip)
        yield from self._shape_limits(chip)
        yield from self._dtype_limits(chip)
        yield from _tile_limits(self, chip, self.stationary.partitions,
                                self.stationary.free // self.rows)  # fmt: skip

    def _shape_limits(self, chip: Chip) -> Iterator[str]:
        k_stationary, k_moving = self.stationary.partitions, self.moving.partitions
        if k_stationary != k_moving:
            yield f"stationary has {k_stationary} partitions, moving has {k_moving}"
        columns = self.stationary.free // self.rows
        limit = chip.integer("tensor.stationary_free_max")
        if columns > limit:
            yield (f"stationary has {columns} free elements; {chip.name} allows {limit} "
                   "(tensor.stationary_free_max)")  # fmt: skip
        moving = self.moving.free // self.rows
        limit = _moving_limit(chip, self.dst.dtype)
        if moving > limit:
            yield (f"moving has {moving} free elements; {chip.name} allows {limit} for a "
                   f"{numerics.name(self.dst.dtype)} dst (tensor.moving_free_max)")  # fmt: skip
        if self.dst.partitions != columns:
            yield f"dst has {self.dst.partitions} partitions, stationary {columns} free elements"
        if self.dst.free != moving:
            yield f"dst has {self.dst.free} free elements, moving has {moving}"

    def _dtype_limits(self, chip: Chip) -> Iterator[str]:
        names = [numerics.name(x.dtype) for x in (self.stationary, self.moving)]
        yield from _input_limits(chip, names)
        if (names[0] in FP32) != (names[1] in FP32):
            yield (f"stationary is {names[0]} and moving is {names[1]}; float32 and tfloat32 "
                   "pair only with each other")  # fmt: skip
        if "float8_e4m3" in names and "float8_e4m3fn" in names:
            yield "float8_e4m3 and float8_e4m3fn cannot meet in one product"
        allowed = ["float32"]
        if chip.flag("tensor.psum_bf16_accumulate"):
            allowed.append("bfloat16")
        if self.is_transpose:
            allowed.append(names[0])
        dst = numerics.name(self.dst.dtype)
        if dst not in allowed:
            yield f"dst has dtype {dst}; allowed: {', '.join(dict.fromkeys(allowed))}"

    def _double_row_limits(self, chip: Chip) -> Iterator[str]:
        if not chip.flag("tensor.double_row_fp8"):
            yield f"{chip.name} has no double_row mode (tensor.double_row_fp8)"
        for name, layout in (("stationary", self.stationary), ("moving", self.moving)):
            if len(layout.shape) <= DOUBLE or layout.shape[1] != DOUBLE:
                yield (f"{name} has shape {layout.shape}; double_row takes "
                       "(partitions, 2, elements)")  # fmt: skip
            if numerics.name(layout.dtype) not in FP8:
                yield (f"{name} has dtype {numerics.name(layout.dtype)}; double_row takes "
                       f"{', '.join(FP8)}")  # fmt: skip
        if self.is_transpose:
            yield "double_row cannot be combined with is_transpose"
        if self.tile_size and self.tile_size[-1] != chip.integer("tensor.columns"):
            yield "double_row cannot be combined with column tiling"

    def compute(  # type: ignore[override]
        self, dst: Array | None, stationary: Array, moving: Array
    ) -> Array:
        """Float32 ``[columns, N]``; a transpose returns the stationary bits."""
        depth = stationary.shape[0] * self.rows
        stationary = stationary.reshape(depth, -1)
        moving = moving.reshape(depth, -1)
        if self.is_transpose and not self.accumulate:
            order = _permutation(moving)
            if order is not None:
                return stationary[order].T
        left, right = numerics.f32(stationary), numerics.f32(moving)
        if not self.accumulate or dst is None:
            return numerics.matmul(left, right)
        total = np.array(numerics.f32(dst), np.float32).reshape(left.shape[1], right.shape[1])
        numerics.matmul(left, right, out=total)
        return total

    def cost(self, chip: Chip) -> Cost:
        """One moving column per cycle; float32 in several passes; the load is hidden."""
        columns = self.moving.free // self.rows
        transpose = self.is_transpose and chip.flag("tensor.transpose_exact")
        name = numerics.name(self.stationary.dtype)
        if transpose:
            return _transpose_cost(chip, self.stationary, columns)
        if name == "float32":
            passes = chip.integer("tensor.fp32_passes")
            if self.is_stationary_onezero or self.is_moving_onezero:
                passes = max(1, passes // 2)
            cycles = columns * chip.number("tensor.fp32_cycles_per_row")
            load = chip.number("tensor.load_cycles_fp32")
        else:
            passes, cycles = 1, columns
            load = chip.number("tensor.load_cycles_16bit")
        cycles *= stride_factor(chip, [self.moving])
        load *= stride_factor(chip, [self.stationary])
        return _tensor_cost(chip, cycles, passes, load, self.stationary.free // self.rows)

    def flops(self) -> int:
        """``2 K M N``; a transpose does no arithmetic."""
        if self.is_transpose:
            return 0
        columns = self.stationary.free // self.rows
        return MULTIPLY_ADD * self.stationary.partitions * columns * self.moving.free


class NcTranspose(Instruction, nki="nc_transpose", engines=(Engine.tensor, Engine.vector)):
    """Swap the partition dim and the flattened free dims: ``dst[j, i] = data[i, j]``, bit for bit.

    On NeuronCore-v2 the Tensor engine multiplies by an identity, so NaN and infinity would spread
    there; that is not modelled.
    """

    dst: Layout = writes()
    data: Layout = reads()
    engine: Engine = attr(Engine.unknown)

    def default_engine(self, chip: Chip) -> Engine:
        """Tensor for SBUF to PSUM, which only it does at full size; Vector otherwise."""
        spaces = {name: layout.space for name, _, layout in self.layouts()}
        to_psum = spaces.get("dst") is Space.PSUM and spaces.get("data") is Space.SBUF
        return Engine.tensor if to_psum else Engine.vector

    def limits(self, chip: Chip) -> Iterator[str]:
        """Tensor: 128 x 128, SBUF to PSUM; Vector: 32 x 32."""
        if self.dst.dtype != self.data.dtype:
            yield (f"dst has dtype {numerics.name(self.dst.dtype)}, "
                   f"data has {numerics.name(self.data.dtype)}")  # fmt: skip
        if (self.dst.partitions, self.dst.free) != (self.data.free, self.data.partitions):
            yield (f"dst is {self.dst.partitions} x {self.dst.free}; the transpose of data is "
                   f"{self.data.free} x {self.data.partitions}")  # fmt: skip
        if self.engine_on(chip) is Engine.vector:
            keys = ("vector.transpose_block", "vector.transpose_block")
        else:
            keys = ("tensor.rows", "tensor.stationary_free_max")
            if self.data.space is not Space.SBUF or self.dst.space is not Space.PSUM:
                yield "the Tensor engine transposes from SBUF to PSUM only"
        sizes = (("partitions", self.data.partitions), ("free elements", self.data.free))
        for key, (what, size) in zip(keys, sizes, strict=True):
            limit = chip.integer(key)
            if size > limit:
                yield (f"data has {size} {what}; the {self.engine_on(chip).name} engine of "
                       f"{chip.name} transposes {limit} ({key})")  # fmt: skip

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """The same bits, transposed."""
        return data.reshape(data.shape[0], -1).T

    def cost(self, chip: Chip) -> Cost:
        """Tensor: one output column per cycle (float32: several); Vector: one per element."""
        if self.engine_on(chip) is Engine.vector:
            factor = stride_factor(chip, [self.dst, self.data])
            return Cost(*elementwise_ps(chip, "vector", self.data.free * factor))
        return _transpose_cost(chip, self.data, self.data.partitions)


def _moving_limit(chip: Chip, dst: DType) -> int:
    """The limit is a size in PSUM; a bfloat16 ``dst`` fits twice the elements of a float32 one."""
    limit = chip.integer("tensor.moving_free_max")
    if chip.flag("tensor.psum_bf16_accumulate"):
        return limit * np.dtype(np.float32).itemsize // dst.itemsize
    return limit


def _input_limits(chip: Chip, names: list[str]) -> Iterator[str]:
    allowed = [n for n in INPUTS if n != "float8_e4m3fn" or chip.flag("tensor.fp8_ocp")]
    for operand, name in zip(("stationary", "moving"), names, strict=True):
        if name not in allowed:
            yield f"{operand} has dtype {name}; {chip.name} multiplies {', '.join(allowed)}"


def _tile_limits(op: NcMatmul, chip: Chip, rows: int, columns: int) -> Iterator[str]:
    """Rules of ``tile_position`` and ``tile_size``: each dim apart, rows then columns."""
    position, size = tuple(op.tile_position or ()), tuple(op.tile_size or ())
    if bool(position) != bool(size):
        yield "tile_position and tile_size must be given together"
        return
    if not size:
        return
    if len(position) != 2 or len(size) != 2:  # noqa: PLR2004 - rows and columns
        yield f"tile_position {position} and tile_size {size} must be pairs (row, column)"
        return
    dims = (("row", "tensor.rows", rows), ("column", "tensor.columns", columns))
    smallest = chip.integer("tensor.row_tile_min")
    for (name, key, used), start, extent in zip(dims, position, size, strict=True):
        whole = chip.integer(key)
        allowed = _halvings(whole, smallest)
        if extent not in allowed:
            yield (f"tile_size has {name} size {extent}; {chip.name} allows "
                   f"{', '.join(map(str, allowed))} (tensor.row_tile_min)")  # fmt: skip
            continue
        if start % extent or not 0 <= start < whole:
            yield (f"tile_position starts at {name} {start}; it must be a multiple of {extent} "
                   f"below {whole}")  # fmt: skip
        if used > extent:
            yield f"stationary needs {used} {name}s; tile_size has {extent}"


def _halvings(whole: int, smallest: int) -> list[int]:
    sizes = [whole]
    while sizes[-1] // 2 >= smallest:
        sizes.append(sizes[-1] // 2)
    return sizes


def _permutation(moving: Array) -> Array | None:
    """Row of the single one in each column, or ``None`` when a column is not one-hot."""
    values = numerics.f32(moving)
    order: Array = np.argmax(values, axis=0)
    ones = values[order, np.arange(values.shape[1])] == 1
    single = np.count_nonzero(values, axis=0) == 1
    return order if bool(np.all(ones & single)) else None


def _tensor_cost(chip: Chip, cycles: float, passes: int, load: float, columns: int) -> Cost:
    """``passes`` instructions of ``cycles``; a stationary load in proportion to its columns.

    Every pass loads its half of the stationary tile; the load hides under the pass before it.
    """
    clock = chip.number("tensor.clock_ghz")
    load *= columns / chip.integer("tensor.columns")
    streamed = max(cycles, chip.number("tensor.min_interval_cycles"))
    streamed *= chip.number("tensor.streaming_factor")
    interval = streamed + chip.number("tensor.interval_overhead_cycles")
    if passes > 1:
        interval = max(interval, load)
    latency = (passes - 1) * interval + streamed + chip.number("tensor.latency_overhead_cycles")
    return Cost(cycles_to_ps(passes * interval, clock), cycles_to_ps(latency, clock),
                load_ps=cycles_to_ps(load, clock))  # fmt: skip


def _transpose_cost(chip: Chip, stationary: Layout, columns: int) -> Cost:
    if stationary.itemsize <= HALF_BYTES:
        cycles = float(columns)
        load = chip.number("tensor.load_cycles_16bit")
    else:
        cycles = columns * chip.number("tensor.transpose_fp32_cycles_per_row")
        load = chip.number("tensor.load_cycles_fp32_transpose")
    return _tensor_cost(chip, cycles, 1, load, stationary.free)
