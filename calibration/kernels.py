"""Our own kernels with the structure of those whose device times are published.

Only loop order, tile sizes and what is loaded where follow the published descriptions; they set
the time. Shapes are in each docstring.
"""

from __future__ import annotations

from typing import Any

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.nki import jit

ROWS = 128  # contraction and stationary tile
WIDE = 512  # moving tile


def _load(source: Any, r: int, rows: int, c: int, columns: int) -> Any:
    tile = nl.ndarray((rows, columns), dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source[r : r + rows, c : c + columns])
    return tile


def _drain(out: Any, psum: Any, r: int, c: int) -> None:
    rows, columns = psum.shape
    tile = nl.ndarray((rows, columns), dtype=out.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=tile, src=psum)
    nisa.dma_copy(dst=out[r : r + rows, c : c + columns], src=tile)


@jit
def matmul_inner_loads(a_t: Any, b: Any) -> Any:
    """aT [K, M], b [K, N]: both operand tiles are loaded for every product."""
    depth, m_size = a_t.shape
    n_size = b.shape[1]
    out = nl.ndarray((m_size, n_size), dtype=a_t.dtype, buffer=nl.shared_hbm)
    for m in range(0, m_size, ROWS):
        for n in range(0, n_size, WIDE):
            psum = nl.ndarray((ROWS, WIDE), dtype=nl.float32, buffer=nl.psum)
            for k in range(0, depth, ROWS):
                left = _load(a_t, k, ROWS, m, ROWS)
                right = _load(b, k, ROWS, n, WIDE)
                nisa.nc_matmul(dst=psum, stationary=left, moving=right, accumulate=k > 0)
            _drain(out, psum, m, n)
    return out


@jit
def matmul_hoisted_loads(a_t: Any, b: Any) -> Any:
    """A column of aT tiles is kept per row block, a column of b tiles per output tile."""
    depth, m_size = a_t.shape
    n_size = b.shape[1]
    out = nl.ndarray((m_size, n_size), dtype=a_t.dtype, buffer=nl.shared_hbm)
    for m in range(0, m_size, ROWS):
        lefts = [_load(a_t, k, ROWS, m, ROWS) for k in range(0, depth, ROWS)]
        for n in range(0, n_size, WIDE):
            rights = [_load(b, k, ROWS, n, WIDE) for k in range(0, depth, ROWS)]
            psum = nl.ndarray((ROWS, WIDE), dtype=nl.float32, buffer=nl.psum)
            for k, (left, right) in enumerate(zip(lefts, rights, strict=True)):
                nisa.nc_matmul(dst=psum, stationary=left, moving=right, accumulate=k > 0)
            _drain(out, psum, m, n)
    return out


@jit
def matmul_blocked_mn(a_t: Any, b: Any, blocks_m: int = 2, blocks_n: int = 2) -> Any:
    """Blocks of 2 x 2 output tiles; the columns of b, too large to keep, are loaded for each tile.

    The source shares them within a block; the published traffic is that of loading them again.
    """
    depth, m_size = a_t.shape
    n_size = b.shape[1]
    out = nl.ndarray((m_size, n_size), dtype=a_t.dtype, buffer=nl.shared_hbm)
    for m in range(0, m_size, ROWS * blocks_m):
        for n in range(0, n_size, WIDE * blocks_n):
            for r in range(m, m + ROWS * blocks_m, ROWS):
                lefts = [_load(a_t, k, ROWS, r, ROWS) for k in range(0, depth, ROWS)]
                for c in range(n, n + WIDE * blocks_n, WIDE):
                    psum = nl.ndarray((ROWS, WIDE), dtype=nl.float32, buffer=nl.psum)
                    for k, left in enumerate(lefts):
                        right = _load(b, k * ROWS, ROWS, c, WIDE)
                        nisa.nc_matmul(dst=psum, stationary=left, moving=right, accumulate=k > 0)
                    _drain(out, psum, r, c)
    return out


