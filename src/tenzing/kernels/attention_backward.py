"""Gradients of softmax attention: scores are computed again, block by block, and never leave SBUF.

With P the probabilities of a row and G the gradient of its result: dV = P^T G, dP = G V^T,
dS = P (dP - sum(P dP)), dQ = scale dS K, dK = scale dS^T Q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenzing.kernels.attention_masks import Band, Form, MaskTiles
from tenzing.kernels.attention_operands import load_heads, turned_heads
from tenzing.kernels.attention_rows import inverse_sums, row_probabilities, row_scores
from tenzing.kernels.tiles import copy_from_psum, move, spans, transpose_spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

MOST_TOGETHER: Final = 4  # blocks of queries whose sums meet in PSUM
WIDE_ROWS: Final = 3  # of float32, as long as the keys: scores, probabilities, their slopes
SPARE: Final = 0.9  # of SBUF: the rest is for blocks of 128 columns


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
    probs: NkiTensor | None = None  # [queries, keys seen], as TensorE multiplies them
    slopes: NkiTensor | None = None

    def seen(self, at: int, size: int) -> int:
        """How many of the ``size`` keys from ``at`` on some query sees."""
        return min(size, self.high - at) if self.low <= at < self.high else 0


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
        blocks = list(spans(rows[0].shape[0], nl.tile_size.pmax))
        together = self._together()
        for first in range(0, len(blocks), together):
            self._add([self._block(out, rows, head, start, count)
                       for start, count in blocks[first : first + together]])  # fmt: skip

    def _together(self) -> int:
        """Blocks of queries whose factors fit into SBUF beside keys, values and their sums."""
        itemsize = self.form.dtype.itemsize
        tiles = len(self.spans) * (self.dim + self.width)
        held = [x.shape[1] for x in (*self.k_turned, *self.v_turned)]
        fixed = (sum(held) + len(self.spans) * self.dim) * itemsize
        fixed += (tiles + WIDE_ROWS * self.keys) * nl.float32.itemsize
        room = SPARE * nl.tile_size.total_available_sbuf_size - fixed
        return max(min(int(room // (2 * self.keys * itemsize)), MOST_TOGETHER), 1)

    def _block(
        self, out: NkiTensor, rows: tuple[NkiTensor, NkiTensor], head: tuple[int, int],
        start: int, count: int,
    ) -> _Block:  # fmt: skip
        """One block of queries: its gradient is stored, its factors of the others' are kept."""
        few, given = (load_heads(x, start, count, self.form.dtype) for x in rows)
        block = _Block(
            few, given, transpose_spans(few, spans(self.dim, nl.tile_size.pmax)),
            transpose_spans(given, spans(self.width, nl.tile_size.pmax)),
            *self.form.band.keys(start, count, self.keys),
        )  # fmt: skip
        where = (start, block.low, block.high)
        scores = row_scores(block.q_turned, self.k_turned, self.form, head, where)
        probs = self._probabilities(scores)
        block.slopes = self._slopes(block, probs)
        block.probs = nl.ndarray(probs.shape, dtype=self.form.dtype, buffer=nl.sbuf)
        nisa.activation(dst=block.probs, op=nl.copy, data=probs)
        self._store_queries(out, block, block.slopes, start)
        return block

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

    def _add(self, blocks: Sequence[_Block]) -> None:
        """What these blocks give to the gradients of the keys and values they see."""
        for number, (at, most) in enumerate(self.spans):
            seeing = sorted((b for b in blocks if b.seen(at, most)),
                            key=lambda b: -b.seen(at, most))  # fmt: skip
            if seeing:
                self._sum([(b.probs, b.grad, b) for b in seeing], self.v_sums[number], at, most)
                self._sum([(b.slopes, b.q, b) for b in seeing], self.k_sums[number], at, most)

    @staticmethod
    def _sum(
        factors: Sequence[tuple[NkiTensor | None, NkiTensor, _Block]], total: NkiTensor, at: int,
        most: int,
    ) -> None:  # fmt: skip
        """Add products to ``total``; the first sees the most of these keys."""
        size = factors[0][2].seen(at, most)
        for column, part in spans(total.shape[1], nl.tile_size.gemm_moving_fmax):
            product = nl.ndarray((size, part), dtype=nl.float32, buffer=nl.psum)
            for order, (left, right, block) in enumerate(factors):
                assert left is not None
                few, count = block.seen(at, most), left.shape[0]
                first = at - block.low
                nisa.nc_matmul(
                    dst=product[0:few, 0:part], stationary=left[0:count, first : first + few],
                    moving=right[0:count, column : column + part], accumulate=order > 0,
                )  # fmt: skip
            sums = total[0:size, column : column + part]
            nisa.tensor_tensor(dst=sums, data1=sums, data2=product, op=nl.add)

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
