"""Vector instructions that choose: top eight, search, shuffle and masked selection."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Final, SupportsFloat, SupportsIndex

import numpy as np

from tenzing.errors import UsageError
from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.enums import reduce_cmd as Command
from tenzing.isa.instruction import (
    Array,
    Cost,
    Engine,
    EngineState,
    Instruction,
    Layout,
    attr,
    reads,
    same_free,
    stride_factor,
    updates,
    writes,
)
from tenzing.isa.streaming import (
    MAXIMUM,
    absent,
    accumulate,
    column,
    commands,
    not_both_psum,
    one_of,
    per_lane,
    rows,
    same_dtype,
    streaming_ps,
)

TOP: Final = 8  # values per partition that one instruction handles
SEARCH_DIMS: Final = 3  # of a tile to search in, partition dim included
UNCHANGED: Final = 255  # shuffle mask entry that leaves the output partition as it was
FLOAT32_MIN: Final = float(np.finfo(np.float32).min)
FLOATS: Final = (
    "float32", "tfloat32", "bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
INDEX_DTYPES: Final = ("uint16", "uint32")
PREDICATES: Final = ("int8", "uint8", "int16", "uint16", "bool_")
EXACT_FLOAT32: Final = (
    "float32", "bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "int8",
    "uint8", "int16", "uint16", "bool_",
)  # fmt: skip
COMPARISONS: Final = tuple(
    map(numerics.alu_op, ("equal", "less", "less_equal", "greater", "greater_equal"))
)


def one_per_cycle(chip: Chip, data: Layout, *others: Layout, extra_cycles: float = 0) -> Cost:
    """Cost of streaming ``data`` once through Vector."""
    cycles = data.free * stride_factor(chip, (data, *others))
    return Cost(*streaming_ps(chip, Engine.vector, cycles, extra_cycles=extra_cycles))


def searched(data: Layout, name: str) -> Iterator[str]:
    """Rule: a tile to search has at least eight elements per partition in at most three dims."""
    if data.free < TOP:
        yield f"{name} has {data.free} free elements; at least {TOP} are needed"
    if len(data.shape) > SEARCH_DIMS:
        yield f"{name} has {len(data.shape)} dims; at most {SEARCH_DIMS} are allowed"


def eight(tile: Layout | None, data: Layout, name: str) -> Iterator[str]:
    """Rule: ``tile`` holds eight elements for each partition of ``data``."""
    if tile is None:
        return
    if tile.partitions != data.partitions:
        yield f"{name} has {tile.partitions} partitions, data has {data.partitions}"
    if tile.free != TOP:
        yield f"{name} has {tile.free} free elements; {TOP} are needed"


class Max8(Instruction, nki="max8", engines=(Engine.vector,)):
    """The eight largest values of each partition in descending order; NaN counts as largest."""

    dst: Layout = writes()
    src: Layout = reads(free_fact="vector.free_max_max8")

    def limits(self, chip: Chip) -> Iterator[str]:
        """At least eight elements in at most three dims; eight elements out."""
        yield from searched(self.src, "src")
        yield from eight(self.dst, self.src, "dst")

    def compute(self, src: Array) -> Array:  # type: ignore[override]
        """Selection in float32."""
        values = numerics.f32(rows(src))
        largest = np.partition(values, values.shape[1] - TOP, axis=1)[:, -TOP:]
        return np.ascontiguousarray(np.sort(largest, axis=1)[:, ::-1])

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        return one_per_cycle(chip, self.src)


class NcFindIndex8(Instruction, nki="nc_find_index8", engines=(Engine.vector,)):
    """Position in ``data`` of each of eight values; all ones when a value is absent.

    A value given several times takes successive occurrences, in order of its columns.
    """

    dst: Layout = writes(dtypes=INDEX_DTYPES)
    data: Layout = reads(free_fact="vector.free_max_max8")
    vals: Layout = reads()

    def limits(self, chip: Chip) -> Iterator[str]:
        """Eight values in, eight indices out."""
        yield from searched(self.data, "data")
        yield from eight(self.vals, self.data, "vals")
        yield from eight(self.dst, self.data, "dst")

    def compute(self, data: Array, vals: Array) -> Array:  # type: ignore[override]
        """Comparison in float32, so NaN is never found."""
        values, wanted = numerics.f32(rows(data)), numerics.f32(rows(vals))
        return positions(values, wanted, range(TOP), self.dst.dtype)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        return one_per_cycle(chip, self.data)


class NcMatchReplace8(Instruction, nki="nc_match_replace8", engines=(Engine.vector,)):
    """Copy of ``data`` with the first occurrence of each of eight values replaced by ``imm``.

    A value given several times takes successive occurrences, from the last column to the first.
    ``dst_idx`` receives the positions, all ones for a value that is absent (assumed).
    """

    dst: Layout = writes()
    data: Layout = reads(free_fact="vector.free_max_max8")
    vals: Layout = reads()
    imm: Any = attr()
    dst_idx: Layout | None = writes(dtypes=INDEX_DTYPES, optional=True)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Eight values; a result as large as the data."""
        yield from searched(self.data, "data")
        yield from same_free(self.dst, self.data, "dst/data")
        yield from eight(self.vals, self.data, "vals")
        yield from eight(self.dst_idx, self.data, "dst_idx")
        if not isinstance(self.imm, SupportsFloat):
            yield f"imm is {self.imm!r}; a number is needed"

    def compute(self, data: Array, vals: Array) -> dict[str, Array]:  # type: ignore[override]
        """Comparison in float32; every other element keeps its bits."""
        values, wanted = numerics.f32(rows(data)), numerics.f32(rows(vals))
        found = positions(values, wanted, range(TOP)[::-1], np.dtype(np.uint32))
        same = self.dst.dtype == self.data.dtype
        result = rows(data).copy() if same else values.copy()
        fill = np.empty(1, result.dtype)
        numerics.store(fill, self.imm)
        lane, place = np.nonzero(found != not_found(found.dtype))
        result[lane, found[lane, place]] = fill[0]
        if self.dst_idx is None:
            return {"dst": result}
        return {"dst": result, "dst_idx": found.astype(self.dst_idx.dtype)}

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        return one_per_cycle(chip, self.data, self.dst)


