"""Random bits for ``rng``, ``dropout`` and ``rand``: a counter hashed with a seed.

The default generator of the engines is not public, so these bits are modelled: uniform, the same
for the same seed, different from the chip's. ``XorWow`` is the generator that the NKI reference
names for settable state.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError

Words: TypeAlias = NDArray[np.uint32]

# SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST_MIX: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND_MIX: Final = np.uint64(0x94D049BB133111EB)
UNIT: Final = np.float32(2.0**-24)  # float32 holds 24 random bits without rounding


class Rng:
    """Counter-based generator: word ``i`` depends on the seed and ``i`` alone.

    ``counter`` is the number of words drawn so far; a generator made with it continues there.
    """

    __slots__ = ("counter", "seed")

    def __init__(self, seed: int = 0, counter: int = 0) -> None:
        self.seed, self.counter = int(seed), int(counter)

    def bits(self, shape: tuple[int, ...]) -> Words:
        """The next random words, uint32 of ``shape``."""
        count = math.prod(shape)
        key = _mix(np.asarray([self.seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + GOLDEN)
        counters = np.arange(self.counter, self.counter + count, dtype=np.uint64)
        self.counter += count
        mixed = _mix(key + counters * GOLDEN)
        return (mixed >> np.uint64(32)).astype(np.uint32).reshape(shape)

    def uniform(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The next numbers, float32 of ``shape``, uniform on [0, 1) in steps of 2**-24."""
        return (self.bits(shape) >> np.uint32(8)).astype(np.float32) * UNIT


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * FIRST_MIX
    value = (value ^ (value >> np.uint64(27))) * SECOND_MIX
    return value ^ (value >> np.uint64(31))


STATE_WORDS: Final = 6
WEYL_STEP: Final = np.uint32(362437)


class XorWow:
    """Marsaglia's xorwow ("Xorshift RNGs", 2003), one generator per lane.

    ``state`` is uint32 [lanes, 6]: five xorshift words, oldest first, and the Weyl counter. How
    the engines order these words is not public.
    """

    __slots__ = ("state",)

    def __init__(self, state: Words) -> None:
        if state.ndim != 2 or state.shape[1] != STATE_WORDS:  # noqa: PLR2004 - [lanes, words]
            raise UsageError(
                "xorwow needs six words per lane",
                got=state.shape,
                allowed=f"[lanes, {STATE_WORDS}]",
            )
        self.state = state.astype(np.uint32)

    def bits(self, count: int) -> Words:
        """The next ``count`` words of every lane, uint32 [lanes, count]."""
        words = [self.state[:, i].copy() for i in range(STATE_WORDS - 1)]
        weyl = self.state[:, -1].copy()
        drawn = np.empty((count, len(weyl)), np.uint32)
        for step in range(count):
            oldest, newest = words[0], words[-1]
            mixed = oldest ^ (oldest >> np.uint32(2))
            following = newest ^ (newest << np.uint32(4)) ^ mixed ^ (mixed << np.uint32(1))
            words = [*words[1:], following]
            weyl = weyl + WEYL_STEP
            drawn[step] = weyl + following
        self.state = np.stack([*words, weyl], axis=1)
        return np.ascontiguousarray(drawn.T)
