"""The standard library, written in our own NKI: readable, profilable and replaceable kernels."""

from tenzing.kernels.attention import attention
from tenzing.kernels.indexing import gather_rows
from tenzing.kernels.matmul import linear
from tenzing.kernels.norm import layer_norm, softmax

__all__ = [
    "attention", "gather_rows", "layer_norm", "linear", "softmax",
]  # fmt: skip