@jit
def matmul_blocked_mnk(
    a_t: Any, b: Any, blocks_m: int = 16, blocks_n: int = 2, blocks_k: int = 8
) -> Any:
    """Blocks over all three dims; partial sums are kept in SBUF."""
    depth, m_size = a_t.shape
    n_size = b.shape[1]
    out = nl.ndarray((m_size, n_size), dtype=a_t.dtype, buffer=nl.shared_hbm)
    tall, wide, deep = ROWS * blocks_m, WIDE * blocks_n, ROWS * blocks_k
    for n in range(0, n_size, wide):
        sums = {(m, j): _zero(WIDE) for m in range(0, m_size, ROWS) for j in range(blocks_n)}
        for k in range(0, depth, deep):
            rights = [_load(b, k + d * ROWS, ROWS, n, wide) for d in range(blocks_k)]
            for m in range(0, m_size, tall):
                lefts = [_load(a_t, k + d * ROWS, ROWS, m, tall) for d in range(blocks_k)]
                for j in range(blocks_n):
                    for i in range(blocks_m):
                        psum = nl.ndarray((ROWS, WIDE), dtype=nl.float32, buffer=nl.psum)
                        for d in range(blocks_k):
                            nisa.nc_matmul(
                                dst=psum,
                                stationary=lefts[d][0:ROWS, i * ROWS : (i + 1) * ROWS],
                                moving=rights[d][0:ROWS, j * WIDE : (j + 1) * WIDE],
                                accumulate=d > 0,
                            )
                        total = sums[m + i * ROWS, j]
                        nisa.tensor_tensor(dst=total, data1=total, data2=psum, op=nl.add)
        for m in range(0, m_size, ROWS):
            _store_packed(out[m : m + ROWS, n : n + wide], [sums[m, j] for j in range(blocks_n)])
    return out


def _store_packed(out: Any, tiles: list[Any]) -> None:
    """Neighbouring tiles side by side, then one store."""
    packed = nl.ndarray(out.shape, dtype=nl.float32, buffer=nl.sbuf)
    for j, tile in enumerate(tiles):
        nisa.tensor_copy(dst=packed[0:ROWS, j * WIDE : (j + 1) * WIDE], src=tile)
    nisa.dma_copy(dst=out, src=packed)


