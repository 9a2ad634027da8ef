"""The end of a softmax: products of key ranges joined and divided by their sums."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tenzing.kernels.attention_masks import Range
from tenzing.kernels.tiles import move
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

SMALLEST_SUM = 1e-30  # a row that sees a key has a sum of at least 1


@dataclass
class Block:
    """Up to 128 queries of one head, with the maximum and sum of each of their key ranges."""

    out: NkiTensor  # [queries, value width] in HBM; several leading dims are one
    q: list[NkiTensor]  # [part of dim, queries]
    start: int
    head: tuple[int, int]  # sequence, head
    ranges: list[Range]
    top: NkiTensor = field(init=False)
    sums: NkiTensor = field(init=False)
    products: NkiTensor | None = None
    joined: int = 0

    def __post_init__(self) -> None:
        shape = (self.count, len(self.ranges))
        self.top = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
        self.sums = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)

    @property
    def count(self) -> int:
        """How many queries."""
        return math.prod(self.out.shape[:-1])

    @property
    def rows(self) -> Range:
        """Its queries."""
        return self.start, self.start + self.count


def finish(block: Block, number: int, product: NkiTensor, unit: float, empty: bool) -> None:
    """Take the product of a key range in PSUM; store the result after the last range.

    ``unit`` is that of the maxima in the exponent; with ``empty`` a row may see no key at all.
    """
    count, width = product.shape
    if len(block.ranges) == 1:
        done = nl.ndarray((count, width), dtype=block.out.dtype, buffer=nl.sbuf)
        nisa.activation(dst=done, op=nl.copy, data=product, scale=_inverse(block.sums, empty))
        _store(block, done)
        return
    if block.products is None:
        shape = (count, len(block.ranges), width)
        block.products = nl.ndarray(shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=block.products[0:count, number], op=nl.copy, data=product)
    block.joined += 1
    if block.joined == len(block.ranges):
        _store(block, _joined(block, block.products, unit, empty))


def _store(block: Block, done: NkiTensor) -> None:
    """Write the result; with prebuilt descriptors, which hold the queue up for less time."""
    move(block.out, done)


def _inverse(sums: NkiTensor, empty: bool) -> NkiTensor:
    """One over the sums; large, to meet a product of zero, where a row sees no key."""
    inverse = nl.ndarray(sums.shape, dtype=nl.float32, buffer=nl.sbuf)
    if empty:
        nisa.tensor_scalar(
            dst=inverse, data=sums, op0=nl.maximum, operand0=SMALLEST_SUM, op1=nl.divide,
            operand1=1.0, reverse1=True,
        )  # fmt: skip
    else:  # on GpSimd, which has nothing else to do
        nisa.tensor_scalar(dst=inverse, data=sums, op0=nl.power, operand0=-1.0)
    return inverse


def _joined(block: Block, products: NkiTensor, unit: float, empty: bool) -> NkiTensor:
    count, ranges, width = products.shape

    def fresh(columns: int) -> NkiTensor:
        return nl.ndarray((count, columns), dtype=nl.float32, buffer=nl.sbuf)

    lowest, bias, weights, weighted, total = (fresh(n) for n in (1, 1, ranges, ranges, 1))
    nisa.tensor_reduce(dst=lowest, op=nl.maximum, data=block.top, axis=1)
    nisa.tensor_scalar(dst=bias, data=lowest, op0=nl.multiply, operand0=-unit)
    nisa.activation(dst=weights, op=nl.exp, data=block.top, bias=bias, scale=unit)
    nisa.tensor_tensor(dst=weighted, data1=weights, data2=block.sums, op=nl.multiply)
    nisa.tensor_reduce(dst=total, op=nl.add, data=weighted, axis=1)
    factors = fresh(ranges)
    nisa.tensor_scalar(dst=factors, data=weights, op0=nl.multiply, operand0=_inverse(total, empty))
    running = fresh(width)
    nisa.tensor_scalar(
        dst=running, data=products[0:count, 0], op0=nl.multiply, operand0=factors[0:count, 0:1]
    )
    for number in range(1, ranges):
        last = number == ranges - 1
        target = nl.ndarray((count, width), dtype=block.out.dtype if last else nl.float32,
                            buffer=nl.sbuf)  # fmt: skip
        nisa.scalar_tensor_tensor(
            dst=target, data=products[0:count, number], op0=nl.multiply,
            operand0=factors[0:count, number : number + 1], op1=nl.add, operand1=running,
        )  # fmt: skip
        running = target
    return running
