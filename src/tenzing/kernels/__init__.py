"""The standard library, written in our own NKI: readable, profilable and replaceable kernels."""

from tenzing.kernels.attention import attention
from tenzing.kernels.attention_backward import attention_backward
from tenzing.kernels.indexing import gather_rows
from tenzing.kernels.matmul import gated_linear, linear
from tenzing.kernels.norm import layer_norm, rms_norm, softmax
from tenzing.kernels.rotary import rotary

__all__ = [
    "attention", "attention_backward", "gated_linear", "gather_rows", "layer_norm", "linear",
    "rms_norm", "rotary",
    "softmax",
]  # fmt: skip
