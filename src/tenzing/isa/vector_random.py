"""Random numbers of the Vector and GpSimd engines: raw bits, uniform values, dropout and seeds.

The default generator is not public, so its bits are our own (``numerics.Rng``): the same seed gives
the same bits on every machine, and nothing more is promised. A state set by ``rand_set_state`` runs
XORWOW. Each engine has its own stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

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
    attr,
    reads,
    same_free,
    stride_factor,
    writes,
)
from tenzing.isa.streaming import (
    INTEGERS,
    column,
    float32_column,
    gpsimd_reach,
    per_lane,
    rows,
    same_dtype,
    streaming_ps,
)

RANDOM_BITS: Final = 32
XORWOW_WORDS: Final = 6  # state of one xorwow generator
UNIT: Final = np.float64(2) ** -RANDOM_BITS  # a random word times this lies in [0, 1)
UNIFORM_DTYPES: Final = (
    "float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32", "int8", "int16",
    "int32", "uint8", "uint16", "uint32",
)  # fmt: skip


def draw(state: EngineState, engine: Engine, lanes: int, count: int) -> Array:
    """The next ``count`` random words of every lane, uint32 [lanes, count]; the stream moves on.

    Registers: ``rng.state.<engine>`` when set by ``rand_set_state`` (then xorwow per lane), else
    ``rng.stream.<engine>`` = (seed, words drawn), started from ``rng.seed``.
    """
    words = state.get(f"rng.state.{engine.name}")
    if words is not None:
        drawn, state[f"rng.state.{engine.name}"] = xorwow(words, lanes, count)
        return drawn
    key = f"rng.stream.{engine.name}"
    stream = state.get(key)
    if stream is None:
        first = state.get("rng.seed", np.zeros(1, np.uint32))
        stream = np.array([first[0], 0], np.uint64)
    generator = numerics.Rng(int(stream[0]), int(stream[1]))
    drawn = generator.bits((lanes, count))
    state[key] = np.array([generator.seed, generator.counter], np.uint64)
    return drawn


def xorwow(words: Array, lanes: int, count: int) -> tuple[Array, Array]:
    """Words of the first ``lanes`` rows of a settable state, and the state afterwards.

    A row holds one or more generators that take turns; a lane never set starts from zeros.
    """
    state = np.zeros((max(lanes, len(words)), words.shape[1]), np.uint32)
    state[: len(words)] = words
    turns = words.shape[1] // XORWOW_WORDS
    generator = numerics.XorWow(state[:lanes].reshape(-1, XORWOW_WORDS))
    drawn = generator.bits(-(-count // turns)).reshape(lanes, turns, -1)
    state[:lanes] = generator.state.reshape(lanes, -1)
    return drawn.transpose(0, 2, 1).reshape(lanes, -1)[:, :count], state


def one_per_cycle(chip: Chip, engine: Engine, dst: Layout) -> Cost:
    """No public cycle formula exists: one element per lane and cycle (assumed)."""
    return Cost(*streaming_ps(chip, engine, dst.free * stride_factor(chip, (dst,))))


class Rng(
    Instruction, nki="rng", engines=(Engine.vector, Engine.gpsimd), stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """Random integers: ``dst`` holds the low bits of one 32-bit random word per element."""

    dst: Layout = writes(dtypes=tuple(n for n in INTEGERS if n != "bool_"))
    engine: Engine = attr(Engine.vector)

    def limits(self, chip: Chip) -> Iterator[str]:
        """GpSimd has random numbers from NeuronCore-v3 on and cannot reach PSUM."""
        yield from gpsimd_reach(self, chip)
        if self.engine_on(chip) is Engine.gpsimd and not chip.flag("gpsimd.rng"):
            yield f"GpSimd on {chip.name} has no rng (gpsimd.rng)"

    def compute(self, state: EngineState) -> Array:  # type: ignore[override]
        """Truncated random words."""
        engine = Engine.gpsimd if self.engine is Engine.gpsimd else Engine.vector
        words = draw(state, engine, self.dst.partitions, self.dst.free)
        return words.astype(self.dst.dtype)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle (assumed)."""
        return one_per_cycle(chip, self.engine_on(chip), self.dst)


