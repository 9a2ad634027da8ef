"""Random bits from an explicit state, so that a graph stays a function of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, Shape, TensorType, Work
from tenzing.compiler.ops.elementwise import expect_count
from tenzing.isa import numerics

STATE: Final = TensorType((1,), np.dtype(np.int32))
WORD: Final = np.dtype(np.uint32)
WORD_VALUES: Final = 1 << 32


@dataclass(frozen=True)
class RandomBits(Op, name="random_bits"):
    """Uniform 32-bit words: those of the engines' generator seeded with ``state + offset``.

    The input is the state, i32[1]. Nodes of one state draw apart by their ``offset``; whoever owns
    the state moves it past all of them. StableHLO's ``rng_bit_generator`` with a default algorithm;
    the generator of the chip is not public, so the bits are ours: reproducible, not the chip's.
    """

    shape: Shape
    offset: int = 0

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """u32 of the shape."""
        expect_count(self.name, inputs, 1)
        if inputs[0] != STATE:
            raise GraphError("random_bits state", got=inputs[0], allowed=STATE)
        return (TensorType(self.shape, WORD),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Word i depends on the seed and on i alone."""
        seed = (int(inputs[0][0]) + self.offset) % WORD_VALUES
        return (numerics.Rng(seed).bits(self.shape),)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """One operation per word."""
        return Work(vector_ops=outputs[0].elements)


__all__ = ["STATE", "RandomBits"]
