"""Instructions of the GpSimd engine: patterns, selection by position, gathers, reductions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from tenzing.errors import KernelError, OutOfBounds
from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.instruction import (
    Array,
    Cost,
    Engine,
    EngineState,
    Exactness,
    Instruction,
    Layout,
    Space,
    attr,
    elementwise_ps,
    reads,
    writes,
)  # fmt: skip
from tenzing.isa.operand import FREE_DIMS_MAX
from tenzing.units import cycles_to_ps

Pattern: TypeAlias = tuple[tuple[int, int], ...]

PARTITIONS_PER_GROUP: Final = 16  # SBUF rows one GpSimd core is wired to
WORD_BYTES: Final = 4


def pattern_of(value: Sequence[Sequence[int]]) -> Pattern:
    """``[[step, count], ...]`` as tuples; KernelError when it has another form."""
    try:
        pairs = tuple((int(step), int(count)) for step, count in value)
    except (TypeError, ValueError):
        raise KernelError("pattern must be a list of [step, count]", got=value,
                          next_step="write e.g. [[1, 128]]") from None  # fmt: skip
    return pairs


def pattern_size(pattern: Pattern) -> int:
    """Elements per partition that a pattern walks."""
    return math.prod(count for _, count in pattern)


def affine_values(pattern: Pattern, offset: int, channel_multiplier: int, partitions: int) -> Array:
    """``offset + partition * channel_multiplier + sum(step * position)`` as int32 ``[P, N]``."""
    values = offset + np.arange(partitions, dtype=np.int64)[:, None] * channel_multiplier
    for step, count in pattern:
        walk = np.arange(count, dtype=np.int64) * step
        values = (values[:, :, None] + walk).reshape(partitions, -1)
    return values.astype(np.int32)


def _pattern_limits(pattern: Pattern, free: int, name: str) -> Iterator[str]:
    if not 1 <= len(pattern) <= FREE_DIMS_MAX:
        yield f"pattern has {len(pattern)} dims; allowed: 1 to {FREE_DIMS_MAX}"
    if any(count < 1 for _, count in pattern):
        yield f"pattern {pattern} has a count below 1"
    if pattern_size(pattern) != free:
        yield f"pattern walks {pattern_size(pattern)} elements, {name} has {free} per partition"


def _cycles(chip: Chip, cycles: float) -> Cost:
    """Fixed part plus ``cycles``; an instruction occupies the engine until its result is there."""
    total = chip.number("gpsimd.fixed_overhead_cycles") + cycles
    time_ps = cycles_to_ps(total, chip.number("gpsimd.clock_ghz"))
    return Cost(time_ps, time_ps)


def streaming(chip: Chip, elements: int) -> Cost:
    """Fixed part plus ``gpsimd.cycles_per_element`` for each element of a partition."""
    return _cycles(chip, elements * chip.number("gpsimd.cycles_per_element"))


class Iota(Instruction, nki="iota", engines=(Engine.gpsimd,)):
    """Write an affine ramp: ``dst[p, i] = offset + p * channel_multiplier + pattern(i)``.

    Values are computed in 32-bit integers and converted to the dtype of ``dst``.
    """

    dst: Layout = writes(Space.SBUF)
    pattern: Pattern = attr(convert=pattern_of)
    offset: int = attr(0)
    channel_multiplier: int = attr(0)

    def limits(self, chip: Chip) -> Iterator[str]:
        """The pattern has at most four dims and as many elements as a partition of ``dst``."""
        yield from _pattern_limits(self.pattern, self.dst.free, "dst")

    def compute(self) -> Array:  # type: ignore[override]
        """Int32 ``[partitions, elements]``."""
        return affine_values(self.pattern, self.offset, self.channel_multiplier,
                             self.dst.partitions)  # fmt: skip

    def cost(self, chip: Chip) -> Cost:
        """Fixed part plus one cycle per element of a partition."""
        return streaming(chip, self.dst.free)


class AffineSelect(Instruction, nki="affine_select", engines=(Engine.gpsimd,)):
    """Choose by position: ``dst = on_true_tile where cmp_op(affine, 0) else on_false_value``.

    ``affine`` is the ramp of ``iota``. Chosen elements keep their bits when the dtypes agree and
    pass through float32 otherwise.
    """

    dst: Layout = writes(Space.SBUF)
    pattern: Pattern = attr(convert=pattern_of)
    channel_multiplier: int = attr()
    on_true_tile: Layout = reads(Space.SBUF)
    on_false_value: float = attr(convert=float)
    cmp_op: numerics.AluOp = attr(numerics.alu_op("equal"), convert=numerics.alu_op)
    offset: int = attr(0)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; the pattern covers a partition; a comparison decides."""
        yield from _pattern_limits(self.pattern, self.dst.free, "dst")
        for what in ("partitions", "free"):
            mine, given = getattr(self.dst, what), getattr(self.on_true_tile, what)
            if mine != given:
                yield f"dst has {mine} {what}, on_true_tile has {given}"
        if self.cmp_op.kind != "compare":
            yield f"cmp_op is {self.cmp_op.name}; a comparison is needed"

    def compute(self, on_true_tile: Array) -> Array:  # type: ignore[override]
        """In the dtype of ``dst`` when the tile has it, in float32 otherwise."""
        affine = affine_values(self.pattern, self.offset, self.channel_multiplier,
                               self.dst.partitions)  # fmt: skip
        chosen = np.asarray(self.cmp_op(affine, 0)) != 0
        given = on_true_tile.reshape(affine.shape)
        if given.dtype != self.dst.dtype:
            return np.where(chosen, numerics.f32(given), np.float32(self.on_false_value))
        result = np.empty(affine.shape, self.dst.dtype)
        numerics.store(result, np.full((1, 1), self.on_false_value, np.float32))
        np.copyto(result, given, where=chosen)
        return result

    def cost(self, chip: Chip) -> Cost:
        """Fixed part plus one cycle per element of a partition."""
        return streaming(chip, self.dst.free)


