"""Block tensors and explicit addresses of the older language.

``nl.ndarray((blocks..., nl.par_dim(128), free...))`` is a grid of tiles, each with its own place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenzing.errors import KernelError
from tenzing.isa.operand import DType, Space
from tenzing.machine import active_core
from tenzing.nki.tensor import OPERATORS, NkiTensor

__tenzing_internal__ = True

Index = tuple[int, ...]
Address = tuple[int, int]


class ParDim(int):
    """The size of the partition dim; dims before it count tiles."""


class BlockTensor:
    """A grid of tiles of one shape; leading integer indices choose a tile."""

    def __init__(
        self, blocks: Index, tile_shape: Index, dtype: DType, buffer: Space,
        make: Callable[[Index], NkiTensor],
    ) -> None:  # fmt: skip
        self.blocks, self.tile_shape = blocks, tile_shape
        self.dtype, self.buffer = dtype, buffer
        self._make = make
        self._tiles: dict[Index, NkiTensor] = {}

    @property
    def shape(self) -> Index:
        """Block dims, then the dims of a tile."""
        return (*self.blocks, *self.tile_shape)

    @property
    def ndim(self) -> int:
        """Number of dims, block dims included."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"BlockTensor({self.blocks} tiles of {self.tile_shape} {self.dtype.name})"

    def tile(self, index: Index) -> NkiTensor:
        """The tile at a block index, allocated at first use."""
        found = self._tiles.get(index)
        if found is None:
            found = self._tiles[index] = self._make(index)
        return found

    def tiles(self) -> list[NkiTensor]:
        """Every tile, in order."""
        return [self.tile(i) for i in itertools.product(*(range(n) for n in self.blocks))]

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        count = len(self.blocks)
        index = tuple(self._block(k, n) for k, n in zip(items, self.blocks, strict=False))
        if len(index) < count:
            return BlockTensor(self.blocks[len(index) :], self.tile_shape, self.dtype, self.buffer,
                               lambda rest: self.tile(index + rest))  # fmt: skip
        tile = self.tile(index)
        return tile[items[count:]] if len(items) > count else tile

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        if isinstance(target, BlockTensor):
            for tile in target.tiles():
                OPERATORS["assign"](tile, value)
            return
        if (
            isinstance(value, NkiTensor)
            and value.storage is target.storage
            and value.offset == target.offset
            and value.layout.size == target.layout.size
        ):
            return  # ``blocks[i] += x`` has already written in place
        OPERATORS["assign"](target, value)

    def _block(self, item: Any, size: int) -> int:
        try:
            index = int(item)
        except (TypeError, ValueError):
            raise KernelError(
                "a block dim takes one integer index", got=repr(item), where=active_core().here(),
                next_step="loop over the block dims, or put nl.par_dim first",
            ) from None  # fmt: skip
        index += size if index < 0 else 0
        if not 0 <= index < size:
            raise KernelError(f"block index {item} of {size} blocks", where=active_core().here(),
                              next_step="keep the index inside the block dims")  # fmt: skip
        return index


def _place(index: Index, counts: Sequence[int]) -> int:
    """Number of the tile among ``counts`` tiles, each block index taken modulo its count."""
    place = 0
    for position, count in zip(index, counts, strict=False):
        place = place * count + position % count
    return place


@dataclass(frozen=True, slots=True)
class Allocation:
    """Where the tiles of a tensor go: modulo counts of tiles from a base address."""

    space: Space
    base_partition: int = 0
    base_addr: int = 0
    base_bank: int = 0
    num_par_tiles: Index = ()
    num_free_tiles: Index = ()
    num_bank_tiles: Index = ()
    function: Callable[..., Any] | None = None

    def address(self, index: Index, tile_shape: Index, itemsize: int) -> Address:
        """First partition and byte in the partition of the tile at a block index."""
        free = math.prod(tile_shape[1:]) * itemsize
        bank_bytes = active_core().chip.integer("psum.bank_bytes")
        if self.function is not None:
            place = self.function(index, tile_shape[0], free)
            if self.space is Space.PSUM:
                bank, partition, byte = place
                return partition, bank * bank_bytes + byte
            return int(place[0]), int(place[1])
        partition = self.base_partition + _place(index, self.num_par_tiles) * tile_shape[0]
        byte = self.base_addr + _place(index, self.num_free_tiles) * free
        if self.space is Space.PSUM:
            byte += (self.base_bank + _place(index, self.num_bank_tiles)) * bank_bytes
        return partition, byte


@dataclass(frozen=True, slots=True)
class Allocator:
    """``nki.compiler.sbuf`` and ``nki.compiler.psum``: how a tensor gets its addresses."""

    space: Space

    def mod_alloc(
        self, *, base_addr: int = 0, base_partition: int = 0, base_bank: int = 0,
        num_par_tiles: Sequence[int] = (), num_free_tiles: Sequence[int] = (),
        num_bank_tiles: Sequence[int] = (),
    ) -> Allocation:  # fmt: skip
        """Tiles from a base address, block indices taken modulo the counts.

        ``base_addr`` in bytes per partition; banks are those of PSUM.
        """
        return Allocation(self.space, base_partition, base_addr, base_bank, tuple(num_par_tiles),
                          tuple(num_free_tiles), tuple(num_bank_tiles))  # fmt: skip

    def alloc(self, function: Callable[..., Any]) -> Allocation:
        """Addresses from ``function(block_index, partitions, free_bytes)``."""
        return Allocation(self.space, function=function)

    def auto_alloc(self) -> Space:
        """Addresses chosen when the kernel is complete."""
        return self.space
