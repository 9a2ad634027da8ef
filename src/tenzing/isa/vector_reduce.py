"""Vector instructions that combine the elements of a partition: reductions and statistics."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Final, SupportsIndex

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
    Exactness,
    Instruction,
    Layout,
    attr,
    reads,
    same_free,
    stride_factor,
    writes,
)
from tenzing.isa.streaming import (
    ACCUMULATE_COMMANDS,
    ADD,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    SUBTRACT,
    absent,
    accumulate,
    apply,
    bits_only,
    column,
    commands,
    float32_column,
    one_of,
    rows,
    streaming_ps,
)
from tenzing.isa.vector import GPSIMD_ONLY
from tenzing.units import cycles_to_ps

BN_STATS: Final = 6  # count, mean, variance x count, of even and of odd elements
BN_TUPLE: Final = 3
BN_AGGR: Final = 2  # mean, variance
REDUCE_OPS: Final = (ADD, MULTIPLY, MAXIMUM, MINIMUM)


def axes(value: int | Sequence[int]) -> tuple[int, ...]:
    """Reduction axes as a tuple of integers."""
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(v, SupportsIndex) for v in values):
        raise UsageError("axis is a dim or several", got=repr(value), allowed="integers")
    return tuple(operator.index(v) for v in values)


def reduce_free(op: numerics.AluOp, tile: Array) -> Array:
    """Combine the last axis of ``tile``: float32 in the canonical order, or integer bits."""
    if op.kind == "bitvec":
        return numerics.bit_reduce(op, tile)
    return numerics.row_reduce(op, tile)


class TensorReduce(
    Instruction, nki="tensor_reduce", engines=(Engine.vector,), exactness=Exactness.bounded
):
    """Reduce the last free dims of a tile: ``dst = <op> over axis of data``, optionally negated.

    ``axis`` names consecutive dims that end at the last one. Sums are float32 in the canonical
    order, within n roundings of the exact sum; minimum, maximum and bits are exact.
    """

    dst: Layout = writes()
    op: numerics.AluOp = attr(convert=numerics.alu_op)
    data: Layout = reads()
    axis: tuple[int, ...] = attr(convert=axes)
    negate: bool = attr(False)
    keepdims: bool = attr(False)

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes counted from the front, in order."""
        ndim = len(self.data.shape)
        return tuple(sorted(a + ndim if a < 0 else a for a in self.axis))

    def limits(self, chip: Chip) -> Iterator[str]:
        """Last consecutive free dims; the destination holds what is left of each partition."""
        if missing := absent(self, "op", "axis"):
            yield from missing
            return
        ndim = len(self.data.shape)
        if self.reduced != tuple(range(ndim - len(self.axis), ndim)) or not self.axis:
            yield f"axis is {self.axis}; the last consecutive dims of {ndim} are needed"
            return
        if self.reduced[0] == 0:
            yield "axis 0 is the partition dim; Vector cannot reduce it"
            return
        left = self.data.free // self._count
        if self.dst.partitions != self.data.partitions:
            yield f"dst has {self.dst.partitions} partitions, data has {self.data.partitions}"
        if self.dst.free != left:
            yield f"dst has {self.dst.free} free elements; axis {self.axis} leaves {left}"
        if not self.op.reduces:
            yield f"op is {self.op.name}, which is not a reduction"
        if self.op.kind == "bitvec":
            yield from bits_only(self.op, ((n, x) for n, _, x in self.layouts()))
            if self.negate:
                yield f"negate does not go with the bitwise operator {self.op.name}"

    @property
    def _count(self) -> int:
        count = 1
        for axis in self.reduced:
            count *= self.data.shape[axis]
        return count

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """One value per remaining element."""
        tile = data.reshape(data.shape[0], -1, self._count)
        result = reduce_free(self.op, tile)
        return -result if self.negate else result

    def cost(self, chip: Chip) -> Cost:
        """One input element per lane and cycle; 16-bit add and max may be faster."""
        cycles = self.data.free * stride_factor(chip, (self.data,))
        half = numerics.name(self.data.dtype) == numerics.name(self.dst.dtype) == "bfloat16"
        if half and self.op in (ADD, MAXIMUM):
            cycles /= chip.number("vector.reduce_16bit_factor")
        issue_ps, _, chained_ps = streaming_ps(chip, Engine.vector, cycles)
        cycles += chip.number("vector.reduce_latency_overhead_cycles")
        latency_ps = cycles_to_ps(cycles, chip.number("vector.clock_ghz"))
        latency_ps = max(issue_ps, latency_ps)
        return Cost(issue_ps, latency_ps, min(latency_ps, chained_ps))


