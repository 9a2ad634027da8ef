"""Instructions of the Scalar engine: ``function(data x scale + bias)`` with a running sum."""

from __future__ import annotations

from collections.abc import Iterator
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
    Exactness,
    Instruction,
    Layout,
    attr,
    elementwise_ps,
    reads,
    same_free,
    stride_factor,
    writes,
)
from tenzing.isa.streaming import (
    ADD,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    SUBTRACT,
    absent,
    accumulate,
    apply,
    column,
    commands,
    float32_column,
    one_of,
    per_lane,
    rows,
)
from tenzing.isa.vector_reduce import reduce_free

BYPASS: Final = numerics.alu_op("bypass")
RECIPROCAL: Final = numerics.activation("reciprocal")
TFLOAT32: Final = numerics.dtype("tfloat32")
SCALAR_COMMANDS: Final = (Command.idle, Command.reset, Command.reduce, Command.reset_reduce)
PAIRS: Final = (
    (MULTIPLY, ADD), (MULTIPLY, SUBTRACT), (MULTIPLY, BYPASS), (ADD, BYPASS), (SUBTRACT, BYPASS),
    (BYPASS, BYPASS),
)  # fmt: skip


def scaled(data: Array, scale: Any, bias: Any) -> Array:
    """``data x scale + bias`` in float32, the product rounded before the sum."""
    values = numerics.f32(rows(data))
    if isinstance(scale, np.ndarray) or scale != 1:
        values = values * lane32(scale)
    if bias is not None and (isinstance(bias, np.ndarray) or bias != 0):
        values = values + lane32(bias)
    return values


def lane32(operand: Any) -> Any:
    """A column tile or number as float32."""
    other = per_lane(operand)
    return numerics.f32(other) if isinstance(other, np.ndarray) else np.float32(other)


def scale_bias(chip: Chip, template: Any) -> Iterator[str]:
    """Rules of ``scale`` and ``bias``: columns, and numbers where the chip takes them."""
    yield from column(template.scale, template.data, "scale")
    yield from column(template.bias, template.data, "bias")
    yield from float32_column(template.scale, "scale")
    bias = template.bias
    if isinstance(bias, Layout):
        if bias.dtype == TFLOAT32:
            yield "bias has dtype tfloat32; any other is allowed"
    elif bias and not chip.flag("scalar.bias_scalar"):
        yield (f"bias is the number {bias}; {chip.name} needs a tile of one element per "
               "partition (scalar.bias_scalar)")  # fmt: skip
    present = isinstance(bias, Layout) or bool(bias)
    if template.op is RECIPROCAL and present and not chip.flag("scalar.reciprocal_bias"):
        yield f"reciprocal takes no bias on {chip.name} (scalar.reciprocal_bias)"


def scalar_cost(chip: Chip, template: Any) -> Cost:
    """One element per lane and cycle; reading the sum costs ``scalar.accumulate_read_cycles``."""
    dst, data = template.dst, template.data
    cycles = dst.free * stride_factor(chip, (data, dst))
    reading = template.reduce_res is not None
    extra = chip.number("scalar.accumulate_read_cycles") if reading else 0
    times = elementwise_ps(chip, "scalar", cycles, extra_cycles=extra)
    return Cost(*times, table=template.op.table)