class TensorPartitionReduce(
    Instruction, nki="tensor_partition_reduce", engines=(Engine.gpsimd,),
    exactness=Exactness.modelled,
):  # fmt: skip
    """Reduce across partitions: ``dst[0, i] = op over p of data[p, i]``.

    No cost is published; assumed is a halving tree over the partitions, one pass per level.
    """

    dst: Layout = writes(Space.SBUF)
    op: numerics.AluOp = attr(convert=numerics.alu_op)
    data: Layout = reads(Space.SBUF)

    OPS: Final = ("add", "average", "maximum", "bitwise_or", "bitwise_and")

    def limits(self, chip: Chip) -> Iterator[str]:
        """One output partition; a documented operator; integers for the bitwise ones."""
        if self.dst.partitions != 1:
            yield f"dst has {self.dst.partitions} partitions; the result has 1"
        if self.dst.free != self.data.free:
            yield f"dst has {self.dst.free} free elements, data has {self.data.free}"
        if self.op.name not in self.OPS:
            yield f"op is {self.op.name}; allowed: {', '.join(self.OPS)}"
        integers = numerics.is_integer(self.data.dtype)
        if self.op.kind == "bitvec" and not integers:
            given = numerics.name(self.data.dtype)
            yield f"{self.op.name} needs an integer dtype; data has {given}"

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """Float32 sums in the canonical order, exact maxima, integer bits."""
        columns = np.ascontiguousarray(data.reshape(data.shape[0], -1).T)
        reduce = numerics.bit_reduce if self.op.kind == "bitvec" else numerics.row_reduce
        return reduce(self.op, columns).reshape(1, -1)

    def cost(self, chip: Chip) -> Cost:
        """Assumed: one pass over a partition's elements per level of the tree."""
        levels = max(1, math.ceil(math.log2(self.data.partitions)))
        return streaming(chip, self.data.free * levels)


