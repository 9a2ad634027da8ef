"""Rates, rules and registers shared by the engines that stream one element per lane and cycle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.enums import reduce_cmd as Command
from tenzing.isa.instruction import (
    Array,
    Engine,
    EngineState,
    Instruction,
    Layout,
    Space,
    elementwise_ps,
    stride_factor,
)

ADD: Final = numerics.alu_op("add")
SUBTRACT: Final = numerics.alu_op("subtract")
MULTIPLY: Final = numerics.alu_op("multiply")
MAXIMUM: Final = numerics.alu_op("maximum")
MINIMUM: Final = numerics.alu_op("minimum")
IDENTITY: Final = {ADD: 0.0, SUBTRACT: 0.0, MULTIPLY: 1.0, MAXIMUM: -np.inf, MINIMUM: np.inf}

ACCUMULATE_COMMANDS: Final = (Command.reset_reduce, Command.reduce, Command.load_reduce)
HALF_FLOATS: Final = ("bfloat16", "float16")
FP8: Final = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
UNSIGNED: Final = ("uint8", "uint16", "uint32", "bool_")
INTEGERS: Final = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "bool_")
INT32: Final = ("int32", "uint32")


# -- rates ------------------------------------------------------------------------------------


def streaming_ps(
    chip: Chip, engine: Engine, cycles: float, *, extra_cycles: float = 0
) -> tuple[int, int, int]:
    """Issue interval, latency and chained latency of ``cycles`` of streaming on an engine."""
    if engine is Engine.gpsimd:
        cycles *= chip.number("gpsimd.cycles_per_element")
    return elementwise_ps(chip, engine.name, cycles, extra_cycles=extra_cycles)


def is_broadcast(layout: Layout) -> bool:
    """Whether a free dim repeats one element by a stride of zero."""
    return any(
        count > 1 and stride == 0
        for count, stride in zip(layout.shape[1:], layout.strides[1:], strict=True)
    )


def copy_cycles(chip: Chip, engine: Engine, src: Layout, dst: Layout) -> float:
    """Cycles to stream ``src`` to ``dst``, in a fast mode where the chip has one.

    Vector: 16-bit floats (and fp8 where ``vector.perf_mode_fp8``) go at
    ``perf_mode_copy_factor`` between contiguous SBUF tiles and at ``perf_mode_strided_factor``
    otherwise; Scalar: contiguous bfloat16 at ``scalar.perf_mode_factor``.
    """
    cycles = dst.free * stride_factor(chip, (src, dst))
    if is_broadcast(src) or engine is Engine.gpsimd:
        return cycles
    names = {numerics.name(src.dtype), numerics.name(dst.dtype)}
    dense = src.contiguous and dst.contiguous
    if engine is Engine.scalar:
        fast = dense and names == {"bfloat16"}
        return cycles / chip.number("scalar.perf_mode_factor") if fast else cycles
    small = HALF_FLOATS + FP8 if chip.flag("vector.perf_mode_fp8") else HALF_FLOATS
    if not names.issubset(small):
        return cycles
    in_sbuf = src.space is dst.space is Space.SBUF
    mode = "copy" if dense and in_sbuf else "strided"
    return cycles / chip.number(f"vector.perf_mode_{mode}_factor")


def pair_cycles(
    chip: Chip,
    dst: Layout,
    first: Layout,
    second: Layout,
    *,
    spared: bool = False,
    perf_mode: bool = False,
) -> float:
    """Vector cycles to stream two tiles.

    Two SBUF operands cost ``vector.two_sbuf_operand_factor``. Contiguous bfloat16 pairs of a
    ``spared`` operator do not; with ``perf_mode``, contiguous 16-bit floats go at
    ``vector.perf_mode_tensor_tensor_factor`` where the chip has that mode.
    """
    operands = (dst, first, second)
    cycles = dst.free * stride_factor(chip, operands)
    if first.space is not Space.SBUF or second.space is not Space.SBUF:
        return cycles
    dense = all(x.contiguous for x in operands)
    names = {numerics.name(x.dtype) for x in operands}
    if perf_mode and dense and names.issubset(HALF_FLOATS):
        factor = chip.number("vector.perf_mode_tensor_tensor_factor")
        if factor > 1:
            return cycles / factor
    if spared and dense and names == {"bfloat16"}:
        return cycles
    return cycles * chip.number("vector.two_sbuf_operand_factor")


# -- rules ------------------------------------------------------------------------------------


def column(operand: object, data: Layout, name: str) -> Iterator[str]:
    """Rule: ``operand``, when a tile, holds one element for each partition of ``data``."""
    if not isinstance(operand, Layout):
        return
    if operand.partitions != data.partitions:
        yield f"{name} has {operand.partitions} partitions, data has {data.partitions}"
    if operand.free != 1:
        yield f"{name} has {operand.free} free elements; one per partition is needed"


def float32_column(operand: object, name: str, *others: str) -> Iterator[str]:
    """Rule: ``operand``, when a tile, is float32 (or one of ``others``)."""
    allowed = ("float32", *others)
    if isinstance(operand, Layout) and numerics.name(operand.dtype) not in allowed:
        yield f"{name} has dtype {numerics.name(operand.dtype)}; allowed: {', '.join(allowed)}"


def gpsimd_reach(template: Instruction, chip: Chip) -> Iterator[str]:
    """Rule: GpSimd cannot access PSUM."""
    if template.engine_on(chip) is not Engine.gpsimd:
        return
    for name, _, layout in template.layouts():
        if layout.space is Space.PSUM:
            yield f"GpSimd cannot access PSUM, where {name} is"


def not_both_psum(first: Layout, second: Layout, names: str) -> Iterator[str]:
    """Rule: at most one of two inputs is in PSUM."""
    if first.space is second.space is Space.PSUM:
        left, right = names.split("/")
        yield f"{left} and {right} cannot both be in PSUM"


def same_dtype(first: Layout, second: Layout, names: str) -> Iterator[str]:
    """Rule: two operands have one dtype."""
    if first.dtype != second.dtype:
        left, right = names.split("/")
        yield (f"{left} has dtype {numerics.name(first.dtype)}, "
               f"{right} has {numerics.name(second.dtype)}")  # fmt: skip


def bits_only(op: numerics.AluOp, layouts: Iterator[tuple[str, Layout]]) -> Iterator[str]:
    """Rule: a bitwise operator takes and gives integers."""
    for name, layout in layouts:
        if numerics.name(layout.dtype) not in INTEGERS:
            yield f"{op.name} needs integer tiles; {name} is {numerics.name(layout.dtype)}"


def absent(template: Instruction, *names: str) -> list[str]:
    """Rule: these parameters are given; checked before any other rule looks at them."""
    return [f"{n} is missing" for n in names if getattr(template, n) is None]


def one_of(op: object, allowed: tuple[numerics.AluOp, ...], name: str) -> Iterator[str]:
    """Rule: operator ``op`` is one of ``allowed``."""
    if op not in allowed:
        got = op.name if isinstance(op, numerics.AluOp) else repr(op)
        yield f"{name} is {got}; allowed: {', '.join(x.name for x in allowed)}"


def commands(command: object, allowed: tuple[Command, ...]) -> Iterator[str]:
    """Rule: the register command is one the instruction has."""
    if command not in allowed:
        got = command.name if isinstance(command, Command) else repr(command)
        yield f"reduce_cmd is {got}; allowed: {', '.join(x.name for x in allowed)}"


# -- values -----------------------------------------------------------------------------------


def rows(tile: Array) -> Array:
    """The tile as [partitions, free elements]."""
    return tile.reshape(tile.shape[0], -1) if tile.ndim > 1 else tile.reshape(-1, 1)


def per_lane(operand: Any) -> Any:
    """A tile operand as a [partitions, 1] column, a number as it is."""
    return rows(operand) if isinstance(operand, np.ndarray) else operand


def apply(op: numerics.AluOp | None, tile: Array, operand: Any, reverse: bool) -> Array:
    """``tile <op> operand``, the other way round when reversed; no operator passes through."""
    if op is None:
        return tile
    if op.arity == 1:
        return op(tile)
    other = per_lane(operand)
    return op(other, tile) if reverse else op(tile, other)


def registers(state: EngineState, key: str, lanes: int, fill: float = 0.0) -> Array:
    """The accumulation registers of the first ``lanes`` lanes, ``fill`` where never written."""
    held = state.get(key)
    if held is None:
        return np.full(lanes, fill, np.float32)
    if len(held) >= lanes:
        return held[:lanes]
    return np.concatenate([held, np.full(lanes - len(held), fill, np.float32)])


def keep(state: EngineState, key: str, values: Array) -> None:
    """Put ``values`` into the registers of the first lanes; the other lanes stay."""
    held = state.get(key)
    if held is not None and len(held) > len(values):
        values = np.concatenate([values, held[len(values) :]])
    state[key] = values.astype(np.float32)


def accumulate(
    state: EngineState,
    engine: Engine,
    command: Command,
    op: numerics.AluOp,
    results: Array,
    start: Any = None,
) -> Array:
    """Carry out a register command with this instruction's per-lane results; the registers after.

    Lanes count from the first partition of the tile. ``results`` has shape [lanes]; ``start`` is
    the value of ``load_reduce``.
    """
    key = f"{engine.name}.reduce_regs"
    identity = np.float32(IDENTITY[op])
    held = registers(state, key, len(results))
    if command is Command.reset:
        held = np.full(len(results), identity, np.float32)
    elif command is Command.reduce:
        held = op(held, results)
    elif command is Command.reset_reduce:
        held = op(np.full(len(results), identity, np.float32), results)
    elif command is Command.load_reduce:
        begin = numerics.f32(np.asarray(start)).reshape(-1)
        held = op(np.broadcast_to(begin, results.shape), results)
    keep(state, key, held)
    return held


__all__ = [
    "ACCUMULATE_COMMANDS", "ADD", "FP8", "HALF_FLOATS", "IDENTITY", "INT32", "INTEGERS",
    "MAXIMUM", "MINIMUM", "MULTIPLY", "SUBTRACT", "UNSIGNED", "absent", "accumulate", "apply",
    "bits_only", "column", "commands", "copy_cycles", "float32_column", "gpsimd_reach",
    "is_broadcast", "keep", "not_both_psum", "one_of", "pair_cycles", "per_lane", "registers",
    "rows", "same_dtype", "streaming_ps",
]  # fmt: skip
