"""Elementwise instructions: two tiles, a tile and per-partition operands, copies and fills.

Vector runs all of them; GpSimd and Scalar run some. A partition is a lane: nothing here moves
data between partitions, and an operand that is one number per partition is a column tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, SupportsFloat

import numpy as np

from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.instruction import (
    Array,
    Cost,
    Engine,
    Exactness,
    Instruction,
    Layout,
    Space,
    attr,
    reads,
    same_free,
    stride_factor,
    updates,
    writes,
)
from tenzing.isa.streaming import (
    ADD,
    HALF_FLOATS,
    INT32,
    MULTIPLY,
    SUBTRACT,
    UNSIGNED,
    absent,
    apply,
    bits_only,
    column,
    copy_cycles,
    float32_column,
    gpsimd_reach,
    not_both_psum,
    pair_cycles,
    rows,
    same_dtype,
    streaming_ps,
)

POWER: Final = numerics.alu_op("power")
RSQRT: Final = numerics.alu_op("rsqrt")
FLOAT_ONLY: Final = ("divide", "power", "mod", "fmod", "average")
NATIVE: Final = tuple(  # what GpSimd does in 32-bit integers
    op
    for op in numerics.ALU.values()
    if op.arity > 1 and op.kind != "bitvec" and op.name not in FLOAT_ONLY
)
GPSIMD_ONLY: Final = (POWER, RSQRT)  # not on Vector
SPARED: Final = (ADD, SUBTRACT, MULTIPLY)  # bfloat16 pairs of these run at full rate
SCALAR_PAIRS: Final = ((MULTIPLY, ADD), (MULTIPLY, None), (ADD, None))


class TensorTensor(Instruction, nki="tensor_tensor", engines=(Engine.vector, Engine.gpsimd)):
    """Combine two tiles element by element: ``dst = data1 <op> data2``.

    32-bit integers go to GpSimd by default, which keeps every bit (wrapping on overflow); on
    Vector they pass through float32.
    """

    dst: Layout = writes()
    data1: Layout = reads()
    data2: Layout = reads()
    op: numerics.AluOp = attr(convert=numerics.alu_op)
    engine: Engine = attr(Engine.unknown)

    @property
    def native_integers(self) -> bool:
        """Whether GpSimd computes this one in 32-bit integers."""
        tiles: tuple[object, ...] = (self.dst, self.data1, self.data2)
        if self.engine not in (None, Engine.unknown, Engine.gpsimd):
            return False
        integers = all(
            isinstance(x, Layout) and numerics.name(x.dtype) in INT32 and x.space is Space.SBUF
            for x in tiles
        )
        return integers and self.op in NATIVE

    def default_engine(self, chip: Chip) -> Engine:
        """GpSimd for power and for 32-bit integers within SBUF, Vector for the rest."""
        gpsimd = self.op in GPSIMD_ONLY or self.native_integers
        return Engine.gpsimd if gpsimd else Engine.vector

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; not both inputs in PSUM; each operator on an engine that has it."""
        if missing := absent(self, "op"):
            yield from missing
            return
        yield from same_free(self.data1, self.data2, "data1/data2")
        yield from same_free(self.dst, self.data1, "dst/data1")
        yield from not_both_psum(self.data1, self.data2, "data1/data2")
        yield from gpsimd_reach(self, chip)
        engine = self.engine_on(chip)
        if self.op.arity == 1:
            yield f"{self.op.name} takes one operand; use tensor_scalar or activation"
        if self.op.kind == "bitvec":
            yield from bits_only(self.op, ((n, x) for n, _, x in self.layouts()))
            if engine is not Engine.vector:
                yield f"{self.op.name} works on bits and needs Vector, not {engine.name}"
        elif engine is Engine.vector and self.op in GPSIMD_ONLY:
            yield f"Vector has no {self.op.name}; it runs on GpSimd"

    def compute(self, data1: Array, data2: Array) -> Array:  # type: ignore[override]
        """Float32 arithmetic, integer bits for bitwise operators, integers on GpSimd."""
        data2 = data2.reshape(data1.shape)
        if self.native_integers:
            return self.op.integer(data1, data2)
        return self.op(data1, data2)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle; ``pair_cycles`` says when it is more or less."""
        engine = self.engine_on(chip)
        if engine is Engine.gpsimd:
            layouts = [x for _, _, x in self.layouts()]
            cycles = self.dst.free * stride_factor(chip, layouts)
        else:
            cycles = pair_cycles(
                chip, self.dst, self.data1, self.data2, spared=self.op in SPARED, perf_mode=True
            )
        return Cost(*streaming_ps(chip, engine, cycles))


class TensorScalar(
    Instruction, nki="tensor_scalar", engines=(Engine.vector, Engine.scalar, Engine.gpsimd)
):
    """Up to two operators with per-partition operands: ``(data <op0> operand0) <op1> operand1``.

    An operand is a number or a tile of one element per partition; the second operator is free.
    ``reverse0`` and ``reverse1`` put the operand on the left. No operator passes data through.
    """

    dst: Layout = writes()
    data: Layout = reads()
    op0: numerics.AluOp | None = attr(convert=numerics.alu_op)
    operand0: Layout | float | None = reads(scalar=True, optional=True)
    reverse0: bool = attr(False)
    op1: numerics.AluOp | None = attr(None, convert=numerics.alu_op)
    operand1: Layout | float | None = reads(scalar=True, optional=True)
    reverse1: bool = attr(False)
    engine: Engine = attr(Engine.unknown)

    @property
    def ops(self) -> tuple[numerics.AluOp, ...]:
        """The operators that are present."""
        return tuple(x for x in (self.op0, self.op1) if x is not None)

    def default_engine(self, chip: Chip) -> Engine:
        """GpSimd for power and rsqrt, Vector for the rest."""
        return Engine.gpsimd if any(x in GPSIMD_ONLY for x in self.ops) else Engine.vector

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands; both operators of one kind, on an engine that has them."""
        yield from same_free(self.dst, self.data, "dst/data")
        yield from gpsimd_reach(self, chip)
        for name, op in (("0", self.op0), ("1", self.op1)):
            operand = getattr(self, f"operand{name}")
            yield from column(operand, self.data, f"operand{name}")
            if op is not None and op.arity > 1 and operand is None:
                yield f"operand{name} is missing; {op.name} takes two operands"
        if len({x.kind == "bitvec" for x in self.ops}) > 1:
            yield f"{self.ops[0].name} and {self.ops[1].name} mix bitwise and arithmetic operators"
        elif self.ops and self.ops[0].kind == "bitvec":
            yield from bits_only(self.ops[0], ((n, x) for n, _, x in self.layouts()))
        else:
            others = INT32 if numerics.name(self.data.dtype) in INT32 else ()
            yield from float32_column(self.operand0, "operand0", *others)
            yield from float32_column(self.operand1, "operand1", *others)
        yield from self._engine_limits(chip)

    def _engine_limits(self, chip: Chip) -> Iterator[str]:
        engine = self.engine_on(chip)
        names = " and ".join(x.name for x in self.ops)
        if engine is Engine.scalar:
            if not chip.flag("scalar.tensor_scalar"):
                yield f"Scalar on {chip.name} has no tensor_scalar (scalar.tensor_scalar)"
            if (self.op0, self.op1) not in SCALAR_PAIRS:
                yield f"Scalar runs multiply, add or multiply then add, not {names or 'nothing'}"
        elif engine is Engine.gpsimd:
            if any(x not in (ADD, MULTIPLY, *GPSIMD_ONLY) for x in self.ops):
                yield f"GpSimd runs rsqrt, power, add and multiply here, not {names}"
        elif any(x in GPSIMD_ONLY for x in self.ops):
            yield f"Vector does not run {names}; rsqrt and power run on GpSimd"

    def compute(self, data: Array, operand0: Any, operand1: Any) -> Array:  # type: ignore[override]
        """Float32 arithmetic or integer bits, one operator after the other."""
        result = apply(self.op0, rows(data), operand0, self.reverse0)
        return apply(self.op1, result, operand1, self.reverse1)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle, 16-bit tiles faster; rsqrt slower on GpSimd."""
        engine = self.engine_on(chip)
        cycles = copy_cycles(chip, engine, self.data, self.dst)
        if engine is Engine.gpsimd and RSQRT in self.ops:
            cycles *= chip.number("gpsimd.rsqrt_cycles_per_element")
        return Cost(*streaming_ps(chip, engine, cycles))


class TensorCopy(
    Instruction, nki="tensor_copy", engines=(Engine.vector, Engine.scalar, Engine.gpsimd)
):
    """Copy a tile on chip: ``dst = src``, bit for bit when the dtypes agree, else by float32."""

    dst: Layout = writes()
    src: Layout = reads()
    engine: Engine = attr(Engine.unknown)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; GpSimd cannot reach PSUM; Scalar copies from NeuronCore-v3 on."""
        yield from same_free(self.dst, self.src, "dst/src")
        yield from gpsimd_reach(self, chip)
        if self.engine_on(chip) is Engine.scalar and not chip.flag("scalar.tensor_copy"):
            yield (f"Scalar on {chip.name} has no tensor_copy (scalar.tensor_copy); "
                   "use activation with op=copy")  # fmt: skip

    def compute(self, src: Array) -> Array:  # type: ignore[override]
        """The source, as float32 when the destination has another dtype."""
        return src if self.dst.dtype == self.src.dtype else numerics.f32(src)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle, faster for 16-bit tiles."""
        engine = self.engine_on(chip)
        return Cost(*streaming_ps(chip, engine, copy_cycles(chip, engine, self.src, self.dst)))


class TensorCopyPredicated(Instruction, nki="tensor_copy_predicated", engines=(Engine.vector,)):
    """Copy where a predicate holds: ``dst[i] = src[i] if predicate[i] else dst[i]``."""

    dst: Layout = updates()
    src: Layout | float = reads(scalar=True)
    predicate: Layout = reads(dtypes=UNSIGNED)
    reverse_pred: bool = attr(False)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes and dtypes; source and predicate not both in PSUM."""
        yield from same_free(self.dst, self.predicate, "dst/predicate")
        if isinstance(self.src, Layout):
            yield from same_free(self.dst, self.src, "dst/src")
            yield from not_both_psum(self.src, self.predicate, "src/predicate")
            yield from same_dtype(self.src, self.dst, "src/dst")

    def compute(self, dst: Array, src: Any, predicate: Array) -> Array:  # type: ignore[override]
        """Bits of the source where the predicate is not zero (zero when reversed)."""
        chosen = predicate.reshape(dst.shape) != 0
        if self.reverse_pred:
            chosen = ~chosen
        if isinstance(src, np.ndarray):
            return np.where(chosen, src.reshape(dst.shape), dst)
        value = np.empty(1, dst.dtype)
        numerics.store(value, src)
        return np.where(chosen, value, dst)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle, more when two operands share the SBUF port."""
        first = self.src if isinstance(self.src, Layout) else self.dst
        cycles = pair_cycles(chip, self.dst, first, self.predicate)
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


class Memset(Instruction, nki="memset", engines=(Engine.vector, Engine.gpsimd)):
    """Fill a tile with a constant: ``dst = value``."""

    dst: Layout = writes()
    value: Any = attr()
    engine: Engine = attr(Engine.unknown)

    def limits(self, chip: Chip) -> Iterator[str]:
        """A number; zero only for packed dtypes; GpSimd cannot reach PSUM."""
        yield from gpsimd_reach(self, chip)
        if not isinstance(self.value, SupportsFloat):
            yield f"value is {self.value!r}; a number is needed"
        elif numerics.is_packed(self.dst.dtype) and self.value != 0:
            yield f"value is {self.value}; {numerics.name(self.dst.dtype)} takes only 0"

    def compute(self) -> Array:  # type: ignore[override]
        """The destination's shape full of the value, rounded to its dtype."""
        result = np.zeros(self.dst.shape, self.dst.dtype)
        if self.value != 0:
            numerics.store(result, self.value)
        return result

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle; zeros of 16-bit floats faster on Vector."""
        engine = self.engine_on(chip)
        cycles = self.dst.free * stride_factor(chip, (self.dst,))
        if (
            engine is Engine.vector
            and self.value == 0
            and numerics.name(self.dst.dtype) in HALF_FLOATS
        ):
            cycles /= chip.number("vector.memset_zero_16bit_factor")
        return Cost(*streaming_ps(chip, engine, cycles))


class Reciprocal(
    Instruction, nki="reciprocal", engines=(Engine.vector,), exactness=Exactness.bounded
):
    """Reciprocal of every element: ``dst = 1 / data``, within one rounding of float32."""

    dst: Layout = writes()
    data: Layout = reads()

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes."""
        yield from same_free(self.dst, self.data, "dst/data")

    def compute(self, data: Array) -> Array:  # type: ignore[override]
        """Correctly rounded float32 division."""
        result: Array = np.float32(1) / numerics.f32(data)
        return result

    def cost(self, chip: Chip) -> Cost:
        """Several cycles per element (``vector.reciprocal_cycles_per_element``)."""
        cycles = self.dst.free * chip.number("vector.reciprocal_cycles_per_element")
        cycles *= stride_factor(chip, (self.dst, self.data))
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


