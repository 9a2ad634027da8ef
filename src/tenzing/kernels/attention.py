"""Softmax attention over whole rows of scores, several heads per tile."""

from __future__ import annotations

from typing import Any

from tenzing.errors import KernelError
from tenzing.kernels.tiles import cast, spans, transpose_blocks
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

HEADS_IN_FLIGHT = 6  # scores, transposes and products of so many heads share the 8 PSUM banks
FAR_BELOW = 3e38  # a masked score: its exponential is zero beside any attended one


@jit
def attention(
    q: NkiTensor,
    k: NkiTensor,
    v: NkiTensor,
    mask: NkiTensor | None = None,
    scale: float = 1.0,
    dtype: Any = None,
) -> NkiTensor:
    """``softmax(q kT * scale + mask) v``: q, k, v [batch, length, heads, dim]; mask [batch, keys].

    A boolean mask is true where a key is attended to; numbers are added to the scores. Heads that
    share a 128-partition block are transposed together, whole rows of scores are kept in SBUF, and
    the division by the row sum is left to the last step. ``dtype`` is what TensorE multiplies.
    """
    batch, queries, heads, dim = q.shape
    keys = k.shape[1]
    pmax = nl.tile_size.pmax
    if dim > pmax:
        raise KernelError(f"attention: head dim {dim}", allowed=f"up to {pmax}")
    dtype = dtype or q.dtype
    out = nl.ndarray((batch, queries, heads, dim), dtype=q.dtype, buffer=nl.hbm)
    for b in range(batch):
        shared = _mask_tile(mask, b, min(queries, pmax)) if mask is not None else None
        k_heads = _turned_heads(k, b, dtype)
        v_tiles = [
            _load_heads(v, b, start, size, dtype) for start, size in spans(keys, pmax)
        ]  # fmt: skip
        for start, count in spans(queries, pmax):
            q_heads = _turned_heads(q, b, dtype, start, count)
            done = nl.ndarray((count, heads * dim), dtype=q.dtype, buffer=nl.sbuf)
            for first, several in spans(heads, HEADS_IN_FLIGHT):
                group = range(first, first + several)
                # stage by stage, so that in-order engines work on one head while another waits
                scores = [_scores(q_heads[h], k_heads[h], shared, scale, keys) for h in group]
                soft = [_probabilities(s, dtype) for s in scores]
                turned = [transpose_blocks(probs, pmax) for probs, _ in soft]
                parts = [
                    _weighted_values(t, v_tiles, h, dim) for h, t in zip(group, turned, strict=True)
                ]
                for h, part, (_, row_sum) in zip(group, parts, soft, strict=True):
                    nisa.tensor_scalar(
                        dst=done[0:count, h * dim : (h + 1) * dim],
                        data=part, op0=nl.multiply, operand0=_inverse(row_sum),
                    )  # fmt: skip
            target = out[b, start : start + count].reshape((count, heads * dim))
            nisa.dma_copy(dst=target, src=done)
    return out


