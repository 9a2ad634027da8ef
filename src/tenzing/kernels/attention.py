"""Softmax attention for any lengths, head grouping and mask."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.attention_decode import attend_groups, is_few
from tenzing.kernels.attention_masks import Band, Form, MaskTiles
from tenzing.kernels.attention_prefill import attend_blocks
from tenzing.kernels.attention_rows import attend_rows
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

LONG_QUERIES, LONG_KEYS = 128, 256  # from here on the pipeline of blocks is full enough


@jit
def attention(
    q: NkiTensor,
    k: NkiTensor,
    v: NkiTensor,
    mask: NkiTensor | None = None,
    scale: float = 1.0,
    dtype: Any = None,
    out_dtype: Any = None,
    causal: bool = False,
    window: int = 0,
    soft_cap: float = 0.0,
    offset: int = 0,
    heads_first: bool = False,
) -> NkiTensor:
    """``softmax(q kT * scale + mask) v`` for every head: [batch, queries, heads, value width].

    With ``heads_first`` the result is [batch, heads, queries, value width].

    q is [batch, queries, heads, dim]; k and v are [batch, keys, kv heads, dim or value width], and
    neighbouring query heads share a key head. The mask has rank 4 and sizes 1 or those of [batch,
    heads, queries, keys]: true where a key is attended to, or numbers that are added. Query i
    stands at position i + ``offset`` of the keys: ``causal`` hides the keys behind it, ``window``
    those that far away; ``soft_cap`` bends scores into (-cap, cap). Rows that see no key are zero.
    ``dtype`` is what TensorE multiplies.
    """
    batch, queries, heads, _ = q.shape
    keys, width = v.shape[1], v.shape[3]
    shape = (batch, heads, queries, width) if heads_first else (batch, queries, heads, width)
    result = nl.ndarray(shape, dtype=out_dtype or q.dtype, buffer=nl.hbm)
    out = result.permute((0, 2, 1, 3)) if heads_first else result
    band = Band(causal, window, offset)
    masks = None
    if mask is not None or band.empties(queries, keys):
        masks = MaskTiles(mask, band, queries)
    form = Form(scale, soft_cap, band, masks, dtype or q.dtype)
    attend = attend_rows
    if keys >= LONG_KEYS and width <= nl.tile_size.psum_bank_fmax:
        if is_few(q, k, masks, band):
            attend = attend_groups
        elif queries >= LONG_QUERIES:
            attend = attend_blocks
    attend(out, q, k, v, form)
    return result
