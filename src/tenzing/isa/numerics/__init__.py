"""The arithmetic of the chip: pure functions on NumPy arrays, without chip state.

Engines compute in float32 and round on write. Every function gives the same bits on every machine;
what the silicon's documentation leaves open is chosen here and marked.
"""

from tenzing.isa.numerics.activation import ACTIVATION, ActivationFunction, activation
from tenzing.isa.numerics.alu import ALU, AluOp, alu_op
from tenzing.isa.numerics.dtypes import (
    DTYPES,
    DType,
    FloatInfo,
    dtype,
    finfo,
    is_float,
    is_integer,
    is_packed,
    itemsize,
    name,
)  # fmt: skip
from tenzing.isa.numerics.erf import erf, erfc
from tenzing.isa.numerics.matmul import matmul
from tenzing.isa.numerics.random import Rng, XorWow
from tenzing.isa.numerics.reduce import bit_reduce, row_reduce, row_sum
from tenzing.isa.numerics.rounding import f32, pack, round_to, store, unpack

__all__ = [
    "ACTIVATION", "ALU", "DTYPES", "ActivationFunction", "AluOp", "DType", "FloatInfo", "Rng",
    "XorWow", "activation", "alu_op", "bit_reduce", "dtype", "erf", "erfc", "f32", "finfo",
    "is_float", "is_integer", "is_packed", "itemsize", "matmul", "name", "pack", "round_to",
    "row_reduce", "row_sum", "store", "unpack",
]  # fmt: skip