def _mask_tile(mask: NkiTensor, b: int, partitions: int) -> NkiTensor:
    keys = mask.shape[1]
    tile = nl.ndarray((partitions, keys), dtype=mask.dtype, buffer=nl.sbuf)
    row = b if mask.shape[0] > 1 else 0
    nisa.dma_copy(dst=tile, src=mask.ap([[0, partitions], [1, keys]], offset=row * keys))
    if tile.dtype != nl.bool_:
        return tile
    added = nl.ndarray((partitions, keys), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(
        dst=added, data=tile, op0=nl.subtract, operand0=1.0, op1=nl.multiply, operand1=FAR_BELOW
    )
    return added


def _load_heads(x: NkiTensor, b: int, start: int, count: int, dtype: Any) -> NkiTensor:
    """Rows of one sequence, all heads side by side: [count, heads * dim]."""
    heads, dim = x.shape[2], x.shape[3]
    tile = nl.ndarray((count, heads * dim), dtype=x.dtype, buffer=nl.sbuf)
    target = tile.reshape((count, heads, dim))
    nisa.dma_copy(dst=target, src=x[b, start : start + count])
    return cast(tile, dtype)


def _turned_heads(
    x: NkiTensor, b: int, dtype: Any, start: int = 0, count: int | None = None
) -> list[NkiTensor]:
    """For each head a view [dim, length] of the transposed rows."""
    heads, dim = x.shape[2], x.shape[3]
    length = x.shape[1] if count is None else count
    pmax = nl.tile_size.pmax
    together = max(1, min(heads, pmax // dim))
    while dim % 32 and together > 1:  # a head must start on a legal partition
        together = 1
    block = together * dim
    groups = -(-heads // together)
    tiles = [
        nl.ndarray((min(block, (heads - g * together) * dim), length), dtype=dtype, buffer=nl.sbuf)
        for g in range(groups)
    ]
    for at, size in spans(length, pmax):
        rows = _load_heads(x, b, start + at, size, dtype)
        for tile, part in zip(tiles, transpose_blocks(rows, block), strict=True):
            if length == size:
                tiles[tiles.index(tile)] = part
            else:
                nisa.tensor_copy(dst=tile[0 : tile.shape[0], at : at + size], src=part)
    return [
        tiles[h // together][(h % together) * dim : (h % together + 1) * dim, 0:length]
        for h in range(heads)
    ]


def _scores(
    q_head: NkiTensor, k_head: NkiTensor, mask: NkiTensor | None, scale: float, keys: int
) -> NkiTensor:
    """``q kT * scale + mask`` of one head in SBUF: [queries, keys]."""
    count = q_head.shape[1]
    scores = nl.ndarray((count, keys), dtype=nl.float32, buffer=nl.sbuf)
    for at, size in spans(keys, nl.tile_size.gemm_moving_fmax):
        product = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(
            dst=product, stationary=q_head, moving=k_head[0 : k_head.shape[0], at : at + size]
        )
        part = scores[0:count, at : at + size]
        if mask is None:
            nisa.tensor_scalar(dst=part, data=product, op0=nl.multiply, operand0=scale)
        else:
            nisa.scalar_tensor_tensor(
                dst=part, data=product, op0=nl.multiply, operand0=scale,
                op1=nl.add, operand1=mask[0:count, at : at + size],
            )  # fmt: skip
    return scores


def _probabilities(scores: NkiTensor, dtype: Any) -> tuple[NkiTensor, NkiTensor]:
    """Unnormalised ``exp(scores - max)`` [queries, keys] and its row sums [queries, 1]."""
    count, keys = scores.shape
    lowest = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=lowest, op=nl.maximum, data=scores, axis=1, negate=True)
    probs = nl.ndarray((count, keys), dtype=dtype, buffer=nl.sbuf)
    row_sum = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(
        dst=probs, op=nl.exp, data=scores, bias=lowest, reduce_op=nl.add, reduce_res=row_sum,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )  # fmt: skip
    return probs, row_sum


def _inverse(row_sum: NkiTensor) -> NkiTensor:
    inverse = nl.ndarray(row_sum.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.reciprocal(dst=inverse, data=row_sum)
    return inverse


def _weighted_values(
    turned: list[NkiTensor], v_tiles: list[NkiTensor], head: int, dim: int
) -> NkiTensor:
    """``probs @ v`` of one head in PSUM [queries, dim], from transposed probabilities."""
    count = turned[0].shape[1]
    result = nl.ndarray((count, dim), dtype=nl.float32, buffer=nl.psum)
    for number, (block, values) in enumerate(zip(turned, v_tiles, strict=True)):
        nisa.nc_matmul(
            dst=result, stationary=block,
            moving=values[0 : values.shape[0], head * dim : (head + 1) * dim],
            accumulate=number > 0,
        )  # fmt: skip
    return result
