"""Functions on tiles that the engines lack, from those they have, without losing digits."""

from __future__ import annotations

from tenzing.kernels.rounding import fresh
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


def exponential_less_one_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = e**x - 1 = tanh(x / 2) (e**x + 1)``, accurate near zero."""
    half, power = fresh(x), fresh(x)
    nisa.activation(dst=half, op=nl.tanh, data=x, scale=0.5)
    nisa.activation(dst=power, op=nl.exp, data=x)
    nisa.scalar_tensor_tensor(
        dst=dst, data=power, op0=nl.add, operand0=1.0, op1=nl.multiply, operand1=half
    )


def log_one_plus_tile(x: NkiTensor, dst: NkiTensor) -> None:
    """``dst = log(1 + x)``: with ``u = 1 + x`` rounded, ``x log(u) / (u - 1)`` (Kahan), or x."""
    total, natural, less, quotient = fresh(x), fresh(x), fresh(x), fresh(x)
    nisa.tensor_scalar(dst=total, data=x, op0=nl.add, operand0=1.0)
    nisa.activation(dst=natural, op=nl.log, data=total)
    nisa.tensor_scalar(dst=less, data=total, op0=nl.subtract, operand0=1.0)
    nisa.tensor_tensor(dst=quotient, data1=natural, data2=less, op=nl.divide)
    nisa.tensor_tensor(dst=dst, data1=quotient, data2=x, op=nl.multiply)
    tiny = fresh(x, nl.uint8)
    nisa.tensor_scalar(dst=tiny, data=less, op0=nl.equal, operand0=0.0)
    same = x
    if x.dtype != dst.dtype:
        same = fresh(x, dst.dtype)
        nisa.tensor_copy(dst=same, src=x)
    nisa.tensor_copy_predicated(dst=dst, src=same, predicate=tiny)


__all__ = ["exponential_less_one_tile", "log_one_plus_tile"]