def not_found(dtype: Any) -> int:
    """The index that says a value was not found: all ones."""
    return int(np.iinfo(dtype).max)


def positions(values: Array, wanted: Array, order: Sequence[int], dtype: Any) -> Array:
    """Index of every wanted value per row, duplicates served in ``order`` of their columns."""
    result = np.full(wanted.shape, not_found(dtype), dtype)
    for turn, place in enumerate(order):
        target = wanted[:, place : place + 1]
        match = values == target
        earlier = [p for p in order[:turn] if np.any(wanted[:, p] == wanted[:, place])]
        if earlier:
            rank = np.sum(wanted[:, earlier] == target, axis=1, keepdims=True)
            match &= np.cumsum(match, axis=1) == rank + 1
        index = np.argmax(match, axis=1)
        hit = match[np.arange(len(match)), index]
        result[hit, place] = index[hit]
    return result


def shuffle_mask(mask: Sequence[int]) -> tuple[int, ...]:
    """The mask as a tuple of integers."""
    if not isinstance(mask, list | tuple) or not all(isinstance(m, SupportsIndex) for m in mask):
        raise UsageError("shuffle_mask is a list of partitions", got=repr(mask), allowed="integers")
    return tuple(operator.index(m) for m in mask)


class NcStreamShuffle(Instruction, nki="nc_stream_shuffle", engines=(Engine.vector,)):
    """Move rows within each quadrant: ``dst[i] = src[shuffle_mask[i]]``; 255 leaves ``dst[i]``.

    The mask has one entry per partition of a quadrant and applies to every quadrant.
    """

    dst: Layout = updates()
    src: Layout = reads()
    shuffle_mask: tuple[int, ...] = attr(convert=shuffle_mask)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal dtype and row size; a full mask that stays within the rows of the source."""
        if missing := absent(self, "shuffle_mask"):
            yield from missing
            return
        quadrant = chip.integer("sbuf.start_partition_quantum")
        yield from same_dtype(self.src, self.dst, "src/dst")
        if self.dst.free != self.src.free:
            yield f"dst has {self.dst.free} free elements, src has {self.src.free}"
        if len(self.shuffle_mask) != quadrant:
            yield (f"shuffle_mask has {len(self.shuffle_mask)} entries; {chip.name} needs "
                   f"{quadrant} (sbuf.start_partition_quantum)")  # fmt: skip
            return
        for entry in self.shuffle_mask:
            if not (0 <= entry < quadrant or entry == UNCHANGED):
                yield f"shuffle_mask holds {entry}; allowed: 0 to {quadrant - 1}, or {UNCHANGED}"
        unread = [s for _, s in self._moves() if s >= self.src.partitions]
        if unread:
            yield f"shuffle_mask reads partition {unread[0]}; src has {self.src.partitions}"

    def _moves(self) -> list[tuple[int, int]]:
        quadrant = len(self.shuffle_mask)
        moves = []
        for row in range(self.dst.partitions):
            entry = self.shuffle_mask[row % quadrant]
            if entry != UNCHANGED:
                moves.append((row, row - row % quadrant + entry))
        return moves

    def compute(self, dst: Array, src: Array) -> Array:  # type: ignore[override]
        """Bits of the chosen rows."""
        result, source = rows(dst).copy(), rows(src)
        moves = self._moves()
        result[[to for to, _ in moves]] = source[[at for _, at in moves]]
        return result

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        return one_per_cycle(chip, self.dst, self.src)


class RangeSelect(
    Instruction, nki="range_select", engines=(Engine.vector,), since=3, stateful=True
):
    """Keep elements whose free index lies in a range, others become the float32 minimum.

    ``i = range_start + free index; dst = data if i <comp_op0> bound0 and i <comp_op1> bound1``.
    The maximum of the result goes to the Vector registers as ``reduce_cmd`` says.
    """

    dst: Layout = writes()
    on_true_tile: Layout = reads(dtypes=FLOATS)
    comp_op0: numerics.AluOp = attr(convert=numerics.alu_op)
    comp_op1: numerics.AluOp = attr(convert=numerics.alu_op)
    bound0: Layout = reads(dtypes=("float32",))
    bound1: Layout = reads(dtypes=("float32",))
    reduce_cmd: Command = attr(Command.reset_reduce)
    reduce_res: Layout | None = writes(optional=True)
    reduce_op: numerics.AluOp = attr("maximum", convert=numerics.alu_op)
    range_start: int = attr(0)
    on_false_value: float = attr(FLOAT32_MIN)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Column bounds; comparisons; maximum only; the one value the hardware can fill in."""
        if not chip.flag("vector.select_range"):
            yield f"{chip.name} has no range_select (vector.select_range)"
        yield from same_free(self.dst, self.on_true_tile, "dst/on_true_tile")
        for name in ("bound0", "bound1", "reduce_res"):
            yield from column(getattr(self, name), self.on_true_tile, name)
        yield from one_of(self.comp_op0, COMPARISONS, "comp_op0")
        yield from one_of(self.comp_op1, COMPARISONS, "comp_op1")
        yield from one_of(self.reduce_op, (MAXIMUM,), "reduce_op")
        yield from commands(self.reduce_cmd, tuple(Command)[:-1])
        if np.float32(self.on_false_value) != np.float32(FLOAT32_MIN):
            yield f"on_false_value is {self.on_false_value}; the hardware fills in {FLOAT32_MIN}"
        last = self.range_start + self.on_true_tile.free - 1
        exact = 2 ** np.finfo(np.float32).nmant * 2
        if not -exact <= self.range_start <= last <= exact:
            yield f"indices run from {self.range_start} to {last}; float32 is exact to {exact}"

    def compute(  # type: ignore[override]
        self, state: EngineState, on_true_tile: Array, bound0: Array, bound1: Array
    ) -> dict[str, Array]:
        """The selection and the registers after taking its maximum."""
        tile = numerics.f32(rows(on_true_tile))
        index = np.arange(tile.shape[1], dtype=np.float32) + np.float32(self.range_start)
        inside = self.comp_op0(index, rows(bound0)) != 0
        inside &= self.comp_op1(index, rows(bound1)) != 0
        result = np.where(inside, tile, np.float32(FLOAT32_MIN))
        largest = numerics.row_reduce(MAXIMUM, result, (-1,))
        held = accumulate(state, Engine.vector, self.reduce_cmd, MAXIMUM, largest)
        return {"dst": result, "reduce_res": held}

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        return one_per_cycle(chip, self.on_true_tile, self.dst)


