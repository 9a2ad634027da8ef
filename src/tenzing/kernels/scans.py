"""Running sums, products and extremes along rows."""

from __future__ import annotations

from typing import Any, Final

from tenzing.kernels.tiles import move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

BLOCK_COLUMNS: Final = 4096
START: Final = {"add": 0.0, "multiply": 1.0, "maximum": float("-inf"), "minimum": float("inf")}
STEP: Final = {"add": nl.add, "multiply": nl.multiply, "maximum": nl.maximum,
               "minimum": nl.minimum}  # fmt: skip


@jit
def cumulative(x: NkiTensor, kind: str, out_dtype: Any = None) -> NkiTensor:
    """``out[r, i] = x[r, 0] <kind> ... <kind> x[r, i]``: x [rows, columns].

    ``kind`` is add, multiply, maximum or minimum; the running value is float32.
    """
    rows, columns = x.shape
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    for start, count in spans(rows, nl.tile_size.pmax):
        # adding zero leaves sums and products; an extreme of x twice is that of x once
        zero = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=zero, value=0)
        carried: Any = START[kind]
        for at, width in spans(columns, BLOCK_COLUMNS):
            window = (slice(start, start + count), slice(at, at + width))
            tile = nl.ndarray((count, width), dtype=x.dtype, buffer=nl.sbuf)
            move(tile, x[window])
            running = nl.ndarray((count, width), dtype=nl.float32, buffer=nl.sbuf)
            plain = kind in ("add", "multiply")
            nisa.tensor_tensor_scan(
                dst=running, data0=tile, data1=zero.broadcast(1, width) if plain else tile,
                initial=carried, op0=STEP[kind], op1=nl.add if plain else STEP[kind],
            )  # fmt: skip
            carried = running[0:count, width - 1 : width]
            done = running
            if out.dtype != running.dtype:
                done = nl.ndarray((count, width), dtype=out.dtype, buffer=nl.sbuf)
                nisa.tensor_copy(dst=done, src=running)
            move(out[window], done)
    return out


__all__ = ["cumulative"]
