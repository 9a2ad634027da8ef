"""ATen operations that multiply matrices, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.translator import Number, Result, Translator, aten
from tenzing.compiler.graph import Value

MATRIX_RANK = 2
HEADS_RANK = 4


@aten("linear.default")
def _linear(t: Translator, x: Value, weight: Value, bias: Value | None = None) -> Result:
    return t.emit(ops.Linear(), x, weight, *(() if bias is None else (bias,)))


@aten("mm.default", "bmm.default", "matmul.default")
def matmul(t: Translator, x: Value, y: Value) -> Result:
    """PyTorch's matmul: leading dims broadcast, vectors lose their unit dim."""
    left = t.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = t.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    if len(right.shape) == MATRIX_RANK:
        contract = ((len(left.shape) - 1,), (0,))
        return t.reshape(t.emit(ops.DotGeneral(((), ()), contract), left, right), t.result.shape)
    lead = _broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = t.broadcast(left, (*lead, *left.shape[-2:]))
    right = t.broadcast(right, (*lead, *right.shape[-2:]))
    batch = tuple(range(len(lead)))
    contract = ((len(lead) + 1,), (len(lead),))
    return t.reshape(t.emit(ops.DotGeneral((batch, batch), contract), left, right), t.result.shape)


def _broadcast_shapes(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    length = max(len(one), len(other))
    pairs = zip(
        (1,) * (length - len(one)) + tuple(one),
        (1,) * (length - len(other)) + tuple(other),
        strict=True,
    )
    return tuple(b if a == 1 else a for a, b in pairs)


@aten("dot.default", "mv.default")
def _vector(t: Translator, x: Value, y: Value) -> Result:
    return matmul(t, x, y)


@aten("addmm.default", "baddbmm.default")
def _addmm(
    t: Translator, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1
) -> Result:
    if (beta, alpha) == (1, 1) and len(bias.shape) == 1 and bias.shape == y.shape[-1:]:
        return t.emit(ops.Linear("kn"), x, y, bias)
    product = matmul(t, x, y)
    if not isinstance(product, Value):
        return None
    parts = [(bias, beta), (product, alpha)]
    scaled = [
        v if n == 1 else t.emit(ops.Multiply(), v, t.splat(n, v.type))
        for v, n in ((t.broadcast(value, t.result.shape), number) for value, number in parts)
    ]
    return t.emit(ops.Add(), *scaled)


@aten("scaled_dot_product_attention.default")
def _attention(
    t: Translator,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Result:
    if dropout_p:
        raise t.unsupported(
            "attention with dropout", got=dropout_p, next_step="call module.eval() first"
        )
    factor = scale if scale is not None else 1.0 / math.sqrt(q.shape[-1])
    q4, k4, v4 = (_four_dims(t, value) for value in (q, k, v))
    mask = [] if attn_mask is None else [_mask(t, attn_mask, q)]
    op = ops.Attention(factor, q4.shape[1], k4.shape[1], is_causal)
    return t.reshape(t.emit(op, q4, k4, v4, *mask), (*q.shape[:-1], v.shape[-1]))


@aten("_scaled_dot_product_flash_attention_for_cpu.default")
def _flash_attention(
    t: Translator,
    q: Value,
    k: Value,
    v: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> Result:
    if 1 in t.used:
        raise t.unsupported(
            "the log-sum-exp of flash attention",
            next_step="trace for training under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
        )
    result = _attention(t, q, k, v, attn_mask, dropout_p, is_causal, scale)
    return (result, None) if isinstance(result, Value) else None


def _four_dims(t: Translator, x: Value) -> Value:
    """[batch, heads, length, width] whatever the number of leading dims."""
    lead = x.shape[:-2]
    if len(x.shape) == HEADS_RANK:
        return x
    heads = lead[-1] if lead else 1
    return t.reshape(x, (math.prod(lead[:-1]), heads, *x.shape[-2:]))


def _mask(t: Translator, mask: Value, q: Value) -> Value:
    missing = len(q.shape) - len(mask.shape)
    aligned = t.reshape(mask, (*((1,) * missing), *mask.shape))
    if len(q.shape) <= HEADS_RANK:
        return _four_dims(t, aligned)
    return _four_dims(t, t.broadcast(aligned, (*q.shape[:-2], *aligned.shape[-2:])))
