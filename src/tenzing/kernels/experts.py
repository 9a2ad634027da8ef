"""Mixture of experts: rows sorted by expert, and products with matrices chosen at run time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tenzing.kernels.operands import Ring
from tenzing.kernels.tiles import (
    cast,
    copy_from_psum,
    load_row_broadcast,
    move,
    spans,
    transpose_blocks,
)
from tenzing.nki import isa as nisa
from tenzing.nki import jit
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

COLUMN_BANKS: Final = 4  # of PSUM for one block of columns; the next block sums in the others
WEIGHT_SHARE: Final = 0.25  # of a partition for weights on their way to TensorE
ROW_CHUNK: Final = 2048  # rows counted at a time: four float32 tiles of a few KiB per partition
FILL_PARTITIONS: Final = 16  # divides every block size


@jit
def expert_rows(x: NkiTensor, w: NkiTensor, index: NkiTensor, out_dtype: Any = None) -> NkiTensor:
    """``x[r] @ w[index[r]]`` for a few rows: x [rows, k], w [experts, k, n], index [rows].

    Every row reads its own matrix; its address is computed on chip from the index.
    """
    rows = x.shape[0]
    out = nl.ndarray((rows, w.shape[2]), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    matrices = _Matrices(w, index)
    for start, count in spans(rows, nl.tile_size.pmax):
        turned = _turned_rows(x, start, count, w.dtype)
        for place in range(count):
            own = [block[0 : block.shape[0], place : place + 1] for block in turned]
            row = start + place
            matrices.multiply(own, row, out[row : row + 1])
    return out


@jit
def expert_blocks(x: NkiTensor, w: NkiTensor, owner: NkiTensor, out_dtype: Any = None) -> NkiTensor:
    """Blocks of rows times the matrix of their owner: x [slots, k], w [experts, k, n], owner [b].

    A block has ``slots / b`` rows, at most 128.
    """
    slots = x.shape[0]
    blocks = owner.shape[0]
    size = slots // blocks
    out = nl.ndarray((slots, w.shape[2]), dtype=out_dtype or x.dtype, buffer=nl.hbm)
    matrices = _Matrices(w, owner)
    for number in range(blocks):
        start = number * size
        turned = _turned_rows(x, start, size, w.dtype)
        matrices.multiply(turned, number, out[start : start + size])
    return out


class _Matrices:
    """A stack of matrices [experts, k, n] whose members are chosen by numbers known on chip only.

    The stack is a table of k-rows; ``ramp`` holds the row numbers of matrix 0, one k block per
    column, and ``first`` the number of each chosen matrix's first row on every partition.
    """

    def __init__(self, w: NkiTensor, chosen: NkiTensor) -> None:
        experts, self.depth, self.columns = w.shape
        self.dtype = w.dtype
        self.table = w.reshape((experts * self.depth, self.columns))
        pmax = nl.tile_size.pmax
        high = min(self.depth, pmax)
        blocks = -(-self.depth // pmax)
        self.ramp = nl.ndarray((high, blocks), dtype=nl.int32, buffer=nl.sbuf)
        nisa.iota(dst=self.ramp, pattern=[[pmax, blocks]], channel_multiplier=1)
        numbers = load_row_broadcast(chosen, 0, chosen.shape[0], high)
        self.first = nl.ndarray(numbers.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=self.first, data=numbers, op0=nl.multiply, operand0=self.depth)
        self.column_block = min(self.columns, COLUMN_BANKS * nl.tile_size.gemm_moving_fmax)
        budget = int(nl.tile_size.total_available_sbuf_size * WEIGHT_SHARE)
        fit = budget // (self.column_block * w.dtype.itemsize)
        self.numbers: dict[int, NkiTensor] = {}
        self._number(0)
        self.tiles = Ring((high, self.column_block), w.dtype, max(fit, 2))

    def multiply(self, turned: list[NkiTensor], place: int, out: NkiTensor) -> None:
        """Rows, as tiles [k block, rows], times the matrix chosen at ``place``.

        Every k block is used for all columns of a block as soon as it is there.
        """
        numbers = self.numbers.pop(place)
        self._number(place + 1)
        count = out.shape[0]
        for column, width in spans(self.columns, self.column_block):
            banks = [
                (at, nl.ndarray((count, size), dtype=nl.float32, buffer=nl.psum))
                for at, size in spans(width, nl.tile_size.gemm_moving_fmax)
            ]
            for block, stationary in enumerate(turned):
                weights = self._load(numbers, block, column, width)
                for at, bank in banks:
                    moving = weights[0 : weights.shape[0], at : at + bank.shape[1]]
                    nisa.nc_matmul(dst=bank, stationary=stationary, moving=moving,
                                   accumulate=block > 0)  # fmt: skip
            done = nl.ndarray((count, width), dtype=out.dtype, buffer=nl.sbuf)
            for turn, (at, bank) in enumerate(banks):
                copy_from_psum(done[0:count, at : at + bank.shape[1]], bank, turn)
            move(out[0:count, column : column + width], done)

    def _number(self, place: int) -> None:
        """Row numbers of the matrix chosen at ``place``, if there is one: one k block per column.

        Vector works in order: numbers made one matrix ahead do not wait for the sums of this one.
        """
        if place < self.first.shape[1]:
            numbers = nl.ndarray(self.ramp.shape, dtype=nl.int32, buffer=nl.sbuf)
            base = self.first[0 : self.first.shape[0], place : place + 1]
            nisa.tensor_scalar(dst=numbers, data=self.ramp, op0=nl.add, operand0=base)
            self.numbers[place] = numbers

    def _load(self, numbers: NkiTensor, block: int, column: int, width: int) -> NkiTensor:
        """One k block of some columns of the chosen matrix: [k block, width]."""
        pmax = nl.tile_size.pmax
        size = min(self.depth - block * pmax, pmax)
        tile = self.tiles.next(size, width)
        part = self.table[0 : self.table.shape[0], column : column + width]
        nisa.dma_copy(dst=tile, src=part.vector_select(0, numbers[0:size, block : block + 1]))
        return tile


def _turned_rows(x: NkiTensor, start: int, count: int, dtype: Any) -> list[NkiTensor]:
    """Rows of x as tiles [k block, rows]."""
    tile = nl.ndarray((count, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    move(tile, x[start : start + count, 0 : x.shape[1]])
    return transpose_blocks(cast(tile, dtype), nl.tile_size.pmax)


# -- sorting -----------------------------------------------------------------------------------


@jit
def expert_order(
    index: NkiTensor, experts: int, block: int, repeat: int, blocks: int
) -> tuple[NkiTensor, NkiTensor, NkiTensor]:
    """Slots of rows sorted by expert: index [rows] -> (slot sources, row slots, block owners).

    Experts lie on partitions and rows along the free dim: a running count per expert gives the
    rank of each row, and products with triangles of ones add over experts. All numbers stay far
    below 2 to the power 24, where float32 is exact. ``block`` is a power of two.
    """
    rows = index.shape[0]
    tally = _Tally(index, experts, block)
    row_slot = nl.ndarray((rows,), dtype=nl.int32, buffer=nl.hbm)
    tally.write_slots(row_slot)
    owner = nl.ndarray((blocks,), dtype=nl.int32, buffer=nl.hbm)
    tally.write_owners(owner)
    sources = nl.ndarray((blocks * block,), dtype=nl.int32, buffer=nl.hbm)
    _fill(sources, rows // repeat)
    _scatter_rows(sources, row_slot, repeat)
    return sources, row_slot, owner


class _Tally:
    """Rows per expert, and where each expert's slots begin and end; tiles [experts, 1]."""

    def __init__(self, index: NkiTensor, experts: int, block: int) -> None:
        self.index, self.experts, self.block = index, experts, block
        self.rows = index.shape[0]
        self.chunks = list(spans(experts, nl.tile_size.pmax))
        self.names = [self._names(first, count) for first, count in self.chunks]
        padded = [self._padded(self._count(k)) for k in range(len(self.chunks))]
        self.starts = [self._start(k, padded) for k in range(len(self.chunks))]
        self.ends = [_sum(a, b) for a, b in zip(self.starts, padded, strict=True)]

    def _names(self, first: int, count: int) -> NkiTensor:
        names = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.iota(dst=names, pattern=[[0, 1]], offset=first, channel_multiplier=1)
        return names

    def _chosen(self, chunk: int, at: int, size: int) -> NkiTensor:
        """1 where a row belongs to an expert: [experts, rows]."""
        count = self.chunks[chunk][1]
        numbers = load_row_broadcast(self.index, at, size, count)
        held = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=held, data=numbers, op0=nl.maximum, operand0=0.0,
                           op1=nl.minimum, operand1=self.experts - 1.0)  # fmt: skip
        chosen = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=chosen, data=held, op0=nl.equal, operand0=self.names[chunk])
        return chosen

    def _count(self, chunk: int) -> NkiTensor:
        total: NkiTensor | None = None
        for at, size in spans(self.rows, ROW_CHUNK):
            part = nl.ndarray((self.chunks[chunk][1], 1), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_reduce(dst=part, op=nl.add, data=self._chosen(chunk, at, size), axis=1)
            total = part if total is None else _sum(total, part)
        assert total is not None
        return total

    def _padded(self, count: NkiTensor) -> NkiTensor:
        """Rows rounded up to whole blocks."""
        above = nl.ndarray(count.shape, dtype=nl.int32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=above, data=count, op0=nl.add, operand0=self.block - 1.0)
        whole = nl.ndarray(count.shape, dtype=nl.int32, buffer=nl.sbuf)
        shift = self.block.bit_length() - 1
        nisa.tensor_scalar(dst=whole, data=above, op0=nl.right_shift, operand0=shift,
                           op1=nl.left_shift, operand1=shift)  # fmt: skip
        return cast(whole, nl.float32)

    def _start(self, chunk: int, padded: list[NkiTensor]) -> NkiTensor:
        """Slots of all experts before each one."""
        count = self.chunks[chunk][1]
        total = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.psum)
        for earlier in range(chunk + 1):
            height = self.chunks[earlier][1]
            ones = nl.ndarray((height, count), dtype=nl.float32, buffer=nl.sbuf)
            nisa.memset(dst=ones, value=1.0)
            if earlier == chunk:  # keep column e of row e' where e' < e
                below = nl.ndarray((height, count), dtype=nl.float32, buffer=nl.sbuf)
                nisa.affine_select(
                    dst=below, pattern=[[1, count]], channel_multiplier=-1, on_true_tile=ones,
                    on_false_value=0.0, cmp_op=nl.greater,
                )  # fmt: skip
                ones = below
            nisa.nc_matmul(dst=total, stationary=ones, moving=padded[earlier],
                           accumulate=earlier > 0)  # fmt: skip
        start = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=start, src=total)
        return start

    def write_slots(self, row_slot: NkiTensor) -> None:
        """The slot of each row: its expert's start plus its rank there."""
        running: list[NkiTensor | float] = [0.0] * len(self.chunks)
        for at, size in spans(self.rows, ROW_CHUNK):
            places = []
            for chunk, (_, count) in enumerate(self.chunks):
                chosen = self._chosen(chunk, at, size)
                ones = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
                nisa.memset(dst=ones, value=1.0)
                rank = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
                nisa.tensor_tensor_scan(dst=rank, data0=ones, data1=chosen, op0=nl.multiply,
                                        initial=running[chunk], op1=nl.add)  # fmt: skip
                running[chunk] = rank[0:count, size - 1 : size]
                before = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
                nisa.tensor_scalar(dst=before, data=self.starts[chunk], op0=nl.subtract,
                                   operand0=1.0)  # fmt: skip
                place = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
                nisa.scalar_tensor_tensor(dst=place, data=rank, op0=nl.add, operand0=before,
                                          op1=nl.multiply, operand1=chosen)  # fmt: skip
                places.append(place)
            _store_sum(row_slot, at, places, None)

    def write_owners(self, owner: NkiTensor) -> None:
        """The expert of each block: how many experts end at or before its first slot."""
        blocks = owner.shape[0]
        for at, size in spans(blocks, ROW_CHUNK):
            past = []
            for (_, count), ends in zip(self.chunks, self.ends, strict=True):
                first = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
                nisa.iota(dst=first, pattern=[[self.block, size]], offset=at * self.block)
                over = nl.ndarray((count, size), dtype=nl.float32, buffer=nl.sbuf)
                nisa.tensor_scalar(dst=over, data=first, op0=nl.greater_equal, operand0=ends)
                past.append(over)
            _store_sum(owner, at, past, self.experts - 1.0)


