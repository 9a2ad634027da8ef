"""Sine and cosine of any argument: the engine's own sine is valid within half a turn of zero.

Whole turns are taken off in three steps (Cody and Waite): the first two constants have so few bits
that their products with the number of turns are exact in float32 up to 2**15 turns.
"""

from __future__ import annotations

import math
from typing import Final

from tenzing.kernels.rounding import ROUNDER, fresh
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

TURN: Final = 2.0 * math.pi
TURN_HIGH: Final = 6.28125  # 201 / 32: eight bits
TURN_MIDDLE: Final = 253.0 / 2**17  # eight more bits of the rest
TURN_LOW: Final = TURN - TURN_HIGH - TURN_MIDDLE
HALF_TURN: Final = 3.1415925  # the float32 below pi
QUARTER: Final = math.pi / 2


def sine_tile(x: NkiTensor, dst: NkiTensor, *, cosine: bool = False) -> None:
    """``dst = sin(x)``, or ``sin(x + quarter turn)``, through an angle within half a turn."""
    turns = fresh(x)
    nisa.tensor_scalar(
        dst=turns, data=x, op0=nl.multiply, operand0=1.0 / TURN, op1=nl.add,
        operand1=0.25 if cosine else 0.0,
    )  # fmt: skip
    whole = fresh(x)
    nisa.tensor_scalar(
        dst=whole, data=turns, op0=nl.add, operand0=ROUNDER, op1=nl.subtract, operand1=ROUNDER
    )
    angle = x
    for part in (TURN_HIGH, TURN_MIDDLE, TURN_LOW):
        less = fresh(x)
        nisa.scalar_tensor_tensor(
            dst=less, data=whole, op0=nl.multiply, operand0=-part, op1=nl.add, operand1=angle
        )
        angle = less
    if cosine:
        shifted = fresh(x)
        nisa.tensor_scalar(dst=shifted, data=angle, op0=nl.add, operand0=QUARTER)
        angle = shifted
    held = fresh(x)
    nisa.tensor_scalar(
        dst=held, data=angle, op0=nl.minimum, operand0=HALF_TURN, op1=nl.maximum,
        operand1=-HALF_TURN,
    )  # fmt: skip
    nisa.activation(dst=dst, op=nl.sin, data=held)


__all__ = ["sine_tile"]