class TensorScalarReduce(
    Instruction, nki="tensor_scalar_reduce", engines=(Engine.vector,), stateful=True,
    exactness=Exactness.bounded,
):  # fmt: skip
    """Tensor-scalar with a reduction of its result: ``dst = data <op0> operand0``, then a sum.

    The reduction runs over all free dims into the Vector registers as ``reduce_cmd`` says;
    ``reduce_res`` reads them, negated on request.
    """

    dst: Layout = writes()
    data: Layout = reads()
    op0: numerics.AluOp = attr(convert=numerics.alu_op)
    operand0: Layout | float | None = reads(scalar=True, optional=True)
    reduce_op: numerics.AluOp = attr(convert=numerics.alu_op)
    reduce_res: Layout | None = writes(optional=True)
    reverse0: bool = attr(False)
    reduce_cmd: Command = attr(Command.reset_reduce)
    reduce_init: Layout | float | None = reads(scalar=True, optional=True)
    reduce_res_negate: bool = attr(False)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands; arithmetic operators; documented register commands."""
        if missing := absent(self, "op0", "reduce_op"):
            yield from missing
            return
        yield from same_free(self.dst, self.data, "dst/data")
        for name in ("operand0", "reduce_res", "reduce_init"):
            yield from column(getattr(self, name), self.data, name)
        yield from float32_column(self.operand0, "operand0")
        yield from float32_column(self.reduce_init, "reduce_init")
        yield from one_of(self.reduce_op, REDUCE_OPS, "reduce_op")
        yield from commands(self.reduce_cmd, ACCUMULATE_COMMANDS)
        if self.op0.kind == "bitvec" or self.op0 in GPSIMD_ONLY:
            yield f"op0 is {self.op0.name}; an arithmetic operator of Vector is needed"
        if self.op0.arity > 1 and self.operand0 is None:
            yield f"operand0 is missing; {self.op0.name} takes two operands"
        if self.reverse0:
            yield "reverse0=True is documented as not supported yet"
        if (self.reduce_cmd is Command.load_reduce) != (self.reduce_init is not None):
            yield "reduce_init goes with reduce_cmd.load_reduce, and only with it"

    def compute(  # type: ignore[override]
        self, state: EngineState, data: Array, operand0: Any, reduce_init: Any
    ) -> dict[str, Array]:
        """The elementwise result and the registers after the reduction."""
        result = apply(self.op0, rows(data), operand0, False)
        total = accumulate(
            state, Engine.vector, self.reduce_cmd, self.reduce_op,
            reduce_free(self.reduce_op, result), reduce_init,
        )  # fmt: skip
        return {"dst": result, "reduce_res": -total if self.reduce_res_negate else total}

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle; reading the registers takes one short instruction."""
        cycles = self.dst.free * stride_factor(chip, (self.data, self.dst))
        extra = chip.number("vector.accumulate_read_cycles") if self.reduce_res is not None else 0
        return Cost(*streaming_ps(chip, Engine.vector, cycles, extra_cycles=extra))


class BnStats(Instruction, nki="bn_stats", engines=(Engine.vector,), exactness=Exactness.bounded):
    """Statistics of a partition: count, mean, variance x count of even, then of odd elements."""

    dst: Layout = writes()
    data: Layout = reads(free_fact="vector.bn_stats_free_max")

    def limits(self, chip: Chip) -> Iterator[str]:
        """Six output elements per partition."""
        if self.dst.partitions != self.data.partitions:
            yield f"dst has {self.dst.partitions} partitions, data has {self.data.partitions}"
        if self.dst.free != BN_STATS:
            yield f"dst has {self.dst.free} free elements; bn_stats writes {BN_STATS}"

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """Two-pass float32 statistics of both halves."""
        values = numerics.f32(rows(data))
        halves = [statistics(values[:, start::2]) for start in (0, 1)]
        return np.concatenate(halves, axis=1)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        cycles = self.data.free * stride_factor(chip, (self.data,))
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


