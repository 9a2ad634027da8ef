"""Gradients of softmax attention: scores are computed again, block by block, and never leave SBUF.

With P the probabilities of a row and G the gradient of its result: dV = P^T G, dP = G V^T,
dS = P (dP - sum(P dP)), dQ = scale dS K, dK = scale dS^T Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenzing.kernels.attention_masks import Band, Form, MaskTiles
from tenzing.kernels.attention_operands import load_heads, turned_heads
from tenzing.kernels.attention_rows import inverse_sums, row_probabilities, row_scores
from tenzing.kernels.tiles import copy_from_psum, move, spans, transpose_spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor


@jit
def attention_backward(
    q: NkiTensor,
    k: NkiTensor,
    v: NkiTensor,
    grad: NkiTensor,
    mask: NkiTensor | None = None,
    scale: float = 1.0,
    dtype: Any = None,
    out_dtype: Any = None,
    causal: bool = False,
) -> tuple[NkiTensor, NkiTensor, NkiTensor]:
    """Gradients of q, k and v of ``attention``, each [batch, heads, length, width].

    Operands are those of ``attention``, ``grad`` is the gradient of its result [batch, queries,
    heads, value width]. Query heads that share a key head add to its gradients. ``dtype`` is what
    TensorE multiplies.
    """
    batch, queries, heads, _ = q.shape
    keys, kv_heads = k.shape[1:3]
    results = [
        nl.ndarray((batch, x.shape[2], x.shape[1], x.shape[3]), dtype=out_dtype or q.dtype,
                   buffer=nl.hbm)
        for x in (q, k, v)
    ]  # fmt: skip
    band = Band(causal, 0, 0)
    masks = None
    if mask is not None or band.empties(queries, keys):
        masks = MaskTiles(mask, band, queries)
    form = Form(scale, 0.0, band, masks, dtype or q.dtype)
    share = heads // kv_heads
    for b in range(batch):
        for kv in range(kv_heads):
            few = slice(kv * share, (kv + 1) * share)
            one = slice(kv, kv + 1)
            head = _KeyHead(k[b, 0:keys, one], v[b, 0:keys, one], form)
            for h in range(few.start, few.stop):
                rows = q[b, 0:queries, h : h + 1], grad[b, 0:queries, h : h + 1]
                head.queries(results[0][b, h], rows, (b, h))
            head.store(results[1][b, kv], results[2][b, kv])
    return results[0], results[1], results[2]


@dataclass
class _Block:
    """Up to 128 queries of one head: rows as they lie and turned, and the keys they see."""

    q: NkiTensor  # [queries, dim]
    grad: NkiTensor  # [queries, value width]
    q_turned: list[NkiTensor]  # [part of dim, queries]
    grad_turned: list[NkiTensor]  # [part of value width, queries]
    low: int
    high: int


class _KeyHead:
    """Keys and values of one key head in SBUF, and the sums of their gradients."""

    def __init__(self, k: NkiTensor, v: NkiTensor, form: Form) -> None:
        self.form = form
        self.keys, _, self.dim = k.shape
        self.width = v.shape[2]
        self.spans = list(spans(self.keys, nl.tile_size.pmax))
        self.k_turned = turned_heads(k, form.dtype)[0]
        self.v_turned = turned_heads(v, form.dtype)[0]
        self.k_rows = [load_heads(k, at, size, form.dtype) for at, size in self.spans]
        self.k_sums = [self._zeros(size, self.dim) for _, size in self.spans]
        self.v_sums = [self._zeros(size, self.width) for _, size in self.spans]

    @staticmethod
    def _zeros(rows: int, columns: int) -> NkiTensor:
        tile = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0.0)
        return tile

    def queries(
        self, out: NkiTensor, rows: tuple[NkiTensor, NkiTensor], head: tuple[int, int]
    ) -> None:
        """Add what the queries of one head give; their own gradients go to ``out``."""
        q, grad = rows
        for start, count in spans(q.shape[0], nl.tile_size.pmax):
            few = load_heads(q, start, count, self.form.dtype)
            given = load_heads(grad, start, count, self.form.dtype)
            block = _Block(
                few, given, transpose_spans(few, spans(self.dim, nl.tile_size.pmax)),
                transpose_spans(given, spans(self.width, nl.tile_size.pmax)),
                *self.form.band.keys(start, count, self.keys),
            )  # fmt: skip
            where = (start, block.low, block.high)
            scores = row_scores(block.q_turned, self.k_turned, self.form, head, where)
            probs = self._probabilities(scores)
            slopes = self._slopes(block, probs)
            self._add(block, probs, slopes)
            self._store_queries(out, block, slopes, start)

    def _probabilities(self, scores: NkiTensor) -> NkiTensor:
        """Normalised, in float32; zeros in rows that see no key."""
        count = scores.shape[0]
        lowest, sums = (nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
        probs = row_probabilities(scores, lowest, sums, nl.float32)
        nisa.tensor_scalar(dst=probs, data=probs, op0=nl.multiply,
                           operand0=inverse_sums(lowest, sums, self.form))  # fmt: skip
        return probs

    def _slopes(self, block: _Block, probs: NkiTensor) -> NkiTensor:
        """dS without the scale: P dP - P sum(P dP) [queries, keys seen]."""
        count, seen = probs.shape
        both = nl.ndarray((count, seen), dtype=nl.float32, buffer=nl.sbuf)
        for at, size in spans(seen, nl.tile_size.gemm_moving_fmax):
            product = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum)
            for number, (left, right) in enumerate(
                zip(block.grad_turned, self.v_turned, strict=True)
            ):
                values = right[0 : right.shape[0], block.low + at : block.low + at + size]
                nisa.nc_matmul(dst=product, stationary=left, moving=values, accumulate=number > 0)
            part = slice(at, at + size)
            nisa.tensor_tensor(dst=both[0:count, part], data1=product, data2=probs[0:count, part],
                               op=nl.multiply)  # fmt: skip
        total = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=total, op=nl.add, data=both, axis=1, negate=True)
        slopes = nl.ndarray((count, seen), dtype=self.form.dtype, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(dst=slopes, data=probs, op0=nl.multiply, operand0=total,
                                  op1=nl.add, operand1=both)  # fmt: skip
        return slopes

    def _add(self, block: _Block, probs: NkiTensor, slopes: NkiTensor) -> None:
        """What this block gives to the gradients of the keys and values it sees."""
        count = probs.shape[0]
        weights = nl.ndarray(probs.shape, dtype=self.form.dtype, buffer=nl.sbuf)
        nisa.activation(dst=weights, op=nl.copy, data=probs)
        for left, right, sums in (
            (weights, block.grad, self.v_sums),
            (slopes, block.q, self.k_sums),
        ):
            for number, at, size in self._seen(block):
                for column, part in spans(right.shape[1], nl.tile_size.gemm_moving_fmax):
                    product = nl.ndarray((size, part), dtype=nl.float32, buffer=nl.psum)
                    nisa.nc_matmul(
                        dst=product, stationary=left[0:count, at : at + size],
                        moving=right[0:count, column : column + part], accumulate=False,
                    )  # fmt: skip
                    total = sums[number][0:size, column : column + part]
                    nisa.tensor_tensor(dst=total, data1=total, data2=product, op=nl.add)

    def _seen(self, block: _Block) -> list[tuple[int, int, int]]:
        """Blocks of keys that are seen: number, first column of the scores, keys."""
        return [
            (number, at - block.low, min(size, block.high - at))
            for number, (at, size) in enumerate(self.spans)
            if block.low <= at < block.high
        ]

    def _store_queries(self, out: NkiTensor, block: _Block, slopes: NkiTensor, start: int) -> None:
        count = slopes.shape[0]
        turned = transpose_spans(slopes, [(at, size) for _, at, size in self._seen(block)])
        done = nl.ndarray((count, self.dim), dtype=out.dtype, buffer=nl.sbuf)
        for column, part in spans(self.dim, nl.tile_size.gemm_moving_fmax):
            product = nl.ndarray((count, part), dtype=nl.float32, buffer=nl.psum)
            for order, (left, (number, _, size)) in enumerate(
                zip(turned, self._seen(block), strict=True)
            ):
                keys = self.k_rows[number][0:size, column : column + part]
                nisa.nc_matmul(dst=product, stationary=left, moving=keys, accumulate=order > 0)
            nisa.tensor_scalar(dst=done[0:count, column : column + part], data=product,
                               op0=nl.multiply, operand0=self.form.scale)  # fmt: skip
        move(out[start : start + count], done)

    def store(self, dk: NkiTensor, dv: NkiTensor) -> None:
        """Write the gradients of keys and values [keys, width]."""
        for number, (at, size) in enumerate(self.spans):
            for out, total, factor in (
                (dk, self.k_sums[number], self.form.scale), (dv, self.v_sums[number], 1.0)
            ):  # fmt: skip
                done = nl.ndarray(total.shape, dtype=out.dtype, buffer=nl.sbuf)
                if factor == 1.0:
                    copy_from_psum(done, total, number)
                else:
                    nisa.tensor_scalar(dst=done, data=total, op0=nl.multiply, operand0=factor)
                move(out[at : at + size], done)


__all__ = ["attention_backward"]