class ScalarTensorTensor(Instruction, nki="scalar_tensor_tensor", engines=(Engine.vector,)):
    """A column then a tile: ``(data <op0> operand0) <op1> operand1``; operand1 is a full tile."""

    dst: Layout = writes()
    data: Layout = reads()
    op0: numerics.AluOp = attr(convert=numerics.alu_op)
    operand0: Layout | float = reads(scalar=True)
    op1: numerics.AluOp = attr(convert=numerics.alu_op)
    operand1: Layout = reads()
    reverse0: bool = attr(False)
    reverse1: bool = attr(False)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; arithmetic operators Vector has; not both tiles in PSUM."""
        if missing := absent(self, "op0", "op1"):
            yield from missing
            return
        yield from same_free(self.data, self.operand1, "data/operand1")
        yield from same_free(self.dst, self.data, "dst/data")
        yield from column(self.operand0, self.data, "operand0")
        yield from not_both_psum(self.data, self.operand1, "data/operand1")
        for name, op in (("op0", self.op0), ("op1", self.op1)):
            if op.kind == "bitvec":
                yield f"{name} is {op.name}; arithmetic operators are needed"
            elif op in GPSIMD_ONLY:
                yield f"{name} is {op.name}, which Vector does not have"
        if self.op1.arity == 1:
            yield f"op1 is {self.op1.name}; an operator with two operands is needed"

    def compute(self, data: Array, operand0: Any, operand1: Array) -> Array:  # type: ignore[override]
        """Float32 arithmetic, rounded once at the end."""
        result = apply(self.op0, rows(data), operand0, self.reverse0)
        other = rows(operand1)
        return self.op1(other, result) if self.reverse1 else self.op1(result, other)

    def cost(self, chip: Chip) -> Cost:
        """As two tiles; subtract then multiply of an even length spares the shared port."""
        fused = self.op0 is SUBTRACT and self.op1 is MULTIPLY and self.dst.free % 2 == 0
        cycles = pair_cycles(chip, self.dst, self.data, self.operand1, spared=fused)
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


__all__ = [
    "GPSIMD_ONLY", "Memset", "Reciprocal", "ScalarTensorTensor", "TensorCopy",
    "TensorCopyPredicated", "TensorScalar", "TensorTensor",
]  # fmt: skip