def statistics(values: Array) -> Array:
    """Count, mean and sum of squared deviations per row, [P, 3]; zeros of an empty half."""
    count = values.shape[1]
    if count == 0:
        return np.zeros((len(values), BN_TUPLE), np.float32)
    mean = numerics.row_reduce(ADD, values, (-1,)) / np.float32(count)
    deviation = values - mean[:, None]
    spread = numerics.row_reduce(ADD, deviation * deviation, (-1,))
    return np.stack([np.full_like(mean, count), mean, spread], axis=1)


class BnAggr(Instruction, nki="bn_aggr", engines=(Engine.vector,), exactness=Exactness.bounded):
    """Mean and population variance out of (count, mean, variance x count) triples."""

    dst: Layout = writes()
    data: Layout = reads()

    def limits(self, chip: Chip) -> Iterator[str]:
        """Whole triples in, two elements out."""
        if self.dst.partitions != self.data.partitions:
            yield f"dst has {self.dst.partitions} partitions, data has {self.data.partitions}"
        if self.data.free % BN_TUPLE:
            yield f"data has {self.data.free} free elements; a multiple of {BN_TUPLE} is needed"
        if self.dst.free != BN_AGGR:
            yield f"dst has {self.dst.free} free elements; bn_aggr writes {BN_AGGR}"

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """Chan's combination of all triples in float32."""
        triples = numerics.f32(rows(data)).reshape(len(data), -1, BN_TUPLE)
        count, mean, spread = (triples[:, :, k] for k in range(BN_TUPLE))
        total = numerics.row_reduce(ADD, count, (-1,))
        overall = numerics.row_reduce(ADD, count * mean, (-1,)) / total
        offset = mean - overall[:, None]
        squares = numerics.row_reduce(ADD, spread + count * offset * offset, (-1,))
        return np.stack([overall, squares / total], axis=1)

    def cost(self, chip: Chip) -> Cost:
        """Cycles per triple (``vector.bn_aggr_cycles_per_triple``)."""
        cycles = self.data.free / BN_TUPLE * chip.number("vector.bn_aggr_cycles_per_triple")
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


class Exponential(
    Instruction, nki="exponential", engines=(Engine.vector,), since=4, stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """Exponential after a subtraction, with a running sum: ``dst = exp(src - max_value)``."""

    dst: Layout = writes()
    src: Layout = reads()
    max_value: Layout | float = reads(scalar=True, default=0.0)
    reduce_res: Layout | None = writes(optional=True, dtypes=(
        "float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32",
    ))  # fmt: skip
    reduce_cmd: Command = attr(Command.idle)
    reduce_init: Layout | float = reads(scalar=True, default=0.0)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands in float32; a start value only where it is loaded."""
        yield from same_free(self.dst, self.src, "dst/src")
        for name in ("max_value", "reduce_res", "reduce_init"):
            yield from column(getattr(self, name), self.src, name)
        yield from float32_column(self.max_value, "max_value")
        yield from float32_column(self.reduce_init, "reduce_init")
        yield from commands(self.reduce_cmd, (Command.idle, *ACCUMULATE_COMMANDS))
        start = isinstance(self.reduce_init, Layout) or self.reduce_init != 0
        if start and self.reduce_cmd is not Command.load_reduce:
            yield "reduce_init goes with reduce_cmd.load_reduce, and only with it"

    def compute(  # type: ignore[override]
        self, state: EngineState, src: Array, max_value: Any, reduce_init: Any
    ) -> dict[str, Array]:
        """The exponentials and the registers after summing them."""
        result = EXP(apply(SUBTRACT, rows(src), max_value, False))
        total = accumulate(
            state, Engine.vector, self.reduce_cmd, ADD, reduce_free(ADD, result), reduce_init
        )
        return {"dst": result, "reduce_res": total}

    def cost(self, chip: Chip) -> Cost:
        """Several elements per cycle (``vector.exponential_elements_per_cycle``)."""
        cycles = self.dst.free / chip.number("vector.exponential_elements_per_cycle")
        cycles *= stride_factor(chip, (self.src, self.dst))
        extra = chip.number("vector.accumulate_read_cycles") if self.reduce_res is not None else 0
        return Cost(*streaming_ps(chip, Engine.vector, cycles, extra_cycles=extra))


EXP: Final = numerics.activation("exp")

__all__ = [
    "BnAggr", "BnStats", "Exponential", "TensorReduce", "TensorScalarReduce", "reduce_free",
]  # fmt: skip
