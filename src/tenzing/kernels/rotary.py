"""Rotary position embedding of all heads of a token at once."""

from __future__ import annotations

from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

COLUMNS_TOGETHER = 4096  # of all heads: four such tiles are in flight


@jit
def rotary(
    x: NkiTensor, cos: NkiTensor, sin: NkiTensor, heads_first: bool = False,
    interleaved: bool = False,
) -> NkiTensor:  # fmt: skip
    """``x cos + (-second half, first half) sin``: x [batch, length, heads, width].

    cos and sin are [1 or batch, length, width]. With ``heads_first`` the result is [batch, heads,
    length, width]; ``interleaved`` turns neighbours instead of halves. Tokens are partitions, and
    the tables are repeated over the heads by a zero step; the parts of a row are exchanged by where
    they are written, not moved.
    """
    batch, length, heads, width = x.shape
    shape = (batch, heads, length, width) if heads_first else x.shape
    result = nl.ndarray(shape, dtype=x.dtype, buffer=nl.hbm)
    out = result.permute((0, 2, 1, 3)) if heads_first else result
    together = max(1, COLUMNS_TOGETHER // width)
    for b in range(batch):
        table = b if cos.shape[0] > 1 else 0
        for start, count in spans(length, nl.tile_size.pmax):
            cosine, sine = (_table(t[table, start : start + count]) for t in (cos, sin))
            for first, several in spans(heads, together):
                few = slice(first, first + several)
                tile = nl.ndarray((count, several, width), dtype=x.dtype, buffer=nl.sbuf)
                move(tile, x[b, start : start + count, few])
                done = _turned(tile, cosine, sine, interleaved)
                move(out[b, start : start + count, few], done)
    return result


def _table(rows: NkiTensor) -> NkiTensor:
    count, width = rows.shape
    tile = nl.ndarray((count, 1, width), dtype=rows.dtype, buffer=nl.sbuf)
    move(tile, rows)
    return tile


def _turned(tile: NkiTensor, cos: NkiTensor, sin: NkiTensor, interleaved: bool) -> NkiTensor:
    count, heads, width = tile.shape
    straight, crossed = (nl.ndarray(tile.shape, dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
    nisa.tensor_tensor(dst=straight, data1=tile, data2=cos.broadcast(1, heads), op=nl.multiply)
    parts = (slice(0, width // 2), slice(width // 2, width))
    if interleaved:
        parts = (slice(0, width, 2), slice(1, width, 2))
    done = nl.ndarray(tile.shape, dtype=tile.dtype, buffer=nl.sbuf)
    for here, there, op in ((*parts, nl.subtract), (*parts[::-1], nl.add)):
        part = crossed[0:count, 0:heads, here]
        nisa.tensor_tensor(
            dst=part, data1=tile[0:count, 0:heads, there],
            data2=sin[0:count, 0:1, here].broadcast(1, heads), op=nl.multiply,
        )  # fmt: skip
        nisa.tensor_tensor(
            dst=done[0:count, 0:heads, here], data1=straight[0:count, 0:heads, here], data2=part,
            op=op,
        )  # fmt: skip
    return done
