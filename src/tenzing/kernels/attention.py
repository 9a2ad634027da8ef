"""Softmax attention over whole rows of scores, several heads per tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenzing.kernels.attention_masks import Band, Cover, MaskTiles
from tenzing.kernels.tiles import cast, spans, transpose_blocks, transpose_spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

HEADS_IN_FLIGHT = 6  # scores, transposes and products of so many heads share the 8 PSUM banks
SCORES_SHARE = 0.4  # of a partition may hold the scores of the heads in flight
KEYS_SHARE = 0.4  # of a partition may hold keys and values
BYTES_PER_SCORE = 12  # float32 scores, probabilities and their transpose
START_PARTITION = 32  # a view of up to 32 partitions starts at a multiple of it


@dataclass(frozen=True)
class Form:
    """What happens to the scores: scale, then cap * tanh(scores / cap), then mask and band."""

    scale: float
    soft_cap: float
    band: Band
    mask: MaskTiles | None
    dtype: Any


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
) -> NkiTensor:
    """``softmax(q kT * scale + mask) v`` for every head: [batch, queries, heads, value width].

    q is [batch, queries, heads, dim]; k and v are [batch, keys, kv heads, dim or value width], and
    neighbouring query heads share a key head. The mask has rank 4 and sizes 1 or those of [batch,
    heads, queries, keys]: true where a key is attended to, or numbers that are added. ``causal``
    lets query i see keys 0 to i, ``window`` only keys closer than that; ``soft_cap`` bends scores
    into (-cap, cap). Rows that see no key are zero. ``dtype`` is what TensorE multiplies.

    Heads that share a 128-partition block are transposed together, whole rows of scores are kept
    in SBUF, and the division by the row sum is left to the last step.
    """
    batch, queries, heads, _ = q.shape
    keys, kv_heads, width = v.shape[1:]
    out = nl.ndarray((batch, queries, heads, width), dtype=out_dtype or q.dtype, buffer=nl.hbm)
    band = Band(causal, window)
    tiles = None
    if mask is not None or (window and queries > keys):  # some query may see no key
        tiles = MaskTiles(mask, band, queries, keys)
    form = Form(scale, soft_cap, band, tiles, dtype or q.dtype)
    together = _heads_that_fit(k, v)
    share = heads // kv_heads
    for b in range(batch):
        for first, count in spans(kv_heads, together):
            few = slice(first * share, (first + count) * share)
            _some_heads(
                out[b, 0:queries, few], q[b, 0:queries, few], k[b, 0:keys, first : first + count],
                v[b, 0:keys, first : first + count], form, (b, first * share),
            )  # fmt: skip
    return out


def _heads_that_fit(k: NkiTensor, v: NkiTensor) -> int:
    """Key heads whose keys and values fit their share of SBUF together."""
    pmax = nl.tile_size.pmax
    keys, heads, dim = k.shape[1:]
    per_head = -(-dim // pmax) * keys + -(-keys // pmax) * v.shape[3]
    room = nl.tile_size.total_available_sbuf_size * KEYS_SHARE
    return int(max(1, min(heads, room // (per_head * k.itemsize))))


def _some_heads(
    out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form, at: tuple[int, int]
) -> None:
    """Heads of one sequence, [length, heads, dim] each; ``at`` is the sequence and first head."""
    queries, heads, _ = q.shape
    keys, kv_heads, width = v.shape
    share = heads // kv_heads
    pmax = nl.tile_size.pmax
    k_heads = _turned_heads(k, form.dtype)
    v_tiles = [_load_heads(v, start, size, form.dtype) for start, size in spans(keys, pmax)]
    room = nl.tile_size.total_available_sbuf_size * SCORES_SHARE
    in_flight = int(max(1, min(HEADS_IN_FLIGHT, room // (keys * BYTES_PER_SCORE))))
    for start, count in spans(queries, pmax):
        low, high = form.band.keys(start, count, keys)
        seen = v_tiles[low // pmax : -(-high // pmax)]
        q_heads = _turned_heads(q[start : start + count], form.dtype)
        done = nl.ndarray((count, heads * width), dtype=out.dtype, buffer=nl.sbuf)
        for first, several in spans(heads, in_flight):
            group = range(first, first + several)
            # stage by stage, so that in-order engines work on one head while another waits
            covers = [_cover(form, (at[0], at[1] + h), (start, count)) for h in group]
            scores = [
                _scores(q_heads[h], k_heads[h // share], form, cover, (start, low, high))
                for h, cover in zip(group, covers, strict=True)
            ]
            sums = nl.ndarray((count, several), dtype=nl.float32, buffer=nl.sbuf)
            probs = [_probabilities(s, sums[0:count, n : n + 1], form.dtype)
                     for n, s in enumerate(scores)]  # fmt: skip
            turned = [transpose_blocks(p, pmax) for p in probs]
            parts = [
                _weighted_values(t, seen, h // share, width)
                for h, t in zip(group, turned, strict=True)
            ]
            factors = _inverse(sums, covers, form)
            for n, (h, columns) in enumerate(zip(group, parts, strict=True)):
                for column, part in columns:
                    place = h * width + column
                    nisa.tensor_scalar(
                        dst=done[0:count, place : place + part.shape[1]],
                        data=part, op0=nl.multiply, operand0=factors[0:count, n : n + 1],
                    )  # fmt: skip
        target = out[start : start + count]
        nisa.dma_copy(dst=target, src=done.reshape((count, heads, width)))


def _load_heads(x: NkiTensor, start: int, count: int, dtype: Any) -> NkiTensor:
    """Rows of one sequence, all heads side by side: [count, heads * dim]."""
    heads, dim = x.shape[1:]
    tile = nl.ndarray((count, heads * dim), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile.reshape((count, heads, dim)), src=x[start : start + count])
    return cast(tile, dtype)


def _turned_heads(x: NkiTensor, dtype: Any) -> list[list[NkiTensor]]:
    """For each head views [up to 128 of dim, length] of the transposed rows."""
    length, heads, dim = x.shape
    pmax = nl.tile_size.pmax
    blocks = _head_blocks(heads, dim)
    tiles = [nl.ndarray((size, length), dtype=dtype, buffer=nl.sbuf) for _, size in blocks]
    for at, size in spans(length, pmax):
        rows = _load_heads(x, at, size, dtype)
        parts = transpose_spans(rows, blocks)
        for number, (tile, part) in enumerate(zip(tiles, parts, strict=True)):
            if length == size:
                tiles[number] = part
            else:
                nisa.tensor_copy(dst=tile[0 : tile.shape[0], at : at + size], src=part)
    views: list[list[NkiTensor]] = [[] for _ in range(heads)]
    for tile, (column, size) in zip(tiles, blocks, strict=True):
        for inside, width in spans(size, min(dim, size)):
            views[(column + inside) // dim].append(tile[inside : inside + width, 0:length])
    return views


def _head_blocks(heads: int, dim: int) -> list[tuple[int, int]]:
    """First column and size of each block to transpose: whole heads, or parts of one wide head."""
    pmax = int(nl.tile_size.pmax)
    if dim > pmax:
        return [(h * dim + at, size) for h in range(heads) for at, size in spans(dim, pmax)]
    # a head must start on a legal partition
    together = pmax // dim if dim % START_PARTITION == 0 else 1
    return list(spans(heads * dim, together * dim))


def _cover(form: Form, which: tuple[int, int], rows: tuple[int, int]) -> Cover | None:
    return None if form.mask is None else form.mask.cover(*which, *rows)


def _scores(
    q_head: list[NkiTensor], k_head: list[NkiTensor], form: Form, cover: Cover | None,
    where: tuple[int, int, int],
) -> NkiTensor:  # fmt: skip
    """``q kT * scale + mask`` of one head in SBUF: [queries, keys seen]."""
    start, low, high = where
    count = q_head[0].shape[1]
    scores = nl.ndarray((count, high - low), dtype=nl.float32, buffer=nl.sbuf)
    for at, size in spans(high - low, nl.tile_size.gemm_moving_fmax):
        product = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        for number, (left, right) in enumerate(zip(q_head, k_head, strict=True)):
            keys = right[0 : right.shape[0], low + at : low + at + size]
            nisa.nc_matmul(dst=product, stationary=left, moving=keys, accumulate=number > 0)
        part = scores[0:count, at : at + size]
        added = None if cover is None else cover.added[0:count, low + at : low + at + size]
        _finish_scores(part, product, added, form)
    if cover is None:
        form.band.hide(scores, start, low)
    return scores


def _finish_scores(dst: NkiTensor, product: NkiTensor, mask: NkiTensor | None, form: Form) -> None:
    """Scale, soft cap and mask on the way from PSUM to SBUF."""
    scale = form.scale
    if form.soft_cap:
        nisa.activation(dst=dst, op=nl.tanh, data=product, scale=scale / form.soft_cap)
        product, scale = dst, form.soft_cap
    if mask is None:
        nisa.tensor_scalar(dst=dst, data=product, op0=nl.multiply, operand0=scale)
    else:
        nisa.scalar_tensor_tensor(
            dst=dst, data=product, op0=nl.multiply, operand0=scale, op1=nl.add, operand1=mask
        )


def _probabilities(scores: NkiTensor, row_sum: NkiTensor, dtype: Any) -> NkiTensor:
    """Unnormalised ``exp(scores - max)`` [queries, keys]; fills its row sums [queries, 1]."""
    count, keys = scores.shape
    lowest = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=lowest, op=nl.maximum, data=scores, axis=1, negate=True)
    probs = nl.ndarray((count, keys), dtype=dtype, buffer=nl.sbuf)
    nisa.activation(
        dst=probs, op=nl.exp, data=scores, bias=lowest, reduce_op=nl.add, reduce_res=row_sum,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )  # fmt: skip
    return probs


def _inverse(sums: NkiTensor, covers: list[Cover | None], form: Form) -> NkiTensor:
    """One over the row sums [queries, heads], and zero where a query sees no key."""
    inverse = nl.ndarray(sums.shape, dtype=nl.float32, buffer=nl.sbuf)
    count, heads = sums.shape
    if form.mask is None:
        nisa.reciprocal(dst=inverse, data=sums)
        return inverse
    together = 1 if form.mask.per_head else heads
    for first, several in spans(heads, together):
        cover = covers[first]
        assert cover is not None
        nisa.tensor_scalar(
            dst=inverse[0:count, first : first + several],
            data=sums[0:count, first : first + several],
            op0=nl.divide, operand0=1.0, reverse0=True, op1=nl.multiply, operand1=cover.seen,
        )  # fmt: skip
    return inverse


def _weighted_values(
    turned: list[NkiTensor], v_tiles: list[NkiTensor], head: int, width: int
) -> list[tuple[int, NkiTensor]]:
    """``probs @ v`` of one head in PSUM, from transposed probabilities: columns and tiles."""
    count = turned[0].shape[1]
    results = []
    for column, size in spans(width, nl.tile_size.gemm_moving_fmax):
        result = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        place = head * width + column
        for number, (block, values) in enumerate(zip(turned, v_tiles, strict=True)):
            nisa.nc_matmul(
                dst=result, stationary=block,
                moving=values[0 : block.shape[0], place : place + size], accumulate=number > 0,
            )  # fmt: skip
        results.append((column, result))
    return results