def _sum(a: NkiTensor, b: NkiTensor) -> NkiTensor:
    total = nl.ndarray(a.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=total, data1=a, data2=b, op=nl.add)
    return total


def _store_sum(out: NkiTensor, at: int, parts: list[NkiTensor], most: float | None) -> None:
    """Sums over partitions of [experts, n] tiles, as integers at ``out[at:]``."""
    size = parts[0].shape[1]
    row = nl.ndarray((1, size), dtype=nl.int32, buffer=nl.sbuf)
    for start, width in spans(size, nl.tile_size.gemm_moving_fmax):
        total = nl.ndarray((1, width), dtype=nl.float32, buffer=nl.psum)
        for number, part in enumerate(parts):
            ones = nl.ndarray((part.shape[0], 1), dtype=nl.float32, buffer=nl.sbuf)
            nisa.memset(dst=ones, value=1.0)
            nisa.nc_matmul(dst=total, stationary=ones, accumulate=number > 0,
                           moving=part[0 : part.shape[0], start : start + width])  # fmt: skip
        target = row[0:1, start : start + width]
        if most is None:
            nisa.tensor_copy(dst=target, src=total)
        else:
            nisa.tensor_scalar(dst=target, data=total, op0=nl.minimum, operand0=most)
    move(out[at : at + size].reshape((1, size)), row)


