"""``NkiTensor``: a view on a memory of the core, sliced and reshaped without moving data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tenzing.errors import KernelError, OutOfBounds
from tenzing.isa import numerics
from tenzing.isa.operand import Array, DType, Layout, Space, Storage, View
from tenzing.machine import Core, active_core
from tenzing.nki.indexing import AffineIndex, DynamicSlice

__tenzing_internal__ = True

OPERATORS: Final[dict[str, Callable[..., Any]]] = {}  # filled by tenzing.nki.language


class NkiTensor(View):
    """A tensor in HBM, SBUF or PSUM; on chip dim 0 is the partition dim."""

    __slots__ = ()
    __array_ufunc__ = None  # a NumPy scalar on the left leaves the operation to the tile

    # -- what it is -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name given at creation."""
        return self.storage.name

    @property
    def buffer(self) -> Space:
        """The memory it lives in."""
        return self.layout.space

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in elements; the partition step counts one partition's free size."""
        return tuple(stride for stride, _ in self.get_pattern())

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.layout.itemsize

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"NkiTensor({shape} {self.dtype.name} in {self.buffer.name} {self.name})"

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NkiTensor]:
        return (self[k] for k in range(self.shape[0]))

    def __bool__(self) -> bool:
        raise KernelError(
            "a tensor has no truth value while a kernel is built",
            where=active_core().here(),
            next_step="use nl.where or a Python number",
        )

    def numpy(self) -> Array:
        """A copy of the current contents (simulation only)."""
        active_core().flush()
        if self.data is None:
            raise KernelError("the kernel runs for time only; tensors hold no values")
        return self.array().copy()

    def is_contiguous(self) -> bool:
        """Whether the free dims are one dense run."""
        return self.layout.contiguous

    def is_indirect(self) -> bool:
        """Whether rows are chosen by an index tile at run time."""
        return self.index is not None

    def get_pattern(self) -> list[list[int]]:
        """Access pattern ``[[step, count], ...]`` in elements."""
        layout = self.layout
        steps = [stride // layout.itemsize for stride in layout.strides]
        if layout.space.on_chip and steps:
            free = math.prod(self.storage.shape[1:]) or 1
            steps[0] = layout.strides[0] // layout.pitch * free
        return [[s, n] for s, n in zip(steps, layout.shape, strict=True)]

    # -- indexing ---------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> NkiTensor:
        layout = self.layout
        shape = layout.shape
        if type(key) is tuple and len(key) == 2 and len(shape) == 2:  # noqa: PLR2004 - 2-D fast path
            a, b = key
            if type(a) is slice and type(b) is slice and a.step is None and b.step is None:
                r0 = a.start or 0
                r1 = shape[0] if a.stop is None else a.stop
                c0 = b.start or 0
                c1 = shape[1] if b.stop is None else b.stop
                if 0 <= r0 < r1 <= shape[0] and 0 <= c0 < c1 <= shape[1]:
                    counts = (r1 - r0, c1 - c0)
                    part = layout.cache.get(counts)
                    if part is None:
                        part = layout.cache[counts] = Layout.of(
                            layout.space, layout.dtype, (int(counts[0]), int(counts[1])),
                            layout.strides, layout.pitch,
                        )  # fmt: skip
                    step0, step1 = layout.strides
                    return NkiTensor(
                        self.storage, self.offset + r0 * step0 + c0 * step1, part, self.data,
                        self.index,
                    )  # fmt: skip
        return self._index(key)

    def _index(self, key: Any) -> NkiTensor:
        items = list(key) if isinstance(key, tuple) else [key]
        if any(isinstance(item, AffineIndex) for item in items):
            return self._affine(items)
        items = self._expand_ellipsis(items)
        layout = self.layout
        offset = self.offset
        shape: list[int] = []
        strides: list[int] = []
        dim = 0
        for item in items:
            if item is None:
                shape.append(1)
                strides.append(layout.itemsize)
                continue
            start, count, step = self._range(item, dim)
            offset += start * layout.strides[dim]
            if count is not None:
                shape.append(count)
                strides.append(layout.strides[dim] * step)
            elif layout.space.on_chip and dim == 0:
                shape.append(1)
                strides.append(layout.strides[0])
            dim += 1
        if layout.space.on_chip and len(shape) == 1:
            shape.append(1)
            strides.append(layout.itemsize)
        elif not shape:
            shape, strides = [1], [layout.itemsize]
        return self._with(offset, tuple(shape), tuple(strides))

    def _expand_ellipsis(self, items: list[Any]) -> list[Any]:
        used = sum(item is not None and item is not Ellipsis for item in items)
        missing = self.ndim - used
        if missing < 0:
            raise self._bounds(f"{used} indices for a tensor of {self.ndim} dims {self.shape}")
        if Ellipsis in items:
            at = items.index(Ellipsis)
            return items[:at] + [slice(None)] * missing + items[at + 1 :]
        return items + [slice(None)] * missing

    def _range(self, item: Any, dim: int) -> tuple[int, int | None, int]:
        """Start, count (None for a single element) and step of one index item."""
        size = self.layout.shape[dim]
        if isinstance(item, DynamicSlice):
            item = slice(item.start, item.start + item.size)
        if isinstance(item, slice):
            step = 1 if item.step is None else int(item.step)
            start = 0 if item.start is None else int(item.start)
            stop = size if item.stop is None else int(item.stop)
            start = start + size if start < 0 else start
            stop = stop + size if stop < 0 else stop
            if step < 1 or start < 0 or stop > size or start >= stop:
                raise self._bounds(
                    f"slice {start}:{stop}:{step} of dim {dim} leaves a tensor of shape "
                    f"{self.shape} (size {size})"
                )
            return start, -(-(stop - start) // step), step
        try:
            position = int(item)
        except (TypeError, ValueError):
            raise KernelError(
                "a tensor index must be an integer, a slice, nl.ds or an index tensor",
                got=type(item).__name__, where=active_core().here(),
            ) from None  # fmt: skip
        if position < 0:
            position += size
        if not 0 <= position < size:
            raise self._bounds(f"index {item} of dim {dim} leaves a tensor of shape {self.shape}")
        return position, None, 1

    def _affine(self, items: list[Any]) -> NkiTensor:
        items = self._expand_ellipsis(items)
        ranks = [len(item.shape) for item in items if isinstance(item, AffineIndex)]
        rank = max(ranks)
        layout = self.layout
        counts = [1] * rank
        steps = [0] * rank
        tail: list[tuple[int, int]] = []
        offset = self.offset
        for dim, item in enumerate(items):
            if not isinstance(item, AffineIndex):
                start, count, step = self._range(item, dim)
                offset += start * layout.strides[dim]
                if count is not None:
                    tail.append((count, layout.strides[dim] * step))
                continue
            index = item.padded(rank)
            if index.low < 0 or index.high >= layout.shape[dim]:
                error = self._bounds(
                    f"index tensor reaches {index.low}..{index.high} in dim {dim} of a tensor of "
                    f"shape {self.shape}"
                )
                outside: NkiTensor = OPERATORS["outside"](self, items, error)
                return outside
            offset += index.constant * layout.strides[dim]
            for axis in range(rank):
                counts[axis] = max(counts[axis], index.shape[axis])
                steps[axis] += index.coefficients[axis] * layout.strides[dim]
        shape = tuple(counts) + tuple(n for n, _ in tail)
        return self._with(offset, shape, tuple(steps) + tuple(s for _, s in tail))

    def _bounds(self, what: str) -> OutOfBounds:
        return OutOfBounds(
            what, where=active_core().here(), next_step="keep the index inside the tensor"
        )

    def _with(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NkiTensor:
        old = self.layout
        key = (shape, strides)
        layout = old.cache.get(key)
        if layout is None:
            layout = old.cache[key] = Layout.of(old.space, old.dtype, shape, strides, old.pitch)
        return NkiTensor(self.storage, offset, layout, self.data, self.index)

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        if (
            isinstance(value, View)
            and value.storage is target.storage
            and value.offset == target.offset
            and value.layout.size == target.layout.size
        ):
            return  # ``tile[i] += x`` has already written in place
        OPERATORS["assign"](target, value)

    # -- other shapes of the same data ------------------------------------------------------

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> NkiTensor:
        """Elements ``start`` to ``end`` of one dim."""
        return self[(slice(None),) * dim + (slice(start, end, step),)]

    def select(self, dim: int, index: int | NkiTensor) -> NkiTensor:
        """One element of a dim, which is removed."""
        return self[(slice(None),) * dim + (_as_int(index),)]

    def permute(self, dims: Sequence[int]) -> NkiTensor:
        """Reorder dims; on chip dim 0 stays."""
        if sorted(dims) != list(range(self.ndim)) or (self.buffer.on_chip and dims[0] != 0):
            raise KernelError(f"permute{tuple(dims)} of a tensor of shape {self.shape}",
                              where=active_core().here())  # fmt: skip
        layout = self.layout
        return self._with(self.offset, tuple(layout.shape[d] for d in dims),
                          tuple(layout.strides[d] for d in dims))  # fmt: skip

    def broadcast(self, dim: int, size: int) -> NkiTensor:
        """Repeat a free dim of size one without copying."""
        if self.shape[dim] != 1 or (self.buffer.on_chip and dim == 0):
            raise KernelError(
                f"broadcast of dim {dim} of shape {self.shape}", allowed="a free dim of size 1",
                where=active_core().here(),
            )  # fmt: skip
        shape = (*self.shape[:dim], size, *self.shape[dim + 1 :])
        strides = (*self.layout.strides[:dim], 0, *self.layout.strides[dim + 1 :])
        return self._with(self.offset, shape, strides)

    def broadcast_to(self, shape: Sequence[int]) -> NkiTensor:
        """Repeat dims of size one up to ``shape``; a partition is repeated by the Tensor engine."""
        return OPERATORS["broadcast_to"](self, tuple(shape))  # type: ignore[no-any-return]

    def expand_dim(self, dim: int) -> NkiTensor:
        """Insert a dim of size one."""
        shape = (*self.shape[:dim], 1, *self.shape[dim:])
        strides = (*self.layout.strides[:dim], self.itemsize, *self.layout.strides[dim:])
        return self._with(self.offset, shape, strides)

    def squeeze_dim(self, dim: int) -> NkiTensor:
        """Remove a dim of size one."""
        if self.shape[dim] != 1:
            raise KernelError(f"squeeze of dim {dim} of shape {self.shape}",
                              where=active_core().here())  # fmt: skip
        return self._with(self.offset, self.shape[:dim] + self.shape[dim + 1 :],
                          self.layout.strides[:dim] + self.layout.strides[dim + 1 :])  # fmt: skip

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> NkiTensor:
        """Split one dim; one entry may be -1."""
        known = math.prod(n for n in shape if n != -1)
        parts = [self.shape[dim] // known if n == -1 else n for n in shape]
        if math.prod(parts) != self.shape[dim]:
            raise KernelError(f"dim {dim} of size {self.shape[dim]} does not split into {shape}",
                              where=active_core().here())  # fmt: skip
        steps = []
        step = self.layout.strides[dim]
        for count in reversed(parts):
            steps.append(step)
            step *= count
        return self._with(
            self.offset, (*self.shape[:dim], *parts, *self.shape[dim + 1 :]),
            (*self.layout.strides[:dim], *reversed(steps), *self.layout.strides[dim + 1 :]),
        )  # fmt: skip

    def flatten_dims(self, start_dim: int, end_dim: int) -> NkiTensor:
        """Merge neighbouring dims that are dense in memory."""
        shape = (*self.shape[:start_dim], math.prod(self.shape[start_dim : end_dim + 1]),
                 *self.shape[end_dim + 1 :])  # fmt: skip
        return self.reshape(shape)

    def reshape(self, shape: Sequence[int]) -> NkiTensor:
        """Another shape of the same elements, when the strides allow it."""
        wanted = tuple(int(n) for n in shape)
        if -1 in wanted:
            known = math.prod(n for n in wanted if n != -1)
            wanted = tuple(self.size // known if n == -1 else n for n in wanted)
        if self.buffer.on_chip and wanted[0] != self.shape[0]:
            raise KernelError(f"reshape of {self.shape} to {wanted} changes the partition dim",
                              where=active_core().here())  # fmt: skip
        strides = _reshaped_strides(self.shape, self.layout.strides, wanted)
        if strides is None:
            raise KernelError(f"{self.shape} with this layout cannot be viewed as {wanted}",
                              where=active_core().here(),
                              next_step="copy the tile first")  # fmt: skip
        return self._with(self.offset, wanted, strides)

    def rearrange(
        self,
        src_pattern: Sequence[Any],
        dst_pattern: Sequence[Any],
        fixed_sizes: dict[str, int] | None = None,
    ) -> NkiTensor:
        """Split, reorder and merge dims by name, as in einops."""
        sizes = dict(fixed_sizes or {})
        view = self
        names: list[str] = []
        for item in src_pattern:
            group = (item,) if isinstance(item, str) else tuple(item)
            if len(group) > 1:
                view = view.reshape_dim(len(names), [sizes.get(n, -1) for n in group])
            names.extend(group)
        sizes.update(zip(names, view.shape, strict=True))
        order = [n for item in dst_pattern for n in ((item,) if isinstance(item, str) else item)]
        view = view.permute([names.index(n) for n in order])
        shape = [
            math.prod(sizes[n] for n in ((item,) if isinstance(item, str) else item))
            for item in dst_pattern
        ]
        return view.reshape(shape)

    def view(self, dtype: Any) -> NkiTensor:
        """The same bytes as another dtype; the last dim is scaled."""
        new = numerics.dtype(dtype)
        old = self.layout
        last = old.shape[-1] * old.itemsize
        if last % new.itemsize or (old.shape[-1] > 1 and old.strides[-1] != old.itemsize):
            raise KernelError(f"{self.shape} {old.dtype.name} cannot be viewed as {new.name}",
                              where=active_core().here())  # fmt: skip
        shape = (*old.shape[:-1], last // new.itemsize)
        strides = (*old.strides[:-1], new.itemsize)
        layout = Layout.of(old.space, new, shape, strides, old.pitch)
        return NkiTensor(self.storage, self.offset, layout, self.data, self.index)

    reinterpret_cast = view

    def ap(
        self,
        pattern: Sequence[Sequence[int]],
        offset: int | None = None,
        scalar_offset: Any = None,
        vector_offset: NkiTensor | None = None,
        indirect_dim: int = 0,
        dtype: Any = None,
    ) -> NkiTensor:
        """An explicit access pattern ``[[step, count], ...]`` in elements of the root tensor."""
        new = self.layout.dtype if dtype is None else numerics.dtype(dtype)
        old = self.layout
        steps = [int(step) * new.itemsize for step, _ in pattern]
        counts = [int(count) for _, count in pattern]
        start = self.offset + int(offset or 0) * new.itemsize
        if old.space.on_chip:
            free = (math.prod(self.storage.shape[1:]) or 1) * self.storage.dtype.itemsize
            if steps[0] % free:
                raise KernelError("the leading step of an on-chip pattern must be the free size",
                                  got=pattern[0][0], where=active_core().here())  # fmt: skip
            steps[0] = steps[0] // free * old.pitch
            inside = int(offset or 0) * new.itemsize
            start = self.offset + inside // free * old.pitch + inside % free
        if scalar_offset is not None:
            start += _as_int(scalar_offset) * old.strides[indirect_dim]
        if vector_offset is not None:
            return self._gathered(new, start, steps, counts, indirect_dim, vector_offset)
        self._check_reach(start, steps, counts, new.itemsize)
        layout = Layout.of(old.space, new, tuple(counts), tuple(steps), old.pitch)
        return NkiTensor(self.storage, start, layout, self.data)

    def vector_select(self, dim: int, vector_offset: NkiTensor) -> NkiTensor:
        """Rows of an HBM tensor chosen by an index tile, one per partition."""
        if dim != 0 or self.buffer is not Space.HBM:
            raise KernelError("vector_select takes dim 0 of an HBM tensor",
                              where=active_core().here())  # fmt: skip
        return NkiTensor(self.storage, self.offset, self.layout, self.data, vector_offset)

    def _gathered(
        self, dtype: DType, start: int, steps: list[int], counts: list[int], dim: int,
        index: NkiTensor,
    ) -> NkiTensor:  # fmt: skip
        rows = (self.storage.nbytes - start) // max(self.layout.strides[dim], 1)
        layout = Layout.of(self.layout.space, dtype, (rows, *counts[1:]),
                           (self.layout.strides[dim], *steps[1:]), self.layout.pitch)  # fmt: skip
        return NkiTensor(self.storage, start, layout, self.data, index)

    def _check_reach(self, start: int, steps: list[int], counts: list[int], itemsize: int) -> None:
        low = start + sum(min(0, s * (n - 1)) for s, n in zip(steps, counts, strict=True))
        high = start + sum(max(0, s * (n - 1)) for s, n in zip(steps, counts, strict=True))
        limit = self.storage.nbytes
        if self.storage.address is not None:
            limit = active_core().chip.integer("core.partitions") * self.storage.pitch
        if low < 0 or high + itemsize > limit:
            raise self._bounds(
                f"access pattern reaches bytes {low}..{high + itemsize} of a tensor of {limit}"
            )

    # -- arithmetic (defined by tenzing.nki.language) ------------------------------------------

    def __add__(self, other: Any) -> Any:
        return OPERATORS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return OPERATORS["add"](self, other)

    def __sub__(self, other: Any) -> Any:
        return OPERATORS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return OPERATORS["subtract"](other, self)

    def __mul__(self, other: Any) -> Any:
        return OPERATORS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return OPERATORS["multiply"](self, other)

    def __truediv__(self, other: Any) -> Any:
        return OPERATORS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return OPERATORS["divide"](other, self)

    def __neg__(self) -> Any:
        return OPERATORS["negative"](self)

    def __pow__(self, other: Any) -> Any:
        return OPERATORS["power"](self, other)

    def __lt__(self, other: Any) -> Any:
        return OPERATORS["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return OPERATORS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return OPERATORS["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return OPERATORS["greater_equal"](self, other)

    def __iadd__(self, other: Any) -> NkiTensor:
        return OPERATORS["accumulate"](self, other)  # type: ignore[no-any-return]

    def __isub__(self, other: Any) -> NkiTensor:
        return OPERATORS["in_place"]("subtract", self, other)  # type: ignore[no-any-return]

    def __imul__(self, other: Any) -> NkiTensor:
        return OPERATORS["in_place"]("multiply", self, other)  # type: ignore[no-any-return]


def new_tensor(
    shape: Sequence[int],
    dtype: Any,
    space: Space,
    *,
    name: str = "",
    origin: str = "local",
    contents: Array | None = None,
    address: tuple[int, int] | None = None,
) -> NkiTensor:
    """Allocate a tensor on the active core, remembering the user's line."""
    core = active_core()
    frame = core.user_frame(2)
    dims = tuple(int(n) for n in shape)
    if min(dims, default=1) < 1:
        raise KernelError(f"a tensor of shape {dims} has no elements", where=core.here())
    if space.on_chip:
        limit = core.chip.integer("core.partitions")
        if not dims or dims[0] > limit:
            raise KernelError(
                f"{space.name} tensor of shape {dims} has {dims[0] if dims else 0} partitions",
                allowed=f"1 to {limit} (core.partitions of {core.chip.name})",
                where=core.here(), next_step="tile dim 0 by the partition count",
            )  # fmt: skip
    storage, offset, layout, data = core.allocate(
        space, numerics.dtype(dtype), dims, name=name, origin=origin,
        loc_key=(frame.f_code, frame.f_lasti), contents=contents, address=address,
    )  # fmt: skip
    return NkiTensor(storage, offset, layout, data)


def tensor_again(core: Core, key: tuple[Any, ...], name: str) -> NkiTensor:
    """One more tensor with a memory, dtype and shape that were allocated before: the fast path."""
    model, layout = core.plans[key]
    frame = core.user_frame(2)
    storage, data = core.allocate_like(model, layout, name, (frame.f_code, frame.f_lasti))
    return NkiTensor(storage, 0, layout, data)


def as_tensor(storage: Storage, layout: Layout, data: Array | None, offset: int = 0) -> NkiTensor:
    """A storage as a tensor, the whole of it unless an offset in bytes is given."""
    return NkiTensor(storage, offset, layout, data)


def _as_int(value: Any) -> int:
    """A Python integer out of a number, a register or a one-element tensor."""
    if isinstance(value, NkiTensor):
        if value.data is None:
            return 0  # time only: the first row stands for all
        return int(value.numpy().reshape(-1)[0])
    return int(value)


def _reshaped_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides of ``wanted`` over the same bytes, or None when a copy would be needed."""
    if math.prod(shape) != math.prod(wanted):
        return None
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    position = 0
    pool_count, pool_step = 1, 0
    for count in reversed(wanted):
        if count == 1:
            result.append(pool_step * pool_count if pool_step else 1)
            continue
        while pool_count == 1:
            pool_count, pool_step = old[len(old) - 1 - position]
            position += 1
        while pool_count % count:
            if position >= len(old):
                return None
            next_count, next_step = old[len(old) - 1 - position]
            if next_step != pool_step * pool_count:
                return None
            pool_count, position = pool_count * next_count, position + 1
        result.append(pool_step)
        pool_count //= count
        pool_step *= count
    return tuple(reversed(result))