class SelectReduce(Instruction, nki="select_reduce", engines=(Engine.vector,), stateful=True):
    """Choose by a predicate, with a running maximum: ``dst = on_true if predicate else on_false``.

    No public cycle formula exists; it is timed at one element per cycle.
    """

    dst: Layout = writes()
    predicate: Layout = reads(dtypes=PREDICATES)
    on_true: Layout = reads(dtypes=EXACT_FLOAT32)
    on_false: Layout | float = reads(scalar=True)
    reduce_res: Layout | None = writes(optional=True, dtypes=FLOATS)
    reduce_cmd: Command = attr(Command.idle)
    reduce_op: numerics.AluOp = attr("maximum", convert=numerics.alu_op)
    reverse_pred: bool = attr(False)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; a column or number otherwise; tile and predicate not both in PSUM."""
        yield from same_free(self.on_true, self.predicate, "on_true/predicate")
        yield from same_free(self.dst, self.on_true, "dst/on_true")
        yield from column(self.on_false, self.on_true, "on_false")
        yield from column(self.reduce_res, self.on_true, "reduce_res")
        yield from not_both_psum(self.on_true, self.predicate, "on_true/predicate")
        yield from one_of(self.reduce_op, (MAXIMUM,), "reduce_op")
        yield from commands(self.reduce_cmd, (Command.idle, Command.reset_reduce, Command.reduce))

    def compute(  # type: ignore[override]
        self, state: EngineState, predicate: Array, on_true: Array, on_false: Any
    ) -> dict[str, Array]:
        """The selection and the registers after taking its maximum."""
        chosen = rows(predicate) != 0
        if self.reverse_pred:
            chosen = ~chosen
        other = per_lane(on_false)
        other = numerics.f32(other) if isinstance(other, np.ndarray) else np.float32(other)
        result = np.where(chosen, numerics.f32(rows(on_true)), other)
        largest = numerics.row_reduce(MAXIMUM, result, (-1,))
        held = accumulate(state, Engine.vector, self.reduce_cmd, MAXIMUM, largest)
        return {"dst": result, "reduce_res": held}

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle; reading the registers takes one short instruction."""
        extra = chip.number("vector.accumulate_read_cycles") if self.reduce_res is not None else 0
        return one_per_cycle(chip, self.on_true, self.predicate, self.dst, extra_cycles=extra)


__all__ = [
    "FLOAT32_MIN", "Max8", "NcFindIndex8", "NcMatchReplace8", "NcStreamShuffle", "RangeSelect",
    "SelectReduce",
]  # fmt: skip