def _fill(out: NkiTensor, number: int) -> None:
    """Every element of an int32 HBM vector; its length is a multiple of FILL_PARTITIONS."""
    tile = nl.ndarray((FILL_PARTITIONS, out.shape[0] // FILL_PARTITIONS), dtype=nl.int32,
                      buffer=nl.sbuf)  # fmt: skip
    nisa.memset(dst=tile, value=number)
    move(out.reshape(tile.shape), tile)


def _scatter_rows(sources: NkiTensor, row_slot: NkiTensor, repeat: int) -> None:
    """``sources[row_slot[r]] = r // repeat``."""
    rows = row_slot.shape[0]
    numbers = nl.ndarray((rows,), dtype=nl.int32, buffer=nl.hbm)
    for at, size in _whole(rows, ROW_CHUNK, repeat):
        row = nl.ndarray((1, size), dtype=nl.int32, buffer=nl.sbuf)
        pattern = [[1, size // repeat], [0, repeat]]
        nisa.iota(dst=row, pattern=pattern, offset=at // repeat)
        move(numbers[at : at + size].reshape((1, size)), row)
    table = sources.reshape((sources.shape[0], 1))
    for at, size in spans(rows, nl.tile_size.pmax):
        slot = nl.ndarray((size, 1), dtype=nl.int32, buffer=nl.sbuf)
        move(slot, row_slot[at : at + size].reshape((size, 1)))
        number = nl.ndarray((size, 1), dtype=nl.int32, buffer=nl.sbuf)
        move(number, numbers[at : at + size].reshape((size, 1)))
        nisa.dma_copy(dst=table.vector_select(0, slot), src=number)


def _whole(size: int, step: int, unit: int) -> Iterator[tuple[int, int]]:
    """Spans whose starts are multiples of ``unit``."""
    return spans(size, max(step // unit, 1) * unit)


@jit
def take_rows(table: NkiTensor, index: NkiTensor) -> NkiTensor:
    """``table[index]``, zeros where the index leaves the table: table [rows, k], index [slots]."""
    columns, total = table.shape[1], index.shape[0]
    out = nl.ndarray((total, columns), dtype=table.dtype, buffer=nl.hbm)
    for start, count in spans(total, nl.tile_size.pmax):
        numbers = nl.ndarray((count, 1), dtype=index.dtype, buffer=nl.sbuf)
        move(numbers, index[start : start + count].reshape((count, 1)))
        rows = nl.ndarray((count, columns), dtype=table.dtype, buffer=nl.sbuf)
        nisa.memset(dst=rows, value=0.0)
        chosen = table.vector_select(0, numbers)
        nisa.dma_copy(dst=rows, src=chosen, oob_mode=nisa.oob_mode.skip)
        move(out[start : start + count, 0:columns], rows)
    return out


__all__ = ["expert_blocks", "expert_order", "expert_rows", "take_rows"]
