"""Where tokens stand: rotary angles, linear biases, buckets of distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import Array, Value
from tenzing.compiler.models.author import Author

TURN: Final = 2 * math.pi  # radians
WIDTH_DIM: Final = 3
MIN_SPAN: Final = 0.001  # of a ramp between two equal dims
SLOPE_SPAN: Final = 8.0  # the slopes of linear biases end at 2 to the power -8


class Scaling(Protocol):
    """Rotary rates of a stretched context; ``gain`` multiplies cosines and sines."""

    @property
    def gain(self) -> float: ...

    def rates(self, rates: Array, theta: float, length: int) -> Array:
        """The rates to use, in radians per position, when attention sees ``length`` positions."""
        ...


@dataclass(frozen=True)
class Linear:
    """All rates slowed by ``factor``."""

    factor: float
    gain: float = 1.0

    def rates(self, rates: Array, theta: float, length: int) -> Array:
        """See Scaling."""
        return np.asarray(rates / self.factor)


@dataclass(frozen=True)
class Llama3:
    """Rates of a context stretched by ``factor``, as Llama 3 does it.

    Waves longer than ``original / low`` positions are slowed by ``factor``, those shorter than
    ``original / high`` stay, and between them the rate is blended.
    """

    factor: float
    low: float
    high: float
    original: int
    gain: float = 1.0

    def rates(self, rates: Array, theta: float, length: int) -> Array:
        """See Scaling."""
        turns = self.original * rates / TURN  # of a wave within the original context
        kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return np.asarray(rates * (kept + (1 - kept) / self.factor))


@dataclass(frozen=True)
class Yarn:
    """YaRN: waves with fewer than ``slow`` turns in the original context are slowed by ``factor``.

    Those with more than ``fast`` stay; between them a ramp over the dims, with whole ends when
    ``whole``.
    """

    factor: float
    original: int
    fast: float
    slow: float
    gain: float
    whole: bool = True

    def rates(self, rates: Array, theta: float, length: int) -> Array:
        """See Scaling."""
        half = len(rates)
        low, high = (half * math.log(self.original / (turns * TURN)) / math.log(theta)
                     for turns in (self.fast, self.slow))  # fmt: skip
        if self.whole:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * half - 1)
        ramp = np.clip((np.arange(half) - low) / max(high - low, MIN_SPAN), 0, 1)
        return np.asarray(rates * (1 - ramp) + rates / self.factor * ramp)


@dataclass(frozen=True)
class LongRope:
    """A divisor for each rate: one list up to the ``original`` context, another beyond it."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original: int
    gain: float

    def rates(self, rates: Array, theta: float, length: int) -> Array:
        """See Scaling."""
        return np.asarray(rates / np.array(self.long if length > self.original else self.short))


@dataclass(frozen=True)
class Rope:
    """Rotary positions of the first ``width`` dims of a head.

    A pair that turns together lies half the width apart, or side by side in ``neighbours``, which
    are put in halves first.
    """

    width: int
    theta: float = 10000.0
    scaling: Scaling | None = None
    neighbours: bool = False

    def turned(self, author: Author, x: Value) -> Value:
        """x [batch, heads, tokens, at least width] at its places."""
        cosine, sine = author.once(self, lambda: self._tables(author, x.shape[2]))
        rest = author.part(x, WIDTH_DIM, self.width, x.shape[3])
        x = author.part(x, WIDTH_DIM, 0, self.width)
        if self.neighbours:
            low, high = (author.part(x, WIDTH_DIM, k, self.width, 2) for k in (0, 1))
            x = author.add(ops.Concatenate(WIDTH_DIM), low, high)
        done = author.add(ops.Rotary(), x, cosine, sine)
        return done if not rest.shape[3] else author.add(ops.Concatenate(WIDTH_DIM), done, rest)

    def _tables(self, author: Author, tokens: int) -> tuple[Value, Value]:
        """Cosines and sines [1, tokens, width]."""
        half = self.width // 2
        steps = self.theta ** (-np.arange(half, dtype=np.float64) / half)
        if self.scaling is not None:
            steps = self.scaling.rates(steps, self.theta, author.length)
        gain = self.scaling.gain if self.scaling is not None else 1.0
        rates = author.add(ops.Constant.of(np.asarray(steps, np.float32)))
        shape = (tokens, half)
        places = author.along(shape, (0,), author.places(tokens))
        angle = author.add(ops.Multiply(), places, author.along(shape, (1,), rates))
        both = author.add(ops.Concatenate(1), angle, angle)
        parts = (author.scaled(author.add(op, both), gain) for op in (ops.Cosine(), ops.Sine()))
        cosine, sine = (
            author.add(ops.Reshape((1, tokens, self.width)),
                       author.add(ops.Convert(author.dtype), part))
            for part in parts
        )  # fmt: skip
        return cosine, sine


@dataclass(frozen=True)
class LinearBias:
    """ALiBi: each head adds its slope times the key's place, here times ``scale``."""

    scale: float = 1.0

    def slopes(self, heads: int) -> Array:
        """One slope per head; beyond a power of two, every other one of the next finer set."""
        whole = 1 << (heads.bit_length() - 1)
        base = 2.0 ** (-SLOPE_SPAN / whole * np.arange(1, whole + 1))
        finer = 2.0 ** (-SLOPE_SPAN / (2 * whole) * np.arange(1, 2 * (heads - whole), 2))
        return np.concatenate([base, finer])

    def bias(self, author: Author, heads: int, queries: int) -> Value:
        """[1, heads, 1, keys]."""
        place = np.arange(author.length, dtype=np.float64)
        table = self.slopes(heads)[:, None] * place * self.scale
        wide = table.astype(np.float32)[None, :, None]
        return author.add(ops.Constant.of(wide.astype(author.dtype)))


@dataclass(frozen=True)
class Buckets:
    """T5's learned bias for the distance between query and key, in both directions."""

    name: str
    count: int
    reach: int

    def bias(self, author: Author, heads: int, queries: int) -> Value:
        """[1, heads, queries, keys], of the first layer's table."""
        scope, author.builder.scope = author.builder.scope, ""
        table = author.weight(f"{self.name}.weight", self.count, heads)
        author.builder.scope = scope
        index = author.add(ops.Constant.of(self.numbers(queries, author.length)))
        rows = author.add(ops.Transpose((2, 0, 1)), author.add(ops.Gather(), table, index))
        return author.add(ops.Reshape((1, *rows.shape)), rows)

    def numbers(self, queries: int, keys: int) -> Array:
        """The bucket of every pair: near ones apart, far ones by the logarithm of the distance."""
        apart = np.arange(keys)[None, :] - np.arange(queries)[:, None]
        half = self.count // 2
        near = half // 2
        far = np.maximum(np.abs(apart), 1).astype(np.float32) / near
        share = np.log(far) / np.float32(math.log(self.reach / near))
        beyond = np.minimum(near + (share * (half - near)).astype(np.int64), half - 1)
        number = np.where(np.abs(apart) < near, np.abs(apart), beyond) + half * (apart > 0)
        return np.asarray(number, np.int32)


Bias = LinearBias | Buckets
__all__ = ["Bias", "Buckets", "Linear", "LinearBias", "Llama3", "LongRope", "Rope", "Scaling",
           "Yarn"]  # fmt: skip
