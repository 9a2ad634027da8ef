"""ONNX attention, as the standard has it and as onnxruntime's optimiser writes it."""

from __future__ import annotations

import math
from typing import Final

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.translator import MICROSOFT, Item, Translator, onnx
from tenzing.compiler.graph import BOOL, Value

APART_RANK: Final = 4  # [batch, heads, length, width]; one less when heads are side by side


@onnx("Attention", since=23)
def _attention(
    t: Translator, q: Value, k: Value, v: Value, mask: Value | None = None,
    past_key: Value | None = None, past_value: Value | None = None, valid: Value | None = None, *,
    is_causal: int = 0, q_num_heads: int = 0, kv_num_heads: int = 0, scale: float | None = None,
    softcap: float = 0.0, left_window_size: int = -1, right_window_size: int = -1,
    qk_matmul_output_mode: int = 0, softmax_precision: int = 0,
) -> Item:  # fmt: skip
    """Whole where it is plain; caches and returned scores go through ONNX's own function."""
    packed = len(q.shape) < APART_RANK
    if t.outputs > 1 or past_key is not None or valid is not None or softcap:
        return NotImplemented
    if not q.dtype == k.dtype == v.dtype:
        return NotImplemented
    heads = q_num_heads if packed else q.shape[1]
    kv_heads = kv_num_heads if packed else k.shape[1]
    width = q.shape[-1] // heads if packed else q.shape[-1]
    factor = scale if scale is not None else 1 / math.sqrt(width)
    masks = [] if mask is None else [_mask(t, mask)]
    if masks and masks[0].shape[-1] not in (1, k.shape[-2]):
        return NotImplemented
    right = 0 if is_causal else right_window_size
    if left_window_size != right_window_size and not (right == 0 and left_window_size >= 0):
        return NotImplemented
    op = ops.Attention(factor, heads, kv_heads, right == 0, packed, window=left_window_size + 1)
    return t.emit(op, q, k, v, *masks)


def _mask(t: Translator, mask: Value) -> Value:
    missing = APART_RANK - len(mask.shape)
    return t.reshape(mask, (*(1 for _ in range(missing)), *mask.shape))


@onnx("MultiHeadAttention", domain=MICROSOFT)
def _multi_head(
    t: Translator, q: Value, k: Value, v: Value, bias: Value | None = None,
    padding: Value | None = None, added: Value | None = None, *rest: Value | None,
    num_heads: int, scale: float | None = None, mask_filter_value: float = -10000.0,
    unidirectional: int = 0,
) -> Item:  # fmt: skip
    if t.outputs > 1 or any(item is not None for item in rest) or len(k.shape) >= APART_RANK:
        raise t.unsupported("attention with a cache inside one operation")
    if bias is not None:
        width = q.shape[-1], k.shape[-1], v.shape[-1]
        ends = [0, width[0], width[0] + width[1], sum(width)]
        q, k, v = (t.apply(ops.Add(), x, t.emit(ops.Slice((a,), (b,), (1,)), bias))
                   for x, a, b in zip((q, k, v), ends, ends[1:], strict=False))  # fmt: skip
    masks = [] if added is None else [_mask(t, added)]
    if padding is not None:
        if padding.shape != k.shape[:2] or masks:
            raise t.unsupported("this form of padding mask", got=padding.type)
        seen = t.apply(ops.Compare("ne"), padding, 0)
        masks = [t.reshape(seen, (seen.shape[0], 1, 1, seen.shape[1]))]
        assert masks[0].dtype == BOOL
    factor = scale if scale is not None else 1 / math.sqrt(q.shape[-1] // num_heads)
    op = ops.Attention(factor, num_heads, num_heads, bool(unidirectional), packed=True)
    return t.emit(op, q, k, v, *masks)