class LocalGather(Instruction, nki="local_gather", engines=(Engine.gpsimd,)):
    """Gather within groups of 16 partitions: every partition of a group reads the same offsets.

    A group's ``index`` tile, read down the partitions first, gives the element offsets; each
    takes ``num_elem_per_idx`` neighbours: ``dst[p, n, e] = src_buffer[p, offset[n] + e]``.
    """

    dst: Layout = writes(Space.SBUF)
    src_buffer: Layout = reads(Space.SBUF)
    index: Layout = reads(Space.SBUF, dtypes=("uint16",))
    num_elem_per_idx: int = attr(1)
    num_valid_indices: int | None = attr(None)

    ELEMENTS: Final = (1, 2, 4, 8, 16, 32)

    @property
    def valid(self) -> int:
        """Indices each GpSimd core uses."""
        return self.num_valid_indices or self.index.free * PARTITIONS_PER_GROUP

    def limits(self, chip: Chip) -> Iterator[str]:
        """Whole groups of partitions, the documented run lengths and index counts."""
        if self.src_buffer.partitions != self.index.partitions:
            yield (f"src_buffer has {self.src_buffer.partitions} partitions, "
                   f"index has {self.index.partitions}")  # fmt: skip
        if self.src_buffer.partitions % PARTITIONS_PER_GROUP:
            yield (f"src_buffer has {self.src_buffer.partitions} partitions; a multiple of "
                   f"{PARTITIONS_PER_GROUP} is needed")  # fmt: skip
        if self.num_elem_per_idx not in self.ELEMENTS:
            yield f"num_elem_per_idx is {self.num_elem_per_idx}; allowed: {self.ELEMENTS}"
        limit = chip.integer("gpsimd.gather_index_max")
        given = self.index.free * PARTITIONS_PER_GROUP
        if not 1 <= self.valid <= min(limit, given):
            yield (f"each core gathers {self.valid} indices; allowed: 1 to {min(limit, given)} "
                   "(given in index, gpsimd.gather_index_max)")  # fmt: skip
        if self.dst.dtype != self.src_buffer.dtype:
            yield (f"dst has dtype {numerics.name(self.dst.dtype)}, "
                   f"src_buffer has {numerics.name(self.src_buffer.dtype)}")  # fmt: skip
        wanted = (self.src_buffer.partitions, self.valid * self.num_elem_per_idx)
        if (self.dst.partitions, self.dst.free) != wanted:
            yield (f"dst is {self.dst.partitions} x {self.dst.free}; the result is "
                   f"{wanted[0]} x {wanted[1]}")  # fmt: skip

    def compute(self, src_buffer: Array, index: Array) -> Array:  # type: ignore[override]
        """The same bits; an offset outside the partition, undefined on the chip, is an error."""
        source = src_buffer.reshape(src_buffer.shape[0], -1)
        tile = index.reshape(index.shape[0], -1)
        result = np.empty((source.shape[0], self.valid * self.num_elem_per_idx), source.dtype)
        run = np.arange(self.num_elem_per_idx)
        for start in range(0, source.shape[0], PARTITIONS_PER_GROUP):
            group = slice(start, start + PARTITIONS_PER_GROUP)
            offsets = tile[group].T.reshape(-1)[: self.valid].astype(np.int64)
            reach = (offsets[:, None] + run).reshape(-1)
            _check_reach(self.nki, reach, source.shape[1])
            result[group] = source[group][:, reach]
        return result

    def cost(self, chip: Chip) -> Cost:
        """Published: ``fixed + valid * elements / C``, C from run length and element size."""
        elements = self.num_elem_per_idx
        words = chip.number("gpsimd.gather_run_cycles") * elements
        rate = (chip.number("gpsimd.gather_start_cycles") + words) / words
        rate /= min(WORD_BYTES / self.src_buffer.itemsize, elements)
        return _cycles(chip, self.valid * elements / rate)


