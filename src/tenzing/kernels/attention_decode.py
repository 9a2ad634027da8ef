"""Attention of a few queries over many keys: bound by the memory that holds the keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tenzing.kernels.attention_join import Block
from tenzing.kernels.attention_masks import Band, Form, MaskTiles, Range
from tenzing.kernels.attention_operands import KeyHead, turned
from tenzing.kernels.attention_pipeline import KEYS_PER_STEP, Step, run_pipeline
from tenzing.kernels.tiles import spans
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

ROWS_TOGETHER = 512  # queries of all heads that are turned at once


def is_few(q: NkiTensor, k: NkiTensor, masks: MaskTiles | None, band: Band) -> bool:
    """Whether all queries of a key head are one block and see the same keys."""
    queries, heads = q.shape[1:3]
    pmax = nl.tile_size.pmax
    rows = queries * (heads // k.shape[2])
    alike = queries == 1 or not band.hides
    if masks is not None and masks.mask is not None:
        alike = alike and masks.mask.shape[1:3] == (1, 1)
    fits = queries * heads <= ROWS_TOGETHER and rows <= pmax
    return fits and alike and not band.empties(queries, k.shape[1])


def attend_groups(out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form) -> None:
    """Fill ``out`` [batch, queries, heads, width]; operands as those of ``attention``.

    The query heads that share a key head are the rows of one block, so that keys and values are
    read once. All these rows see the same keys: ``is_few`` says so.
    """
    keys = _seen(form.band, k.shape[1])
    masks = None
    if form.masks is not None:
        masks = MaskTiles(form.masks.mask, Band(), q.shape[1] * (q.shape[2] // k.shape[2]))
    form = replace(form, band=Band(), masks=masks)
    run_pipeline(_steps(out, q, k, v, form, keys), form, keys[1] - keys[0], v.shape[3])


def _seen(band: Band, keys: int) -> Range:
    """Keys that the only query sees by position."""
    high = keys if band.after is None else min(keys, band.offset + band.after + 1)
    return max(0, band.offset - band.window + 1) if band.window else 0, high


def _steps(
    out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form, seen: Range
) -> Iterator[Step]:
    batch, queries, heads, dim = q.shape
    kv_heads = k.shape[2]
    share = heads // kv_heads
    low, high = seen
    ranges = [(low + at, low + at + size) for at, size in spans(high - low, KEYS_PER_STEP)]
    for b in range(batch):
        rows = turned(q[b, 0:queries].reshape((queries * heads, dim)), form.dtype)
        for kv in range(kv_heads):
            group = slice(kv * share, (kv + 1) * share)
            few = [
                x.reshape((x.shape[0], queries, heads))[0 : x.shape[0], 0:queries, group]
                for x in rows
            ]
            shared = KeyHead(k[b, low:high, kv], v[b, low:high, kv], form.dtype)
            block = Block(out[b, 0:queries, group], few, 0, (b, kv * share), ranges)
            for number, (first, last) in enumerate(ranges):
                yield Step(block, number, *shared.range(first - low, last - low))
