"""Vector instructions that carry a value along a partition: running reductions and recurrences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

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
    writes,
)
from tenzing.isa.streaming import (
    ACCUMULATE_COMMANDS,
    ADD,
    IDENTITY,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    SUBTRACT,
    absent,
    apply,
    column,
    commands,
    float32_column,
    keep,
    not_both_psum,
    one_of,
    registers,
    rows,
    streaming_ps,
)
from tenzing.isa.vector import GPSIMD_ONLY

CUMULATIVE_OPS: Final = (ADD, SUBTRACT, MULTIPLY, MAXIMUM, MINIMUM)
CUMULATIVE_DTYPES: Final = (
    "bfloat16", "float16", "float32", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "uint8",
    "uint16", "int8", "int16",
)  # fmt: skip
FAST: Final[dict[numerics.AluOp, Callable[..., Any]]] = {
    ADD: np.add, SUBTRACT: np.subtract, MULTIPLY: np.multiply,
}  # fmt: skip


class TensorScalarCumulative(
    Instruction, nki="tensor_scalar_cumulative", engines=(Engine.vector,), stateful=True
):
    """Running reduction along a partition: ``reg = (src[i] <op0> imm0) <op1> reg; dst[i] = reg``.

    The register starts at the identity of ``op1``, at its old value or at ``imm1`` as
    ``reduce_cmd`` says. No public cycle formula exists; it is timed as ``tensor_tensor_scan``.
    """

    dst: Layout = writes(dtypes=CUMULATIVE_DTYPES)
    src: Layout = reads(dtypes=CUMULATIVE_DTYPES)
    op0: numerics.AluOp = attr(convert=numerics.alu_op)
    op1: numerics.AluOp = attr(convert=numerics.alu_op)
    imm0: Layout | float = reads(scalar=True)
    imm1: Layout | float | None = reads(scalar=True, optional=True)
    reduce_cmd: Command = attr(Command.reset_reduce)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands in float32; documented operators and commands."""
        if missing := absent(self, "op0", "op1"):
            yield from missing
            return
        yield from same_free(self.dst, self.src, "dst/src")
        for name in ("imm0", "imm1"):
            yield from column(getattr(self, name), self.src, name)
            yield from float32_column(getattr(self, name), name)
        if self.op0.kind == "bitvec" or self.op0 in GPSIMD_ONLY:
            yield f"op0 is {self.op0.name}; an arithmetic operator of Vector is needed"
        yield from one_of(self.op1, CUMULATIVE_OPS, "op1")
        yield from commands(self.reduce_cmd, ACCUMULATE_COMMANDS)
        if self.reduce_cmd is Command.load_reduce and self.imm1 is None:
            yield "imm1 is missing; reduce_cmd.load_reduce starts from it"

    def compute(  # type: ignore[override]
        self, state: EngineState, src: Array, imm0: Any, imm1: Any
    ) -> Array:
        """The register after every element."""
        values = apply(self.op0, rows(src), imm0, False)
        key = f"{Engine.vector.name}.reduce_regs"
        if self.reduce_cmd is Command.reduce:
            start = registers(state, key, len(values))
        elif self.reduce_cmd is Command.load_reduce:
            start = lane_start(imm1, len(values))
        else:
            start = lane_start(IDENTITY[self.op1], len(values))
        result = scan(lambda value, held: self.op1(value, held), numerics.f32(values), start)
        keep(state, key, result[:, -1])
        return result

    def cost(self, chip: Chip) -> Cost:
        """The rate of a scan, which it is (assumed)."""
        return scan_cost(chip, self.dst, (self.src, self.dst))


class TensorTensorScan(Instruction, nki="tensor_tensor_scan", engines=(Engine.vector,)):
    """First-order recurrence: ``dst[i] = (data0[i] <op0> dst[i-1]) <op1> data1[i]``.

    ``initial`` stands for ``dst[-1]``. Float32 throughout; the destination rounds the copies, not
    the running value.
    """

    dst: Layout = writes()
    data0: Layout = reads()
    data1: Layout = reads()
    initial: Layout | float = reads(scalar=True)
    op0: numerics.AluOp = attr(convert=numerics.alu_op)
    op1: numerics.AluOp = attr(convert=numerics.alu_op)
    reverse0: bool = attr(False)
    reverse1: bool = attr(False)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; a column or number to start from; binary arithmetic operators."""
        if missing := absent(self, "op0", "op1"):
            yield from missing
            return
        yield from same_free(self.data0, self.data1, "data0/data1")
        yield from same_free(self.dst, self.data0, "dst/data0")
        yield from column(self.initial, self.data0, "initial")
        yield from not_both_psum(self.data0, self.data1, "data0/data1")
        for name, op in (("op0", self.op0), ("op1", self.op1)):
            if op.kind == "bitvec" or op.arity == 1:
                yield f"{name} is {op.name}; a binary arithmetic operator is needed"
            elif op in GPSIMD_ONLY:
                yield f"{name} is {op.name}, which Vector does not have"

    def compute(self, data0: Array, data1: Array, initial: Any) -> Array:  # type: ignore[override]
        """Vectorised over partitions, sequential along the free dim."""
        first = np.ascontiguousarray(numerics.f32(rows(data0)).T)
        second = np.ascontiguousarray(numerics.f32(rows(data1)).T)
        out: Array = np.empty(first.shape, np.float32)
        state = lane_start(initial, len(data0))
        op0, op1 = FAST.get(self.op0, self.op0), FAST.get(self.op1, self.op1)
        for a, b, row in zip(first, second, out, strict=True):
            held = op0(state, a) if self.reverse0 else op0(a, state)
            row[:] = op1(b, held) if self.reverse1 else op1(held, b)
            state = row
        return np.ascontiguousarray(out.T)

    def cost(self, chip: Chip) -> Cost:
        """Several cycles per element (``vector.scan_cycles_per_element``)."""
        return scan_cost(chip, self.dst, (self.data0, self.data1, self.dst))


def lane_start(value: Any, lanes: int) -> Array:
    """The start value of every lane as float32."""
    start = numerics.f32(np.asarray(value, np.float32 if np.isscalar(value) else None))
    return np.broadcast_to(start.reshape(-1), (lanes,))


def scan(step: Callable[[Array, Array], Array], values: Array, start: Array) -> Array:
    """Carry ``start`` along the free dim: ``start = step(values[:, i], start)``, all kept."""
    out = np.empty(values.shape[::-1], np.float32)
    for row, value in zip(out, np.ascontiguousarray(values.T), strict=True):
        row[:] = step(value, start)
        start = row
    return np.ascontiguousarray(out.T)


def scan_cost(chip: Chip, dst: Layout, layouts: Sequence[Layout]) -> Cost:
    """Cost of a recurrence along ``dst``."""
    cycles = dst.free * chip.number("vector.scan_cycles_per_element")
    return Cost(*streaming_ps(chip, Engine.vector, cycles * stride_factor(chip, layouts)))


__all__ = ["TensorScalarCumulative", "TensorTensorScan"]