class Rand2(
    Instruction, nki="rand2", engines=(Engine.vector,), since=4, stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """Uniform random values: ``dst = min + (max - min) x u`` with u in [0, 1)."""

    dst: Layout = writes(dtypes=UNIFORM_DTYPES)
    min: Layout | float = reads(scalar=True)
    max: Layout | float = reads(scalar=True)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Bounds are numbers in order, or float32 columns."""
        for name in ("min", "max"):
            bound = getattr(self, name)
            yield from column(bound, self.dst, name)
            yield from float32_column(bound, name)
        numbers = [x for x in (self.min, self.max) if not isinstance(x, Layout)]
        if sorted(set(numbers)) != numbers:
            yield f"min is {self.min} and max is {self.max}; min < max is needed"

    def compute(self, state: EngineState, min: Any, max: Any) -> Array:  # type: ignore[override]
        """Scaled random words, rounded to float32."""
        words = draw(state, Engine.vector, self.dst.partitions, self.dst.free)
        low, high = (np.asarray(per_lane(x), np.float64) for x in (min, max))
        result: Array = (low + (high - low) * (words * UNIT)).astype(np.float32)
        return result

    def cost(self, chip: Chip) -> Cost:
        """Several words per lane and cycle (``vector.rand2_elements_per_cycle``)."""
        cycles = self.dst.free / chip.number("vector.rand2_elements_per_cycle")
        return Cost(*streaming_ps(chip, Engine.vector, cycles * stride_factor(chip, (self.dst,))))


class Dropout(
    Instruction, nki="dropout", engines=(Engine.vector,), stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """Replace elements by zero at random: ``dst = 0`` with probability ``prob``, else ``data``."""

    dst: Layout = writes()
    data: Layout = reads()
    prob: Layout | float = reads(scalar=True)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal sizes and dtypes; a probability or a column of them."""
        yield from same_free(self.dst, self.data, "dst/data")
        yield from column(self.prob, self.data, "prob")
        yield from same_dtype(self.dst, self.data, "dst/data")
        if not isinstance(self.prob, Layout):
            if not 0 <= self.prob <= 1:
                yield f"prob is {self.prob}; a probability between 0 and 1 is needed"
        elif numerics.is_integer(self.data.dtype):
            yield from float32_column(self.prob, "prob")
        elif not numerics.is_float(self.prob.dtype):
            yield f"prob has dtype {numerics.name(self.prob.dtype)}; a float dtype is needed"

    def compute(self, state: EngineState, data: Array, prob: Any) -> Array:  # type: ignore[override]
        """Bits of the kept elements."""
        values = rows(data)
        uniform = draw(state, Engine.vector, *values.shape) * UNIT
        other = per_lane(prob)
        limit = numerics.f32(other) if isinstance(other, np.ndarray) else other
        return np.where(uniform < limit, np.zeros(1, values.dtype), values)

    def cost(self, chip: Chip) -> Cost:
        """One element per lane and cycle."""
        cycles = self.dst.free * stride_factor(chip, (self.data, self.dst))
        return Cost(*streaming_ps(chip, Engine.vector, cycles))


class SetRngSeed(
    Instruction, nki="set_rng_seed", engines=(Engine.vector,), stateful=True,
    exactness=Exactness.modelled,
):  # fmt: skip
    """Restart the random numbers of Vector from a 32-bit seed."""

    src_seeds: Layout = reads()

    def limits(self, chip: Chip) -> Iterator[str]:
        """One 32-bit element."""
        if self.src_seeds.size != 1:
            yield f"src_seeds has shape {self.src_seeds.shape}; (1, 1) is needed"
        if self.src_seeds.itemsize * 8 != RANDOM_BITS:
            yield f"src_seeds has dtype {numerics.name(self.src_seeds.dtype)}; 32 bits are needed"

    def compute(self, state: EngineState, src_seeds: Array) -> None:  # type: ignore[override]
        """Only the registers change."""
        seed = int(np.ascontiguousarray(src_seeds).reshape(-1).view(np.uint32)[0])
        state.pop(f"rng.state.{Engine.vector.name}", None)
        state[f"rng.stream.{Engine.vector.name}"] = np.array([seed, 0], np.uint64)

    def cost(self, chip: Chip) -> Cost:
        """The shortest instruction (assumed)."""
        return Cost(*streaming_ps(chip, Engine.vector, self.src_seeds.free))


__all__ = ["Dropout", "Rand2", "Rng", "SetRngSeed", "draw"]
