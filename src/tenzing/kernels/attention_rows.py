"""Softmax attention over whole rows of scores, several heads per tile."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.attention_masks import UNSEEN, Form
from tenzing.kernels.attention_operands import load_heads, turned_heads
from tenzing.kernels.tiles import move, spans, transpose_blocks
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

HEADS_IN_FLIGHT = 6  # scores, transposes and products of so many heads share the 8 PSUM banks
SCORES_SHARE = 0.4  # of a partition may hold the scores of the heads in flight
KEYS_SHARE = 0.4  # of a partition may hold keys and values
BYTES_PER_SCORE = 12  # float32 scores, probabilities and their transpose


def attend_rows(out: NkiTensor, q: NkiTensor, k: NkiTensor, v: NkiTensor, form: Form) -> None:
    """Fill ``out`` [batch, queries, heads, width]; operands as those of ``attention``.

    Heads that share a 128-partition block are transposed together, whole rows of scores are kept
    in SBUF, and the division by the row sum is left to the last step.
    """
    batch, queries, heads, _ = q.shape
    keys, kv_heads = v.shape[1:3]
    together = _heads_that_fit(k, v)
    share = heads // kv_heads
    for b in range(batch):
        for first, count in spans(kv_heads, together):
            few = slice(first * share, (first + count) * share)
            _some_heads(
                out[b, 0:queries, few], q[b, 0:queries, few], k[b, 0:keys, first : first + count],
                v[b, 0:keys, first : first + count], form, (b, first * share),
            )  # fmt: skip


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
    k_heads = turned_heads(k, form.dtype)
    v_tiles = [load_heads(v, start, size, form.dtype) for start, size in spans(keys, pmax)]
    room = nl.tile_size.total_available_sbuf_size * SCORES_SHARE
    in_flight = int(max(1, min(HEADS_IN_FLIGHT, room // (keys * BYTES_PER_SCORE))))
    for start, count in spans(queries, pmax):
        low, high = form.band.keys(start, count, keys)
        seen = v_tiles[low // pmax : -(-high // pmax)]
        q_heads = turned_heads(q[start : start + count], form.dtype)
        done = nl.ndarray((count, heads * width), dtype=out.dtype, buffer=nl.sbuf)
        for first, several in spans(heads, in_flight):
            group = range(first, first + several)
            # stage by stage, so that in-order engines work on one head while another waits
            scores = [
                row_scores(q_heads[h], k_heads[h // share], form, (at[0], at[1] + h),
                        (start, low, high))
                for h in group
            ]  # fmt: skip
            lowest = nl.ndarray((count, several), dtype=nl.float32, buffer=nl.sbuf)
            sums = nl.ndarray((count, several), dtype=nl.float32, buffer=nl.sbuf)
            probs = [
                row_probabilities(
                    s, lowest[0:count, n : n + 1], sums[0:count, n : n + 1], form.dtype
                )
                for n, s in enumerate(scores)
            ]
            turned = [transpose_blocks(p, pmax) for p in probs]
            parts = [
                _weighted_values(t, seen, h // share, width)
                for h, t in zip(group, turned, strict=True)
            ]
            factors = inverse_sums(lowest, sums, form)
            for n, (h, columns) in enumerate(zip(group, parts, strict=True)):
                for column, part in columns:
                    place = h * width + column
                    nisa.tensor_scalar(
                        dst=done[0:count, place : place + part.shape[1]],
                        data=part, op0=nl.multiply, operand0=factors[0:count, n : n + 1],
                    )  # fmt: skip
        target = out[start : start + count]
        move(target, done.reshape((count, heads, width)))


def row_scores(
    q_head: list[NkiTensor], k_head: list[NkiTensor], form: Form, head: tuple[int, int],
    where: tuple[int, int, int],
) -> NkiTensor:  # fmt: skip
    """``q kT * scale + mask`` of one head in SBUF: [queries, keys seen]."""
    start, low, high = where
    count = q_head[0].shape[1]
    scores = nl.ndarray((count, high - low), dtype=nl.float32, buffer=nl.sbuf)
    mask = None
    if form.masks is not None:
        mask = form.masks.added(head, (start, start + count), (low, high))
    for at, size in spans(high - low, nl.tile_size.gemm_moving_fmax):
        product = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
        for number, (left, right) in enumerate(zip(q_head, k_head, strict=True)):
            keys = right[0 : right.shape[0], low + at : low + at + size]
            nisa.nc_matmul(dst=product, stationary=left, moving=keys, accumulate=number > 0)
        part = scores[0:count, at : at + size]
        added = None if mask is None else mask[0:count, at : at + size]
        _finish_scores(part, product, added, form)
    if mask is None:
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


def row_probabilities(
    scores: NkiTensor, lowest: NkiTensor, row_sum: NkiTensor, dtype: Any
) -> NkiTensor:
    """Unnormalised ``exp(scores - max)``; fills minus the maximum and the row sum [queries, 1]."""
    nisa.tensor_reduce(dst=lowest, op=nl.maximum, data=scores, axis=1, negate=True)
    probs = nl.ndarray(scores.shape, dtype=dtype, buffer=nl.sbuf)
    nisa.activation(
        dst=probs, op=nl.exp, data=scores, bias=lowest, reduce_op=nl.add, reduce_res=row_sum,
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )  # fmt: skip
    return probs


def inverse_sums(lowest: NkiTensor, sums: NkiTensor, form: Form) -> NkiTensor:
    """One over the row sums [queries, heads], and zero where a query sees no key."""
    inverse = nl.ndarray(sums.shape, dtype=nl.float32, buffer=nl.sbuf)
    if form.masks is None:
        nisa.reciprocal(dst=inverse, data=sums)
    else:
        nisa.scalar_tensor_tensor(
            dst=inverse, data=lowest, op0=nl.less_equal, operand0=-UNSEEN, op1=nl.divide,
            operand1=sums,
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
