"""State-space recurrences: channels on partitions, time along the free dim."""

from __future__ import annotations

from typing import Final

from tenzing.kernels.tiles import cast, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

TIME_CHUNK: Final = 2048  # steps at a time: three float32 tiles of 8 KiB per partition


@jit
def linear_scan(a: NkiTensor, b: NkiTensor, start: NkiTensor) -> NkiTensor:
    """``h[t] = a[t] * h[t - 1] + b[t]`` for every row: a, b [rows, steps], start [rows, 1].

    The running value stays float32 whatever the dtypes are.
    """
    rows, steps = a.shape
    out = nl.ndarray((rows, steps), dtype=a.dtype, buffer=nl.hbm)
    for row, count in spans(rows, nl.tile_size.pmax):
        here = slice(row, row + count)
        first = nl.ndarray((count, 1), dtype=start.dtype, buffer=nl.sbuf)
        move(first, start[here, 0:1])
        state = cast(first, nl.float32)
        for at, size in spans(steps, TIME_CHUNK):
            now = slice(at, at + size)
            factors = nl.ndarray((count, size), dtype=a.dtype, buffer=nl.sbuf)
            move(factors, a[here, now])
            added = nl.ndarray((count, size), dtype=b.dtype, buffer=nl.sbuf)
            move(added, b[here, now])
            states = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_tensor_scan(
                dst=states, data0=factors, data1=added, initial=state, op0=nl.multiply, op1=nl.add
            )
            state = states[0:count, size - 1 : size]
            move(out[here, now], cast(states, out.dtype))
    return out


__all__ = ["linear_scan"]