class Activation(
    Instruction, nki="activation", engines=(Engine.scalar,), stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """A function of a scaled and shifted tile: ``dst = op(data x scale + bias)``.

    ``scale`` and ``bias`` are numbers or one element per partition. With ``reduce_cmd`` the sum
    over the free dims goes to the Scalar registers, which ``reduce_res`` reads. The hardware's
    function tables are not public; functions are computed in float64 and rounded.
    """

    dst: Layout = writes()
    op: numerics.ActivationFunction = attr(convert=numerics.activation)
    data: Layout = reads()
    bias: Layout | float | None = reads(scalar=True, optional=True)
    scale: Layout | float = reads(scalar=True, default=1.0)
    reduce_op: numerics.AluOp | None = attr(None, convert=numerics.alu_op)
    reduce_res: Layout | None = writes(optional=True)
    reduce_cmd: Command = attr(Command.idle)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands; a sum is the only reduction."""
        if missing := absent(self, "op"):
            yield from missing
            return
        yield from same_free(self.dst, self.data, "dst/data")
        yield from scale_bias(chip, self)
        yield from column(self.reduce_res, self.data, "reduce_res")
        yield from commands(self.reduce_cmd, SCALAR_COMMANDS)
        if self.reduce_op is not None:
            yield from one_of(self.reduce_op, (ADD,), "reduce_op")
        elif self.reduce_cmd in (Command.reduce, Command.reset_reduce):
            yield f"reduce_op is missing; reduce_cmd {self.reduce_cmd.name} needs add"

    def compute(  # type: ignore[override]
        self, state: EngineState, data: Array, bias: Any, scale: Any
    ) -> dict[str, Array]:
        """The activated tile and the registers after summing it."""
        result = self.op(scaled(data, scale, bias))
        if self.reduce_cmd is Command.idle and self.reduce_res is None:
            return {"dst": result}
        total = accumulate(state, Engine.scalar, self.reduce_cmd, ADD, reduce_free(ADD, result))
        return {"dst": result, "reduce_res": total}

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle, after the function's table is loaded."""
        return scalar_cost(chip, self)


class ActivationReduce(
    Instruction, nki="activation_reduce", engines=(Engine.scalar,), stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """An activation and the sum of its result: ``reduce_res = sum(op(data x scale + bias))``.

    It resets the Scalar registers first; :class:`Activation` with ``reset_reduce`` is the same.
    """

    dst: Layout = writes()
    op: numerics.ActivationFunction = attr(convert=numerics.activation)
    data: Layout = reads()
    reduce_op: numerics.AluOp = attr(convert=numerics.alu_op)
    reduce_res: Layout | None = writes(optional=True)
    bias: Layout | float | None = reads(scalar=True, optional=True)
    scale: Layout | float = reads(scalar=True, default=1.0)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands; a sum is the only reduction."""
        if missing := absent(self, "op", "reduce_op"):
            yield from missing
            return
        yield from same_free(self.dst, self.data, "dst/data")
        yield from scale_bias(chip, self)
        yield from column(self.reduce_res, self.data, "reduce_res")
        yield from one_of(self.reduce_op, (ADD,), "reduce_op")

    def compute(  # type: ignore[override]
        self, state: EngineState, data: Array, bias: Any, scale: Any
    ) -> dict[str, Array]:
        """The activated tile and its sum."""
        result = self.op(scaled(data, scale, bias))
        sums = reduce_free(ADD, result)
        total = accumulate(state, Engine.scalar, Command.reset_reduce, ADD, sums)
        return {"dst": result, "reduce_res": total}

    def cost(self, chip: Chip) -> Cost:
        """As an activation whose registers are read."""
        return scalar_cost(chip, self)


class Activate2(
    Instruction, nki="activate2", engines=(Engine.scalar,), since=4, stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """An activation behind two operators: ``dst = op((data <op0> imm0) <op1> imm1)``.

    No public cycle formula exists; it is timed as ``activation``.
    """

    dst: Layout = writes()
    op: numerics.ActivationFunction = attr(convert=numerics.activation)
    data: Layout = reads()
    imm0: Layout | float = reads(scalar=True)
    imm1: Layout | float = reads(scalar=True)
    op0: numerics.AluOp = attr(convert=numerics.alu_op)
    op1: numerics.AluOp = attr(convert=numerics.alu_op)
    relu_param: Layout | float = reads(scalar=True, default=0.0)
    reverse0: bool = attr(False)
    reverse1: bool = attr(False)
    reduce_op: numerics.AluOp | None = attr(None, convert=numerics.alu_op)
    reduce_res: Layout | None = writes(optional=True)
    reduce_cmd: Command = attr(Command.idle)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes; column operands; one of the documented operator pairs."""
        if missing := absent(self, "op", "op0", "op1"):
            yield from missing
            return
        yield from same_free(self.dst, self.data, "dst/data")
        for name in ("imm0", "imm1", "relu_param", "reduce_res"):
            yield from column(getattr(self, name), self.data, name)
        if (self.op0, self.op1) not in PAIRS:
            pairs = ", ".join(f"{a.name} then {b.name}" for a, b in PAIRS)
            yield f"op0 and op1 are {self.op0.name} then {self.op1.name}; allowed: {pairs}"
        dtypes = {numerics.name(x.dtype) for x in (self.imm0, self.imm1) if isinstance(x, Layout)}
        if len(dtypes) > 1:
            yield f"imm0 and imm1 are {' and '.join(sorted(dtypes))}; one dtype is needed"
        yield from commands(self.reduce_cmd, SCALAR_COMMANDS)
        if self.reduce_op is not None:
            yield from one_of(self.reduce_op, (ADD, MAXIMUM, MINIMUM), "reduce_op")
        elif self.reduce_cmd in (Command.reduce, Command.reset_reduce):
            yield f"reduce_op is missing; reduce_cmd {self.reduce_cmd.name} needs one"

    def compute(  # type: ignore[override]
        self, state: EngineState, data: Array, imm0: Any, imm1: Any, relu_param: Any
    ) -> dict[str, Array]:
        """The activated tile and the registers after reducing it."""
        values = numerics.f32(rows(data))
        for op, imm, reverse in ((self.op0, imm0, self.reverse0), (self.op1, imm1, self.reverse1)):
            values = values if op is BYPASS else apply(op, values, imm, reverse)
        result = self.op(values, lane32(relu_param))
        if self.reduce_op is None:
            return {"dst": result}
        reduced = reduce_free(self.reduce_op, result)
        total = accumulate(state, Engine.scalar, self.reduce_cmd, self.reduce_op, reduced)
        return {"dst": result, "reduce_res": total}

    def cost(self, chip: Chip) -> Cost:
        """As an activation (assumed)."""
        return scalar_cost(chip, self)


__all__ = ["Activate2", "Activation", "ActivationReduce"]
