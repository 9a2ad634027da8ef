"""The standard library, written in our own NKI: readable, profilable and replaceable kernels."""

from tenzing.kernels.attention import attention
from tenzing.kernels.indexing import gather_rows
from tenzing.kernels.matmul import gated_linear, linear
from tenzing.kernels.norm import layer_norm, softmax
from tenzing.kernels.rotary import rotary

__all__ = [
    "rotary",
    "attention", "gated_linear", "gather_rows", "layer_norm", "linear", "softmax",
]  # fmt: skip
