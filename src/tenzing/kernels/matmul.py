"""Matrix products: ``linear`` with bias, activation and residual in the epilogue."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.tiles import (
    copy_from_psum,
    load_row_broadcast,
    load_rows,
    spans,
    transpose_blocks,
)
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

WEIGHT_SHARE = 0.5  # of a partition may hold weights; the rest is for activations


@jit
def linear(
    x: NkiTensor,
    w: NkiTensor,
    bias: NkiTensor | None = None,
    op: Any = None,
    residual: NkiTensor | None = None,
    out_dtype: Any = None,
) -> NkiTensor:
    """``op(x @ w + bias) + residual``: x [rows, k], w [k, n], bias [n], residual [rows, n].

    The product runs in the dtype of ``w``; ``x`` is cast on chip. Weights of a column block stay
    in SBUF while the rows stream through.
    """
    rows, depth = x.shape
    columns = w.shape[1]
    out = nl.ndarray((rows, columns), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    pmax = nl.tile_size.pmax
    block = _column_block(depth, w)
    for column, width in spans(columns, block):
        weights = [
            _load_block(w, k, size, column, width) for k, size in spans(depth, pmax)
        ]  # fmt: skip
        bias_tile = None
        if bias is not None:
            bias_tile = load_row_broadcast(bias, column, width, min(rows, pmax))
        for start, count in spans(rows, pmax):
            turned = transpose_blocks(load_rows(x, start, count, w.dtype), pmax)
            done = nl.ndarray((count, width), dtype=out.dtype, buffer=nl.sbuf)
            for number, (at, size) in enumerate(spans(width, nl.tile_size.gemm_moving_fmax)):
                product = _product(turned, weights, at, size)
                part = done[0:count, at : at + size]
                shift = None if bias_tile is None else bias_tile[0:count, at : at + size]
                _epilogue(part, product, shift, op, number)
            if residual is not None:
                extra = nl.ndarray((count, width), dtype=residual.dtype, buffer=nl.sbuf)
                nisa.dma_copy(
                    dst=extra,
                    src=residual[start : start + count, column : column + width],
                )
                nisa.tensor_tensor(dst=done, data1=done, data2=extra, op=nl.add)
            nisa.dma_copy(dst=out[start : start + count, column : column + width], src=done)
    return out


def _column_block(depth: int, w: NkiTensor) -> int:
    """Columns whose weights fit the share of a partition, in whole matmul tiles."""
    from_depth = -(-depth // nl.tile_size.pmax) * w.dtype.itemsize
    fit = int(nl.tile_size.total_available_sbuf_size * WEIGHT_SHARE) // from_depth
    step = int(nl.tile_size.gemm_moving_fmax)
    return int(min(w.shape[1], max(fit // step, 1) * step))


def _load_block(w: NkiTensor, k: int, size: int, column: int, width: int) -> NkiTensor:
    tile = nl.ndarray((size, width), dtype=w.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=w[k : k + size, column : column + width])
    return tile


def _product(turned: list[NkiTensor], right: list[NkiTensor], at: int, size: int) -> NkiTensor:
    """Columns ``at`` to ``at + size`` of the product, summed over the k blocks in PSUM."""
    product = nl.ndarray((turned[0].shape[1], size), dtype=nl.float32, buffer=nl.psum)
    for k, (stationary, block) in enumerate(zip(turned, right, strict=True)):
        nisa.nc_matmul(
            dst=product,
            stationary=stationary,
            moving=block[0 : block.shape[0], at : at + size],
            accumulate=k > 0,
        )
    return product


def _epilogue(
    dst: NkiTensor, product: NkiTensor, shift: NkiTensor | None, op: Any, turn: int
) -> None:
    """Bias and activation on the way from PSUM to SBUF."""
    if shift is None and op is None:
        copy_from_psum(dst, product, turn)
    elif shift is None:
        nisa.activation(dst=dst, op=op, data=product)
    elif op is None:
        nisa.tensor_tensor(dst=dst, data1=product, data2=shift, op=nl.add)
    else:
        moved = nl.ndarray(product.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=moved, data1=product, data2=shift, op=nl.add)
        nisa.activation(dst=dst, op=op, data=moved)


@jit
def batched_matmul(
    a: NkiTensor, b: NkiTensor, transpose_b: bool = False, out_dtype: Any = None
) -> NkiTensor:
    """``a @ b`` for every leading index: a [batch, m, k], b [batch, k, n] (or [batch, n, k])."""
    batch, m = a.shape[:2]
    n = b.shape[1] if transpose_b else b.shape[2]
    out = nl.ndarray((batch, m, n), dtype=out_dtype or a.dtype, buffer=nl.hbm)
    pmax = nl.tile_size.pmax
    for number in range(batch):
        moving = _right_operand(b[number], transpose_b, a.dtype)
        for start, count in spans(m, pmax):
            turned = transpose_blocks(load_rows(a[number], start, count), pmax)
            done = nl.ndarray((count, n), dtype=out.dtype, buffer=nl.sbuf)
            for turn, (at, size) in enumerate(spans(n, nl.tile_size.gemm_moving_fmax)):
                product = _product(turned, moving, at, size)
                copy_from_psum(done[0:count, at : at + size], product, turn)
            nisa.dma_copy(dst=out[number, start : start + count, 0:n], src=done)
    return out


def _right_operand(b: NkiTensor, transposed: bool, dtype: Any) -> list[NkiTensor]:
    """Tiles ``[k block, n]`` of the right matrix."""
    pmax = nl.tile_size.pmax
    if not transposed:
        return [load_rows(b, k, size, dtype) for k, size in spans(b.shape[0], pmax)]
    n = b.shape[0]
    whole = [
        nl.ndarray((size, n), dtype=dtype, buffer=nl.sbuf) for _, size in spans(b.shape[1], pmax)
    ]
    for start, count in spans(n, pmax):
        for tile, part in zip(
            whole, transpose_blocks(load_rows(b, start, count, dtype), pmax), strict=True
        ):
            nisa.tensor_copy(dst=tile[0 : tile.shape[0], start : start + count], src=part)
    return whole


__all__ = ["batched_matmul", "linear"]
