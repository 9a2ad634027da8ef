"""Gradients of layer norms and RMS norms: rows on partitions, sums over rows on TensorE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tenzing.kernels.tiles import load_row_broadcast, move, spans
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

COLUMNS_MAX: Final = 1024  # of one block of columns: about eight float32 tiles of it are alive


@jit
def norm_backward(
    grad: NkiTensor,
    x: NkiTensor,
    mean: NkiTensor | None,
    rstd: NkiTensor,
    gamma: NkiTensor | None = None,
    biased: bool = False,
    residual: NkiTensor | None = None,
) -> tuple[NkiTensor, ...]:
    """Gradients of x [rows, columns], then of gamma and (``biased``) beta [columns].

    ``mean`` [rows] and ``rstd`` [rows] are what the forward form kept; without a mean it is an RMS
    norm. ``residual`` is added to the gradient of x. Rows wider than a block pass by twice: for
    their sums, then for the gradient.
    """
    rows, columns = x.shape
    pmax = nl.tile_size.pmax
    out = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.hbm)
    blocks = list(spans(columns, COLUMNS_MAX))
    high = min(rows, pmax)
    scales = [None if gamma is None else load_row_broadcast(gamma, at, n, high) for at, n in blocks]
    totals = [_Totals.zero(high, n, gamma is not None, biased) for _, n in blocks]
    for start, count in spans(rows, pmax):
        block = _Rows(grad, x, mean, rstd, start, count)
        kept = []
        for (at, width), scale, total in zip(blocks, scales, totals, strict=True):
            normal, weighed = block.sums(at, width, scale, total)
            kept.append((normal, weighed))
        if len(blocks) > 1:
            kept = []
        factors = block.factors(columns)
        for number, (at, width) in enumerate(blocks):
            normal, weighed = kept[number] if kept else block.again(at, width, scales[number])
            place = slice(start, start + count), slice(at, at + width)
            extra = None if residual is None else residual[place]
            move(out[place], block.gradient(normal, weighed, factors, extra, out.dtype))
    return (out, *_vectors(x, blocks, totals, gamma is not None, biased))


@dataclass
class _Totals:
    """Running sums per column, still one row per partition."""

    weight: NkiTensor | None
    bias: NkiTensor | None

    @classmethod
    def zero(cls, rows: int, width: int, weighted: bool, biased: bool) -> _Totals:
        tiles: list[NkiTensor | None] = []
        for wanted in (weighted, biased):
            tile = nl.ndarray((rows, width), dtype=nl.float32, buffer=nl.sbuf) if wanted else None
            if tile is not None:
                nisa.memset(dst=tile, value=0.0)
            tiles.append(tile)
        return cls(*tiles)


class _Rows:
    """Up to 128 rows: their statistics, and running sums of what their gradient takes off."""

    def __init__(
        self, grad: NkiTensor, x: NkiTensor, mean: NkiTensor | None, rstd: NkiTensor,
        start: int, count: int,
    ) -> None:  # fmt: skip
        self.grad, self.x, self.start, self.count = grad, x, start, count
        self.mean = None if mean is None else self._numbers(mean)
        self.rstd = self._numbers(rstd)
        self.centred = mean is not None
        self.dots: NkiTensor | None = None  # sum of weighed * normal
        self.plain: NkiTensor | None = None  # sum of weighed

    def _numbers(self, row: NkiTensor) -> NkiTensor:
        tile = nl.ndarray((self.count, 1), dtype=row.dtype, buffer=nl.sbuf)
        move(tile, row.ap([[1, self.count], [1, 1]], offset=self.start))
        return tile

    def _tile(self, width: int) -> NkiTensor:
        return nl.ndarray((self.count, width), dtype=nl.float32, buffer=nl.sbuf)

    def _load(self, source: NkiTensor, at: int, width: int) -> NkiTensor:
        tile = nl.ndarray((self.count, width), dtype=source.dtype, buffer=nl.sbuf)
        move(tile, source[self.start : self.start + self.count, at : at + width])
        return tile

    def _normal(self, at: int, width: int) -> NkiTensor:
        x, normal = self._load(self.x, at, width), self._tile(width)
        if self.mean is None:
            nisa.activation(dst=normal, op=nl.copy, data=x, scale=self.rstd)
        else:
            nisa.tensor_scalar(
                dst=normal, data=x, op0=nl.subtract, operand0=self.mean, op1=nl.multiply,
                operand1=self.rstd,
            )  # fmt: skip
        return normal

    def _weighed(self, grad: NkiTensor, scale: NkiTensor | None) -> NkiTensor:
        if scale is None:
            return grad
        weighed = self._tile(grad.shape[1])
        nisa.tensor_tensor(
            dst=weighed, data1=grad, data2=scale[0 : self.count, 0 : grad.shape[1]], op=nl.multiply
        )
        return weighed

    def again(self, at: int, width: int, scale: NkiTensor | None) -> tuple[NkiTensor, NkiTensor]:
        """Normalised rows and the weighed gradient of one block of columns."""
        return self._normal(at, width), self._weighed(self._load(self.grad, at, width), scale)

    def sums(
        self, at: int, width: int, scale: NkiTensor | None, total: _Totals
    ) -> tuple[NkiTensor, NkiTensor]:
        """As ``again``, and one block of columns more in every sum."""
        grad, normal = self._load(self.grad, at, width), self._normal(at, width)
        weighed = self._weighed(grad, scale)
        product = self._tile(width)
        nisa.tensor_tensor(dst=product, data1=weighed, data2=normal, op=nl.multiply)
        self.dots = self._summed(self.dots, product)
        if self.centred:
            self.plain = self._summed(self.plain, weighed)
        if total.weight is not None:
            if scale is not None:
                product = self._tile(width)
                nisa.tensor_tensor(
                    dst=product, data1=grad, data2=normal, op=nl.multiply,
                    engine=nisa.engine.gpsimd,
                )  # fmt: skip
            self._add(total.weight, product)
        if total.bias is not None:
            self._add(total.bias, grad)
        return normal, weighed

    def _summed(self, running: NkiTensor | None, tile: NkiTensor) -> NkiTensor:
        """The row sums of a tile, on Scalar, added to those of the blocks before."""
        part, unread = self._tile(1), self._tile(tile.shape[1])
        nisa.activation(
            dst=unread, op=nl.copy, data=tile, reduce_op=nl.add, reduce_res=part,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        )  # fmt: skip
        if running is None:
            return part
        both = self._tile(1)
        nisa.tensor_tensor(dst=both, data1=running, data2=part, op=nl.add)
        return both

    def _add(self, total: NkiTensor, tile: NkiTensor) -> None:
        here = total[0 : self.count, 0 : tile.shape[1]]
        nisa.tensor_tensor(dst=here, data1=here, data2=tile, op=nl.add, engine=nisa.engine.gpsimd)

    def factors(self, columns: int) -> tuple[NkiTensor, NkiTensor | None]:
        """Minus the mean of weighed * normal, and minus rstd times that of weighed."""
        assert self.dots is not None
        dots = self._tile(1)
        nisa.tensor_scalar(dst=dots, data=self.dots, op0=nl.multiply, operand0=-1.0 / columns)
        if self.plain is None:
            return dots, None
        plain = self._tile(1)
        nisa.tensor_scalar(
            dst=plain, data=self.plain, op0=nl.multiply, operand0=-1.0 / columns,
            op1=nl.multiply, operand1=self.rstd,
        )  # fmt: skip
        return dots, plain

    def gradient(
        self, normal: NkiTensor, weighed: NkiTensor, factors: tuple[NkiTensor, NkiTensor | None],
        residual: NkiTensor | None, dtype: Any,
    ) -> NkiTensor:  # fmt: skip
        """``(weighed - normal * mean(weighed * normal) - mean(weighed)) * rstd``, plus residual."""
        dots, plain = factors
        inner = self._tile(normal.shape[1])
        nisa.scalar_tensor_tensor(
            dst=inner, data=normal, op0=nl.multiply, operand0=dots, op1=nl.add, operand1=weighed
        )
        done = nl.ndarray(
            inner.shape, dtype=dtype if residual is None else nl.float32, buffer=nl.sbuf
        )
        if plain is None:
            nisa.activation(dst=done, op=nl.copy, data=inner, scale=self.rstd)
        else:
            nisa.activation(dst=done, op=nl.copy, data=inner, scale=self.rstd, bias=plain)
        if residual is None:
            return done
        extra = nl.ndarray(inner.shape, dtype=residual.dtype, buffer=nl.sbuf)
        move(extra, residual)
        both = nl.ndarray(inner.shape, dtype=dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=both, data1=done, data2=extra, op=nl.add)
        return both


def _vectors(
    x: NkiTensor, blocks: list[tuple[int, int]], totals: list[_Totals], weighted: bool,
    biased: bool,
) -> list[NkiTensor]:  # fmt: skip
    """Totals summed over their partitions, by a product with ones."""
    found = []
    for wanted, name in ((weighted, "weight"), (biased, "bias")):
        if not wanted:
            continue
        out = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.hbm)
        for (at, _), total in zip(blocks, totals, strict=True):
            tile = getattr(total, name)
            for inner, size in spans(tile.shape[1], nl.tile_size.gemm_moving_fmax):
                done = _over_partitions(tile[0 : tile.shape[0], inner : inner + size], out.dtype)
                move(out[0:1, at + inner : at + inner + size], done)
        found.append(out)
    return found


def _over_partitions(tile: NkiTensor, dtype: Any) -> NkiTensor:
    rows, width = tile.shape
    ones = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    product = nl.ndarray((1, width), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=ones, moving=tile)
    done = nl.ndarray((1, width), dtype=dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=done, src=product)
    return done


__all__ = ["norm_backward"]