class NcNGather(Instruction, nki="nc_n_gather", engines=(Engine.gpsimd,)):
    """Gather within each partition: ``dst[p, i] = data[p, indices[p, i]]``.

    No cost is published; assumed is one streaming pass and a fixed part per documented group of
    elements.
    """

    dst: Layout = writes(Space.SBUF)
    data: Layout = reads(Space.SBUF)
    indices: Layout = reads(Space.SBUF, dtypes=("uint32",))

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal partitions; as many results as indices; no conversion."""
        if not self.dst.partitions == self.data.partitions == self.indices.partitions:
            yield (f"dst has {self.dst.partitions} partitions, data {self.data.partitions}, "
                   f"indices {self.indices.partitions}")  # fmt: skip
        if self.dst.free != self.indices.free:
            yield f"dst has {self.dst.free} free elements, indices has {self.indices.free}"
        if self.dst.dtype != self.data.dtype:
            yield (f"dst has dtype {numerics.name(self.dst.dtype)}, "
                   f"data has {numerics.name(self.data.dtype)}")  # fmt: skip

    def compute(self, data: Array, indices: Array) -> Array:  # type: ignore[override]
        """The same bits; an index outside the partition is an error."""
        rows = data.reshape(data.shape[0], -1)
        places = indices.reshape(indices.shape[0], -1).astype(np.int64)
        _check_reach(self.nki, places, rows.shape[1])
        return np.take_along_axis(rows, places, axis=1)

    def cost(self, chip: Chip) -> Cost:
        """Assumed: the groups run one after another."""
        groups = math.ceil(self.dst.free / chip.integer("gpsimd.gather_group_elements"))
        fixed = (groups - 1) * chip.number("gpsimd.fixed_overhead_cycles")
        return _cycles(chip, fixed + self.dst.free * chip.number("gpsimd.cycles_per_element"))


def _check_reach(nki: str, places: Array, size: int) -> None:
    bad = np.flatnonzero((places < 0) | (places >= size))
    if bad.size:
        value = int(places.reshape(-1)[bad[0]])
        raise OutOfBounds(f"nki.isa.{nki}: index {value} at position {int(bad[0])}",
                          allowed=f"0 to {size - 1}",
                          next_step="mask or clamp the indices first")  # fmt: skip


STATE: Final = "rng.state."


def _unit(chosen: Engine) -> Engine:
    return Engine.gpsimd if chosen is Engine.unknown else chosen


def _state_cost(chip: Chip, engine: Engine, words: int) -> Cost:
    if engine is Engine.vector:
        return Cost(*elementwise_ps(chip, "vector", words))
    return streaming(chip, words)


def _words(chip: Chip, engine: Engine) -> int:
    return chip.integer(f"{engine.name}.rand_state_words")


def _state_limits(layout: Layout, name: str, engine: Engine, chip: Chip) -> Iterator[str]:
    words = _words(chip, engine)
    if not words:
        yield (f"the {engine.name} engine of {chip.name} has no settable random state "
               f"({engine.name}.rand_state_words)")  # fmt: skip
    elif layout.free != words:
        yield (f"{name} has {layout.free} elements per partition; the {engine.name} engine keeps "
               f"{words} ({engine.name}.rand_state_words)")  # fmt: skip


class RandSetState(
    Instruction, nki="rand_set_state", engines=(Engine.gpsimd, Engine.vector), since=3,
    exactness=Exactness.modelled, stateful=True,
):  # fmt: skip
    """Set the random state of an engine, one row of words per lane: ``state = src_seeds``."""

    src_seeds: Layout = reads(Space.SBUF, dtypes=("uint32",))
    engine: Engine = attr(Engine.gpsimd)

    def limits(self, chip: Chip) -> Iterator[str]:
        """As many words per lane as the engine keeps."""
        yield from _state_limits(self.src_seeds, "src_seeds", self.engine_on(chip), chip)

    def compute(self, state: EngineState, src_seeds: Array) -> None:  # type: ignore[override]
        """Only the registers change."""
        state[STATE + _unit(self.engine).name] = np.array(src_seeds.reshape(src_seeds.shape[0], -1))

    def cost(self, chip: Chip) -> Cost:
        """Assumed: fixed part plus one cycle per word."""
        return _state_cost(chip, self.engine_on(chip), self.src_seeds.free)


class RandGetState(
    Instruction, nki="rand_get_state", engines=(Engine.gpsimd, Engine.vector), since=3,
    exactness=Exactness.modelled, stateful=True,
):  # fmt: skip
    """Read the random state of an engine, one row of words per lane: ``dst = state``."""

    dst: Layout = writes(dtypes=("uint32",))
    engine: Engine = attr(Engine.gpsimd)

    def limits(self, chip: Chip) -> Iterator[str]:
        """As many words per lane as the engine keeps; GpSimd cannot write PSUM."""
        yield from _state_limits(self.dst, "dst", self.engine_on(chip), chip)
        if self.engine_on(chip) is Engine.gpsimd and self.dst.space is Space.PSUM:
            yield "GpSimd cannot access PSUM"

    def compute(self, state: EngineState) -> Array:  # type: ignore[override]
        """Words as last set, zero before."""
        result = np.zeros((self.dst.partitions, self.dst.free), np.uint32)
        held: Any = state.get(STATE + _unit(self.engine).name)
        if held is not None:
            rows = min(len(held), len(result))
            result[:rows] = held[:rows]
        return result

    def cost(self, chip: Chip) -> Cost:
        """Assumed: fixed part plus one cycle per word."""
        return _state_cost(chip, self.engine_on(chip), self.dst.free)
