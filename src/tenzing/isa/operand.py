"""Operands: where a tensor lives, how a view walks it, what an instruction sees of it.

Every memory is byte-addressed. SBUF and PSUM are ``partitions`` rows of ``pitch`` bytes; a byte
offset therefore names partition ``offset // pitch`` and byte ``offset % pitch``. HBM is one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import Loc

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]

FREE_DIMS_MAX: Final = 4  # access patterns walk at most four free dims


class Space(Enum):
    """A memory of the core."""

    HBM = "hbm"
    SBUF = "sbuf"
    PSUM = "psum"

    __hash__ = object.__hash__  # Enum hashes by name in Python code; identity is 10x faster

    @property
    def on_chip(self) -> bool:
        """Whether dim 0 is the partition dim."""
        return self is not Space.HBM


class Layout:
    """Shape, dtype and byte strides of a view; interned, so equal layouts are the same object.

    On chip, dim 0 is the partition dim and its stride is a multiple of ``pitch``.
    """

    __slots__ = ("cache", "dtype", "free", "itemsize", "partitions", "pitch", "shape", "size",
                 "space", "strides")  # fmt: skip

    space: Space
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    pitch: int

    def __init__(
        self,
        space: Space,
        dtype: DType,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        pitch: int,
    ) -> None:
        self.space, self.dtype, self.shape, self.strides = space, dtype, shape, strides
        self.pitch = pitch
        self.itemsize = dtype.itemsize
        size = 1
        for count in shape:
            size *= count
        self.size = size
        self.partitions = shape[0] if shape else 1
        self.free = size // self.partitions if self.partitions else 0
        self.cache: dict[Any, Any] = {}  # index expression -> (byte offset, layout)

    @staticmethod
    def of(
        space: Space,
        dtype: DType,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        pitch: int,
    ) -> Layout:
        """The one Layout with these fields."""
        key = (space, dtype, shape, strides, pitch)
        found = _INTERNED.get(key)
        if found is None:
            found = _INTERNED[key] = Layout(space, dtype, shape, strides, pitch)
        return found

    @staticmethod
    def dense(space: Space, dtype: DType, shape: tuple[int, ...], pitch: int = 0) -> Layout:
        """Row-major layout; on chip each partition holds the flattened free dims."""
        strides = [0] * len(shape)
        step = dtype.itemsize
        last = 1 if space.on_chip else 0
        for dim in range(len(shape) - 1, last - 1, -1):
            strides[dim] = step
            step *= shape[dim]
        if space.on_chip and shape:
            pitch = pitch or step
            strides[0] = pitch
        return Layout.of(space, dtype, shape, tuple(strides), pitch or max(step, 1))

    @property
    def nbytes(self) -> int:
        """Bytes the elements of the view hold (not the span they cover)."""
        return self.size * self.itemsize

    @property
    def free_bytes(self) -> int:
        """Bytes per partition the view holds."""
        return self.free * self.itemsize

    @property
    def inner_stride(self) -> int:
        """Byte step of the innermost dim that has more than one element."""
        for count, stride in zip(reversed(self.shape[1:]), reversed(self.strides[1:]), strict=True):
            if count > 1:
                return abs(stride)
        return self.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the free dims are one dense run of bytes."""
        step = self.itemsize
        dims = 1 if self.space.on_chip else 0
        for count, stride in zip(
            reversed(self.shape[dims:]), reversed(self.strides[dims:]), strict=True
        ):
            if count > 1 and stride != step:
                return False
            step *= count
        return True

    def inner_run_bytes(self) -> int:
        """Bytes of the longest dense run at the end of the view: one DMA element."""
        step = self.itemsize
        first = 1 if self.space.on_chip else 0
        for dim in range(len(self.shape) - 1, first - 1, -1):
            if self.shape[dim] > 1 and self.strides[dim] != step:
                break
            step *= self.shape[dim]
        return step

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.space.value}:{self.dtype.name}[{shape}]"


_INTERNED: dict[tuple[Any, ...], Layout] = {}


class Storage:
    """One allocation: its extent and its origin, never its contents.

    ``address`` is the byte offset per partition (on chip) or in HBM once it is known.
    ``origin`` is ``input``, ``output``, ``constant`` or ``local``.
    """

    __slots__ = ("address", "dtype", "id", "loc_key", "name", "origin", "partitions", "pitch",
                 "shape", "space")  # fmt: skip

    def __init__(
        self,
        number: int,
        space: Space,
        dtype: DType,
        shape: tuple[int, ...],
        partitions: int,
        pitch: int,
        name: str = "",
        origin: str = "local",
        loc_key: tuple[Any, int] | None = None,
        address: int | None = None,
    ) -> None:
        self.id, self.space, self.dtype, self.shape = number, space, dtype, shape
        self.partitions, self.pitch, self.name = partitions, pitch, name
        self.origin, self.loc_key, self.address = origin, loc_key, address

    @property
    def nbytes(self) -> int:
        """Bytes over all partitions."""
        return self.partitions * self.pitch


class View:
    """A typed window on a storage: what an instruction takes as an operand.

    ``data`` is the byte buffer behind it, ``None`` when only time is asked for. ``index`` is the
    tile of row numbers of a gather or scatter view, ``None`` otherwise.
    """

    __slots__ = ("data", "index", "layout", "offset", "storage")

    def __init__(
        self,
        storage: Storage,
        offset: int,
        layout: Layout,
        data: Array | None,
        index: View | None = None,
    ) -> None:
        self.storage, self.offset, self.layout, self.data = storage, offset, layout, data
        self.index = index

    def array(self) -> Array:
        """The elements as a NumPy view: writing to it writes the memory."""
        layout = self.layout
        return np.ndarray(layout.shape, layout.dtype, self.data, self.offset, layout.strides)

    @property
    def shape(self) -> tuple[int, ...]:
        """Dims of the view; on chip dim 0 is the partition dim."""
        return self.layout.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.layout.dtype

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.layout.shape)


def joined_dims(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """The fewest (size, stride) pairs that read the same elements in the same order."""
    dims: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == size * stride:
            dims[-1] = (dims[-1][0] * size, stride)
        else:
            dims.append((size, stride))
    return dims


def resolve_loc(key: tuple[Any, int] | None) -> Loc | None:
    """Source position of a recorded (code object, instruction offset) pair."""
    if key is None:
        return None
    code, lasti = key
    for index, (start_line, _, column, end_column) in enumerate(code.co_positions()):
        if index * 2 == lasti:
            line = start_line or code.co_firstlineno
            return Loc(code.co_filename, line, code.co_name, column, end_column)
    return Loc(code.co_filename, code.co_firstlineno, code.co_name)
