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
SMALLEST: Final = 2.0**-126  # the smallest normal float32: keeps 0 / 0 out


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


def angle_tile(y: NkiTensor, x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = atan2(y, x)``: the engine's arctan of the smaller over the larger leg, unfolded."""
    tall, wide, low, high = (fresh(x) for _ in range(4))
    nisa.activation(dst=tall, op=nl.abs, data=y)
    nisa.activation(dst=wide, op=nl.abs, data=x)
    nisa.tensor_tensor(dst=low, data1=tall, data2=wide, op=nl.minimum)
    nisa.tensor_tensor(dst=high, data1=tall, data2=wide, op=nl.maximum)
    safe, ratio, angle = (fresh(x) for _ in range(3))
    nisa.tensor_scalar(dst=safe, data=high, op0=nl.maximum, operand0=SMALLEST)
    nisa.tensor_tensor(dst=ratio, data1=low, data2=safe, op=nl.divide)
    nisa.activation(dst=angle, op=nl.arctan, data=ratio)
    steep, left, below = (fresh(x, nl.uint8) for _ in range(3))
    nisa.tensor_tensor(dst=steep, data1=tall, data2=wide, op=nl.greater)
    nisa.tensor_scalar(dst=left, data=x, op0=nl.less, operand0=0.0)
    nisa.tensor_scalar(dst=below, data=y, op0=nl.less, operand0=0.0)
    for where, whole in ((steep, QUARTER), (left, math.pi), (below, 0.0)):
        mirrored = fresh(x)
        nisa.tensor_scalar(
            dst=mirrored, data=angle, op0=nl.multiply, operand0=-1.0, op1=nl.add, operand1=whole
        )
        nisa.tensor_copy_predicated(dst=angle, src=mirrored, predicate=where)
    nisa.tensor_copy(dst=dst, src=angle)


__all__ = ["angle_tile", "sine_tile"]
