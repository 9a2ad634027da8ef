"""Attention of many queries: every block of 128 queries of every head through the pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from tenzing.kernels.attention_join import Block
from tenzing.kernels.attention_masks import Form
from tenzing.kernels.attention_operands import KeyHead, turned
from tenzing.kernels.attention_pipeline import KEYS_PER_STEP, Step, run_pipeline
from tenzing.kernels.tiles import spans
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

QUERIES_PER_LOAD = 512
QUERIES_IN_TURNS = 4096  # of one head are kept in SBUF for another order


def attend_blocks(out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form) -> None:
    """Fill ``out`` [batch, queries, heads, width]; operands as those of ``attention``."""
    run_pipeline(_steps(out, q, k, v, form), form, v.shape[1], v.shape[3])


def _steps(out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form) -> Iterator[Step]:
    """Every key range of every block, heads that share a key head one after the other."""
    batch, queries, heads, _ = q.shape
    keys, kv_heads = k.shape[1:3]
    share = heads // kv_heads
    order = _order(queries, form)
    for b in range(batch):
        for kv in range(kv_heads):
            shared: KeyHead | None = None
            for h in range(kv * share, (kv + 1) * share):
                loaded: dict[int, list[NkiTensor]] = {}
                for start, count in order:
                    few = _queries(q[b, 0:queries, h], start, count, form, loaded)
                    if shared is None:  # behind the first queries, which the first product needs
                        shared = KeyHead(k[b, 0:keys, kv], v[b, 0:keys, kv], form.dtype)
                    place = out[b, start : start + count, h]
                    block = _block(place, few, start, (b, h), keys, form)
                    for number, (low, high) in enumerate(block.ranges):
                        yield Step(block, number, *shared.range(low, high))


def _order(queries: int, form: Form) -> list[tuple[int, int]]:
    """Blocks of queries; under a causal band long and short ones in turns, while all fit."""
    blocks = list(spans(queries, nl.tile_size.pmax))
    if not form.band.causal or queries > QUERIES_IN_TURNS:
        return blocks
    middle = (len(blocks) + 1) // 2
    pairs = zip(reversed(blocks[middle:]), blocks, strict=False)
    return [*(block for pair in pairs for block in pair), *blocks[len(blocks) // 2 : middle]]


def _queries(
    q: NkiTensor, start: int, count: int, form: Form, loaded: dict[int, list[NkiTensor]]
) -> list[NkiTensor]:
    """Turned queries [part of dim, count] of one head, loaded several blocks at a time."""
    number, inside = divmod(start, QUERIES_PER_LOAD)
    if number not in loaded:
        first = start - inside
        last = min(first + QUERIES_PER_LOAD, q.shape[0])
        loaded[number] = turned(q[first:last], form.dtype)
    return [x[0 : x.shape[0], inside : inside + count] for x in loaded[number]]


def _block(
    out: NkiTensor, q: list[NkiTensor], start: int, head: tuple[int, int], keys: int, form: Form
) -> Block:
    low, high = form.band.keys(start, out.shape[0], keys)
    ranges = [(low + at, low + at + size) for at, size in spans(high - low, KEYS_PER_STEP)]
    return Block(out, q, start, head, ranges)
