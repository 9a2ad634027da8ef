"""Gradients of attention: one operation that computes the probabilities again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenzing.compiler.graph import Array, GraphError, Op, TensorType, Work
from tenzing.compiler.ops.attention import Attention, AttentionShape
from tenzing.compiler.ops.contraction import accumulate
from tenzing.compiler.ops.elementwise import expect_count, narrow
from tenzing.compiler.ops.reduction import softmax_rows

_OPERANDS = 4  # q, k, v and the gradient of the result; a mask may follow
_PRODUCTS = 5  # scores, dP, dV, dK, dQ
_VECTOR_PASSES = 8


@dataclass(frozen=True)
class AttentionBackward(Op, name="attention_backward"):
    """dq, dk, dv of softmax(q k^T * scale + mask) v, from q, k, v and the result's gradient.

    Inputs are (q, k, v, gradient, optional mask), [batch, heads, length, width] each; several query
    heads may share a key head and add to its gradients. Mask and ``causal`` are those of attention;
    rows that see no key give nothing. Probabilities and their slopes are rounded to the dtype of q
    before the products that use them; results have ``out_dtype``, by default that of q.
    """

    scale: float
    heads: int
    kv_heads: int
    causal: bool = False
    out_dtype: np.dtype[Any] | None = None

    @property
    def forward(self) -> Attention:
        """The operation it belongs to."""
        return Attention(self.scale, self.heads, self.kv_heads, self.causal)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The shapes of q, k and v."""
        expect_count(self.name, inputs, _OPERANDS, _OPERANDS + 1)
        q, k, v, grad = inputs[:_OPERANDS]
        (result,) = self.forward.infer(q, k, v, *inputs[_OPERANDS:])
        if grad.shape != result.shape or grad.dtype != q.dtype:
            raise GraphError("the gradient does not fit the result of attention", got=grad,
                             allowed=TensorType(result.shape, q.dtype))  # fmt: skip
        dtype = self.out_dtype or q.dtype
        return tuple(TensorType(x.shape, dtype) for x in (q, k, v))

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Products in float32, softmax in float64, each rounded once."""
        q, k, v, grad = inputs[:_OPERANDS]
        size = self._size(*inputs)
        share = size.heads // size.kv_heads
        wide = [np.repeat(accumulate(x), share, axis=1) for x in (k, v)]
        scores = np.matmul(accumulate(q), wide[0].swapaxes(-1, -2)) * np.float32(self.scale)
        scores = self.forward.masked(scores, inputs[_OPERANDS] if len(inputs) > _OPERANDS else None)
        probs = np.nan_to_num(softmax_rows(scores), nan=0.0).astype(np.float32)
        slopes = np.matmul(accumulate(grad), wide[1].swapaxes(-1, -2))
        slopes = probs * (slopes - (probs * slopes).sum(-1, keepdims=True))
        rounded_probs, rounded = (accumulate(narrow(x, q.dtype)) for x in (probs, slopes))
        dq = np.matmul(rounded, wide[0]) * np.float32(self.scale)
        dk = np.matmul(rounded.swapaxes(-1, -2), accumulate(q)) * np.float32(self.scale)
        dv = np.matmul(rounded_probs.swapaxes(-1, -2), accumulate(grad))
        dk, dv = (
            x.reshape(size.batch, size.kv_heads, share, *x.shape[2:]).sum(2) for x in (dk, dv)
        )
        return tuple(narrow(x, self.out_dtype or q.dtype) for x in (dq, dk, dv))

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Five products, one exponential and eight vector operations per score."""
        size = self._size(*inputs)
        scores = size.batch * size.heads * size.queries * size.keys
        width = (3 * size.width + 2 * size.value_width) / _PRODUCTS
        return Work(
            matmul_flops=round(2 * _PRODUCTS * scores * width),
            vector_ops=_VECTOR_PASSES * scores,
            transcendentals=scores,
        )

    def _size(self, *inputs: Any) -> AttentionShape:
        return self.forward.sizes(*(x.shape for x in inputs[:3]))


__all__ = ["AttentionBackward"]
