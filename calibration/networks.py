"""Convolution, multi-layer perceptron and mixture-of-experts kernels of published timings."""

from __future__ import annotations

import itertools
from typing import Any

import tenzing.nki.isa as nisa
import tenzing.nki.language as nl
from tenzing.nki import jit

ROWS = 128
WIDE = 512
POOL = 2


def _psum(shape: tuple[int, ...]) -> Any:
    return nl.ndarray(shape, dtype=nl.float32, buffer=nl.psum)


# -- convolution -------------------------------------------------------------------------------


@jit
def conv2d(x: Any, w: Any, bias: Any, pool: bool = False, band: int = 8, rows: int = 2) -> Any:
    """x [N, C, H, W], w [O, C, kh, kw], bias [O]; every tap a product of ``rows`` output rows.

    The weights are transposed once on Tensor and written back in place, so that a tap is a strided
    tile; bands of input rows are loaded while the band before is multiplied. With ``pool`` the
    maximum of 2 x 2 outputs is stored.
    """
    batch, channels, height, width = x.shape
    outputs, _, taps_h, taps_w = w.shape
    out_h, out_w = height - taps_h + 1, width - taps_w + 1
    factor = POOL if pool else 1
    shape = (batch, outputs, out_h // factor, out_w // factor)
    out = nl.ndarray(shape, dtype=x.dtype, buffer=nl.shared_hbm)
    weights = _turned_weights(w)
    offsets = _bias_columns(bias)
    lines = max(1, min(out_h, WIDE // out_w, rows))
    for n in range(batch):
        for top in range(0, out_h, band):
            tall = min(band, out_h - top)
            inputs = [
                _input_band(x[n], c, top, tall + taps_h - 1) for c in range(0, channels, ROWS)
            ]
            for o in range(0, outputs, ROWS):
                result = nl.ndarray((ROWS, tall, out_w), dtype=x.dtype, buffer=nl.sbuf)
                for r in range(0, tall, lines):
                    part = _taps(inputs, weights[o // ROWS], (r, min(lines, tall - r)), out_w)
                    nisa.tensor_scalar(
                        dst=result[:, r : r + lines, :], data=part, op0=nl.add,
                        operand0=offsets[o // ROWS],
                    )  # fmt: skip
                target = out[n, o : o + ROWS, top // factor : (top + tall) // factor, :]
                nisa.dma_copy(dst=target, src=_pooled(result) if pool else result)
    return out


def _turned_weights(w: Any) -> list[Any]:
    """By tile of outputs: [C, O, C tile, kh, kw], loaded as [O, C, ...] and turned in place."""
    outputs, channels, taps_h, taps_w = w.shape
    found = []
    for o in range(0, outputs, ROWS):
        shape = (ROWS, ROWS, channels // ROWS, taps_h, taps_w)
        tile = nl.ndarray(shape, dtype=w.dtype, buffer=nl.sbuf)
        for c in range(channels // ROWS):
            source = w[o : o + ROWS, c * ROWS : (c + 1) * ROWS, :, :]
            nisa.dma_copy(dst=tile[:, :, c, :, :], src=source)
            for i in range(taps_h):
                for j in range(taps_w):
                    psum = nl.ndarray((ROWS, ROWS), dtype=w.dtype, buffer=nl.psum)
                    nisa.nc_transpose(dst=psum, data=tile[:, :, c, i, j])
                    nisa.tensor_copy(dst=tile[:, :, c, i, j], src=psum)
        found.append(tile)
    return found


def _bias_columns(bias: Any) -> list[Any]:
    columns = []
    for o in range(0, bias.shape[0], ROWS):
        given = nl.ndarray((ROWS, 1), dtype=bias.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=given, src=bias[o : o + ROWS].reshape((ROWS, 1)))
        column = nl.ndarray((ROWS, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=column, src=given)
        columns.append(column)
    return columns


def _input_band(image: Any, channel: int, top: int, rows: int) -> Any:
    tile = nl.ndarray((ROWS, rows, image.shape[2]), dtype=image.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=image[channel : channel + ROWS, top : top + rows, :])
    return tile


def _taps(inputs: list[Any], weights: Any, rows: tuple[int, int], out_w: int) -> Any:
    """The sum over channels and taps of output rows ``rows`` (first, count)."""
    first, count = rows
    psum = _psum((ROWS, count, out_w))
    _, _, tiles, taps_h, taps_w = weights.shape
    places = itertools.product(range(tiles), range(taps_h), range(taps_w))
    for number, (c, i, j) in enumerate(places):
        moving = inputs[c][:, first + i : first + i + count, j : j + out_w]
        nisa.nc_matmul(dst=psum, stationary=weights[:, :, c, i, j], moving=moving,
                       accumulate=number > 0)  # fmt: skip
    return psum


def _pooled(result: Any) -> Any:
    rows, columns = result.shape[1], result.shape[2]
    narrow = nl.ndarray((ROWS, rows, columns // POOL), dtype=result.dtype, buffer=nl.sbuf)
    pairs = result.reshape((ROWS, rows * columns // POOL, POOL))
    nisa.tensor_reduce(
        dst=narrow.reshape((ROWS, rows * columns // POOL)), op=nl.maximum, data=pairs, axis=(2,)
    )
    small = nl.ndarray((ROWS, rows // POOL, columns // POOL), dtype=result.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(
        dst=small, data1=narrow[:, 0:rows:POOL, :], data2=narrow[:, 1:rows:POOL, :], op=nl.maximum
    )
    return small


# -- perceptron --------------------------------------------------------------------------------


@jit
def perceptron(x_t: Any, w1: Any, w2: Any, w3: Any) -> Any:
    """x [width, batch] through three matrices [in, out]; every result is the next one's input."""
    for w in (w1, w2, w3):
        out = nl.ndarray((w.shape[1], x_t.shape[1]), dtype=x_t.dtype, buffer=nl.shared_hbm)
        _layer(out, w, x_t)
        x_t = out
    return x_t


def _layer(out: Any, w: Any, x_t: Any) -> None:
    depth, batch = x_t.shape
    for n in range(0, batch, WIDE):
        rights = [_load(x_t, k, n, WIDE) for k in range(0, depth, ROWS)]
        for m in range(0, w.shape[1], WIDE):
            lefts = [_load(w, k, m, WIDE) for k in range(0, depth, ROWS)]
            for i in range(0, WIDE, ROWS):
                psum = _psum((ROWS, WIDE))
                for k, (left, right) in enumerate(zip(lefts, rights, strict=True)):
                    nisa.nc_matmul(
                        dst=psum, stationary=left[:, i : i + ROWS], moving=right, accumulate=k > 0
                    )
                tile = nl.ndarray((ROWS, WIDE), dtype=out.dtype, buffer=nl.sbuf)
                nisa.tensor_copy(dst=tile, src=psum)
                nisa.dma_copy(dst=out[m + i : m + i + ROWS, n : n + WIDE], src=tile)


def _load(source: Any, r: int, c: int, columns: int) -> Any:
    tile = nl.ndarray((ROWS, columns), dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source[r : r + ROWS, c : c + columns])
    return tile


# -- experts -----------------------------------------------------------------------------------


def _dequantised(tile: Any, scale: Any, engines: str, number: int) -> Any:
    """fp8 times a scale as bfloat16, on Vector or Scalar in turn."""
    result = nl.ndarray(tile.shape, dtype=nl.bfloat16, buffer=nl.sbuf)
    if engines[number % len(engines)] == "s":
        nisa.activation(dst=result, op=nl.copy, data=tile, scale=scale)
    else:
        nisa.tensor_scalar(dst=result, data=tile, op0=nl.multiply, operand0=scale)
    return result


@jit
def expert_pass(x_t: Any, gate_up: Any, down: Any, engines: str = "vs") -> Any:
    """One expert on x [H, lanes]: gate and up [H / 128, 128, 2 I] fp8, down [I / 128, 128, H] fp8.

    The weights are dequantised to bfloat16 and moved; activations are stationary.
    """
    depth, lanes = x_t.shape
    inner = gate_up.shape[2] // 2
    out = nl.ndarray((lanes, down.shape[2]), dtype=nl.float32, buffer=nl.shared_hbm)
    one = nl.ndarray((ROWS, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=one, value=1.0)
    xs = [_load(x_t, k, 0, lanes) for k in range(0, depth, ROWS)]
    gated = nl.ndarray((lanes, inner), dtype=nl.float32, buffer=nl.sbuf)
    sums = _moved_weights(xs, gate_up, one, engines)
    for c in range(0, inner, WIDE):
        part = slice(c, c + WIDE)
        nisa.activation(dst=gated[:, part], op=nl.silu, data=sums[:, part])
        nisa.tensor_tensor(
            dst=gated[:, part], data1=gated[:, part], data2=sums[:, inner + c : inner + c + WIDE],
            op=nl.multiply,
        )  # fmt: skip
    hidden = _turned_hidden(gated)
    nisa.dma_copy(dst=out, src=_moved_weights(hidden, down, one, engines))
    return out


def _turned_hidden(gated: Any) -> list[Any]:
    lanes, inner = gated.shape
    hidden = []
    for k in range(0, inner, ROWS):
        psum = _psum((ROWS, lanes))
        nisa.nc_transpose(dst=psum, data=gated[:, k : k + ROWS])
        tile = nl.ndarray((ROWS, lanes), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.tensor_copy(dst=tile, src=psum)
        hidden.append(tile)
    return hidden


def _moved_weights(xs: list[Any], w: Any, one: Any, engines: str) -> Any:
    """x times w [K / 128, 128, N]: loads, dequantises and multiplies 2048 columns at a time."""
    lanes, columns = xs[0].shape[1], w.shape[2]
    result = nl.ndarray((lanes, columns), dtype=nl.float32, buffer=nl.sbuf)
    wide = 4 * WIDE
    for c in range(0, columns, wide):
        sums = [_psum((lanes, WIDE)) for _ in range(4)]
        for k, x in enumerate(xs):
            tile = nl.ndarray((ROWS, wide), dtype=w.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=w[k][:, c : c + wide])
            for number, psum in enumerate(sums):
                piece = tile[:, number * WIDE : (number + 1) * WIDE]
                ready = _dequantised(piece, one, engines, number)
                nisa.nc_matmul(dst=psum, stationary=x, moving=ready, accumulate=k > 0)
        for number, psum in enumerate(sums):
            part = slice(c + number * WIDE, c + (number + 1) * WIDE)
            nisa.activation(dst=result[:, part], op=nl.copy, data=psum)
    return result


@jit
def expert_pairs(x_t: Any, blobs: Any) -> Any:
    """Token by expert: x [H / 128, 128, pairs], blobs [pairs, 128, bytes] of fp8.

    A blob holds gate and up [128, H / 128, 128], down [64 of 128, H] and scales. Its load has an
    address that is known at run time only, so GpSimd writes the descriptors.
    """
    blocks, _, pairs = x_t.shape
    inner = ROWS // 2
    out = nl.ndarray((pairs, ROWS, blocks), dtype=nl.float32, buffer=nl.shared_hbm)
    one = nl.ndarray((ROWS, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=one, value=1.0)
    x = nl.ndarray((ROWS, blocks, pairs), dtype=x_t.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=x, src=x_t.permute((1, 0, 2)))
    for pair in range(pairs):
        blob = nl.ndarray((ROWS, blobs.shape[2]), dtype=blobs.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=blob, src=blobs[pair], dge_mode=nisa.dge_mode.swdge)
        weights = [
            _dequantised(blob[:, c : c + WIDE], one, "vs", number)
            for number, c in enumerate(range(0, (blocks + blocks // 2) * ROWS, WIDE))
        ]

        def block(number: int, weights: list[Any] = weights) -> Any:
            column = number * ROWS % WIDE
            return weights[number * ROWS // WIDE][:, column : column + ROWS]

        both = _psum((ROWS, 1))
        for k in range(blocks):
            nisa.nc_matmul(
                dst=both, stationary=block(k), moving=x[:, k, pair : pair + 1], accumulate=k > 0
            )
        hidden = nl.ndarray((ROWS, 1), dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.activation(dst=hidden, op=nl.silu, data=both)
        result = _psum((ROWS, blocks))
        for k in range(blocks):
            part = block(blocks + k // 2)
            nisa.nc_matmul(
                dst=result[:, k : k + 1], stationary=part[0:inner, :], moving=hidden[0:inner, :],
                accumulate=False,
            )  # fmt: skip
        ready = nl.ndarray((ROWS, blocks), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=ready, src=result)
        nisa.dma_copy(dst=out[pair], src=ready)
    return out
