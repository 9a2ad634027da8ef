"""Rounding to integers on tiles: the chip itself only rounds to nearest even, when it writes one.

Results equal the exact ones for every finite float32; infinities give NaN, as remainders do.
"""

from __future__ import annotations

from typing import Any, Final

from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

ROUNDER: Final = 1.5 * 2.0**23  # float32 numbers of this size are a whole number apart
WHOLE: Final = 2.0**22  # from here on adding ROUNDER would leave its binade


def fresh(like: NkiTensor, dtype: object = nl.float32) -> NkiTensor:
    """A new SBUF tile with the shape of another."""
    return nl.ndarray(like.shape, dtype=dtype, buffer=nl.sbuf)


def floor_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = x - (x mod 1)``; the remainder takes the sign of 1."""
    _less_remainder(x, dst, nl.mod)


def truncate_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = x - fmod(x, 1)``; the remainder takes the sign of x."""
    _less_remainder(x, dst, nl.fmod)


def ceil_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = x + (-x mod 1)``."""
    rest = fresh(x)
    nisa.tensor_scalar(dst=rest, data=x, op0=nl.multiply, operand0=-1.0, op1=nl.mod, operand1=1.0)
    nisa.tensor_tensor(dst=dst, data1=x, data2=rest, op=nl.add)


def round_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """Nearest integer, ties to even: adding a large number drops the fraction."""
    nisa.tensor_scalar(
        dst=dst, data=x, op0=nl.add, operand0=ROUNDER, op1=nl.subtract, operand1=ROUNDER
    )
    size = fresh(x)
    nisa.activation(dst=size, op=nl.abs, data=x)
    large = fresh(x, nl.uint8)
    nisa.tensor_scalar(dst=large, data=size, op0=nl.greater_equal, operand0=WHOLE)
    same = x
    if x.dtype != dst.dtype:
        same = fresh(x, dst.dtype)
        nisa.tensor_copy(dst=same, src=x)
    nisa.tensor_copy_predicated(dst=dst, src=same, predicate=large)


def _less_remainder(x: NkiTensor, dst: NkiTensor, op: Any) -> None:
    rest = fresh(x)
    nisa.tensor_scalar(dst=rest, data=x, op0=op, operand0=1.0)
    nisa.tensor_tensor(dst=dst, data1=x, data2=rest, op=nl.subtract)


__all__ = ["ceil_tile", "floor_tile", "fresh", "round_tile", "truncate_tile"]