@jit
def vector_add(a: Any, b: Any, rows: int, columns: int) -> Any:
    """Flat vectors added in tiles ``[rows, columns]``."""
    size = a.shape[0]
    step = rows * columns
    shape = (size // step, rows, columns)
    out = nl.ndarray((size,), dtype=a.dtype, buffer=nl.shared_hbm)
    a3, b3, out3 = a.reshape(shape), b.reshape(shape), out.reshape(shape)
    for k in range(size // step):
        left = nl.ndarray((rows, columns), dtype=a.dtype, buffer=nl.sbuf)
        right = nl.ndarray((rows, columns), dtype=b.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=left, src=a3[k])
        nisa.dma_copy(dst=right, src=b3[k])
        both = nl.ndarray((rows, columns), dtype=a.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=both, data1=left, data2=right, op=nl.add)
        nisa.dma_copy(dst=out3[k], src=both)
    return out


def _broadcast_row(row: Any, ones: Any, target: Any = None) -> Any:
    """A [1, n] tile on all partitions by products with ones: in PSUM when a bank holds it.

    A longer one, or one with a ``target``, is copied out by Scalar, as published profiles show.
    """
    columns = row.shape[1]
    long = columns > WIDE or target is not None
    spread = target
    if spread is None:
        space = nl.sbuf if long else nl.psum
        spread = nl.ndarray((ROWS, columns), dtype=nl.float32, buffer=space)
    for c in range(0, columns, WIDE):
        width = min(WIDE, columns - c)
        part = spread[0:ROWS, c : c + width]
        psum = nl.ndarray((ROWS, width), dtype=nl.float32, buffer=nl.psum) if long else part
        nisa.nc_matmul(
            dst=psum,
            stationary=ones,
            moving=row[0:1, c : c + width],
            is_stationary_onezero=True,
            accumulate=False,
        )
        if long:
            nisa.activation(dst=part, op=nl.copy, data=psum)
    return spread


def _mamba_tile(
    delta_t: Any,
    u_t: Any,
    a_col: Any,
    b_row: Any,
    c_row: Any,
    initial: Any,
    ones: Any,
    drive: Any = None,
) -> tuple[Any, Any]:
    """One state on one [128, n] tile: the scan and its product with C."""
    shape = delta_t.shape

    def tile() -> Any:
        return nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)

    decay, driven, state, product = (tile() for _ in range(4))
    nisa.activation(dst=decay, op=nl.exp, data=delta_t, scale=a_col)
    if drive is None:
        drive = tile()
        nisa.tensor_tensor(dst=drive, data1=delta_t, data2=u_t, op=nl.multiply)
    nisa.tensor_tensor(dst=driven, data1=drive, data2=_broadcast_row(b_row, ones), op=nl.multiply)
    nisa.tensor_tensor_scan(
        dst=state, data0=decay, data1=driven, initial=initial, op0=nl.multiply, op1=nl.add
    )
    nisa.tensor_tensor(dst=product, data1=state, data2=_broadcast_row(c_row, ones), op=nl.multiply)
    return state, product


def _ones() -> Any:
    tile = nl.ndarray((1, ROWS), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=1.0)
    return tile


def _zero(columns: int) -> Any:
    tile = nl.ndarray((ROWS, columns), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=0.0)
    return tile


@jit
def mamba_states_outer(delta: Any, u: Any, a: Any, b: Any, c: Any) -> Any:
    """delta, u [batch, channels, seq], a [channels, states], b, c [batch, states, seq].

    The state loop is outermost: delta and u are loaded again for every state.
    """
    batch, channels, seq = delta.shape
    states = a.shape[1]
    out = nl.ndarray((batch, channels, seq), dtype=delta.dtype, buffer=nl.shared_hbm)
    ones = _ones()
    for n in range(batch):
        sums = [_zero(seq) for _ in range(0, channels, ROWS)]
        for s in range(states):
            for number, ch in enumerate(range(0, channels, ROWS)):
                delta_t = _load(delta[n], ch, ROWS, 0, seq)
                a_col = _load(a, ch, ROWS, s, 1)
                u_t = _load(u[n], ch, ROWS, 0, seq)
                b_row = _load(b[n], s, 1, 0, seq)
                c_row = _load(c[n], s, 1, 0, seq)
                _, product = _mamba_tile(delta_t, u_t, a_col, b_row, c_row, 0.0, ones)
                total = sums[number]
                nisa.tensor_tensor(dst=total, data1=total, data2=product, op=nl.add)
        for number, ch in enumerate(range(0, channels, ROWS)):
            nisa.dma_copy(dst=out[n, ch : ch + ROWS, 0:seq], src=sums[number])
    return out


@jit
def mamba_channels_outer(
    delta: Any, u: Any, a: Any, b: Any, c: Any, tile_seq: int = 0, hoist: bool = False
) -> Any:
    """The channel loop is outermost: delta and u are loaded once.

    ``tile_seq`` cuts the sequence inside the state loop, carrying the scan's state over.
    ``hoist`` computes delta * u once per channel tile instead of once per state.
    """
    batch, channels, seq = delta.shape
    states = a.shape[1]
    step = tile_seq or seq
    out = nl.ndarray((batch, channels, seq), dtype=delta.dtype, buffer=nl.shared_hbm)
    ones = _ones()
    for n in range(batch):
        for ch in range(0, channels, ROWS):
            total = _zero(seq)
            delta_t = _load(delta[n], ch, ROWS, 0, seq)
            u_t = _load(u[n], ch, ROWS, 0, seq)
            drive = None
            if hoist:
                drive = nl.ndarray((ROWS, seq), dtype=nl.float32, buffer=nl.sbuf)
                nisa.tensor_tensor(dst=drive, data1=delta_t, data2=u_t, op=nl.multiply)
            for s in range(states):
                a_col = _load(a, ch, ROWS, s, 1)
                carry: Any = 0.0
                for t in range(0, seq, step):
                    part = slice(t, t + step)
                    b_row = _load(b[n], s, 1, t, step)
                    c_row = _load(c[n], s, 1, t, step)
                    state, product = _mamba_tile(
                        delta_t[0:ROWS, part],
                        u_t[0:ROWS, part],
                        a_col,
                        b_row,
                        c_row,
                        carry,
                        ones,
                        None if drive is None else drive[0:ROWS, part],
                    )
                    if t + step < seq:
                        carry = nl.ndarray((ROWS, 1), dtype=nl.float32, buffer=nl.sbuf)
                        nisa.tensor_copy(dst=carry, src=state[0:ROWS, step - 1 : step])
                    piece = total[0:ROWS, part]
                    nisa.tensor_tensor(dst=piece, data1=piece, data2=product, op=nl.add)
            nisa.dma_copy(dst=out[n, ch : ch + ROWS, 0:seq], src=total)
    return out


@jit
def mamba_long(delta: Any, u: Any, a: Any, b: Any, c: Any, spill: bool = False) -> Any:
    """The channel loop outermost, with one buffer for each tile of a whole long sequence.

    delta is loaded again for every state, delta * u computed once, as published traffic and
    profiles show; with ``spill`` delta * u waits in HBM.
    """
    batch, channels, seq = delta.shape
    out = nl.ndarray((batch, channels, seq), dtype=delta.dtype, buffer=nl.shared_hbm)
    away = nl.ndarray((ROWS, seq), dtype=delta.dtype, buffer=nl.hbm) if spill else None
    ones = _ones()
    for n in range(batch):
        for ch in range(0, channels, ROWS):
            total, drive, state, spread = (_zero(seq) for _ in range(4))
            driven = drive if spill else _zero(seq)
            source = delta[n, ch : ch + ROWS, 0:seq]
            nisa.dma_copy(dst=state, src=source)
            nisa.dma_copy(dst=drive, src=u[n, ch : ch + ROWS, 0:seq])
            nisa.tensor_tensor(dst=drive, data1=state, data2=drive, op=nl.multiply)
            if away is not None:
                nisa.dma_copy(dst=away, src=drive)
            for s in range(a.shape[1]):
                if s:
                    nisa.dma_copy(dst=state, src=source)
                if away is not None:
                    nisa.dma_copy(dst=drive, src=away)
                rows = (b[n, s : s + 1, :], c[n, s : s + 1, :])
                tiles = (state, drive, driven, spread, total)
                _long_state(_load(a, ch, ROWS, s, 1), rows, ones, tiles)
            nisa.dma_copy(dst=out[n, ch : ch + ROWS, 0:seq], src=total)
    return out


def _long_state(a_col: Any, rows: tuple[Any, Any], ones: Any, tiles: tuple[Any, ...]) -> None:
    """One state: delta becomes its decay, its state and its product in place."""
    state, drive, driven, spread, total = tiles
    row = nl.ndarray(rows[0].shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=state, op=nl.exp, data=state, scale=a_col)
    nisa.dma_copy(dst=row, src=rows[0])
    nisa.tensor_tensor(dst=driven, data1=drive, data2=_broadcast_row(row, ones, spread),
                       op=nl.multiply)  # fmt: skip
    nisa.tensor_tensor_scan(
        dst=state, data0=state, data1=driven, initial=0.0, op0=nl.multiply, op1=nl.add
    )
    nisa.dma_copy(dst=row, src=rows[1])
    nisa.tensor_tensor(dst=state, data1=state, data2=_broadcast_row(row, ones, spread),
                       op=nl.multiply)  # fmt: skip
    nisa.tensor_tensor(dst=total, data1=total, data2=state, op=nl.add)
