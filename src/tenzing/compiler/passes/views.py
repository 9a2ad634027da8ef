"""Strided views: what a chain of reshapes, broadcasts, slices and transposes reads in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenzing.compiler.graph import Node, Shape, Value
from tenzing.compiler.ops import Access, BroadcastInDim, Reshape, Slice, Transpose
from tenzing.isa.operand import joined_dims

MOVEMENT = (Reshape, BroadcastInDim, Slice, Transpose)
Dim = tuple[int, int]  # size and stride, in elements
Maker = Callable[[Value], Node | None]


def dense_strides(shape: Sequence[int]) -> Shape:
    """Row-major strides in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class View:
    """Elements of ``base`` read with strides, as a tensor of ``shape``."""

    base: Value
    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def dense(cls, value: Value) -> View:
        """The value itself."""
        return cls(value, value.shape, dense_strides(value.shape))

    @property
    def merged(self) -> list[Dim]:
        """The fewest (size, stride) pairs that read the same elements in the same order."""
        return joined_dims(self.shape, self.strides)

    @property
    def is_dense(self) -> bool:
        """True when it reads all of the base once, in order."""
        elements = self.base.type.elements
        whole = [(elements, 1)] if elements > 1 else []
        return self.offset == 0 and self.merged == whole

    def reshape(self, shape: Shape) -> View | None:
        """The same elements in another shape, None when strides cannot say it."""
        strides: list[int] = []
        rest = list(self.merged)
        size, stride = rest.pop() if rest else (1, 0)
        for wanted in reversed(shape):
            if wanted == 1:
                strides.append(0)
                continue
            if size == 1 and rest:
                size, stride = rest.pop()
            if size % wanted:
                return None
            strides.append(stride)
            size, stride = size // wanted, stride * wanted
        return View(self.base, shape, tuple(reversed(strides)), self.offset)

    def through(self, node: Node) -> View | None:
        """This view seen through one more movement node."""
        op = node.op
        if isinstance(op, Reshape):
            return self.reshape(op.shape)
        if isinstance(op, Transpose):
            order = op.permutation
            shape = tuple(self.shape[d] for d in order)
            return View(self.base, shape, tuple(self.strides[d] for d in order), self.offset)
        if isinstance(op, BroadcastInDim):
            strides = [0] * len(op.shape)
            for size, stride, dim in zip(self.shape, self.strides, op.dims, strict=True):
                strides[dim] = stride if size == op.shape[dim] else 0
            return View(self.base, op.shape, tuple(strides), self.offset)
        if isinstance(op, Slice):
            start = zip(op.start, self.strides, strict=True)
            offset = self.offset + sum(first * stride for first, stride in start)
            step = zip(op.stride, self.strides, strict=True)
            strides_taken = tuple(skip * stride for skip, stride in step)
            return View(self.base, node.outputs[0].shape, strides_taken, offset)
        return None

    def access(self, columns: int) -> Access | None:
        """The view as rows of ``columns`` elements, None unless rows are dense or repeated.

        Repeats shrink to one: a row number gives 1 column, a column number 1 row.
        """
        lead, last = _split_last(self.merged, columns)
        if last is None or (last[0] > 1 and last[1] not in (0, 1)):
            return None
        if last[1] == 0:
            last = (1, 0)
        if all(stride == 0 for _, stride in lead):
            lead = []
        dims = [*(lead or [(1, 0)]), last]
        return Access(tuple(n for n, _ in dims), tuple(s for _, s in dims), self.offset)


def _split_last(dims: list[Dim], columns: int) -> tuple[list[Dim], Dim | None]:
    """Cut ``columns`` elements off the end of merged dims; the cut part must be one dim."""
    if columns == 1:
        return dims, (1, 0)
    if not dims:
        return [], None
    size, stride = dims[-1]
    if size % columns:
        return dims, None
    lead = [(size // columns, stride * columns)] if size > columns else []
    return [*dims[:-1], *lead], (columns, stride)


def view_of(value: Value, maker: Maker) -> View:
    """The longest view behind ``value``: its base is computed, an input or a parameter."""
    node = maker(value)
    if node is None or not isinstance(node.op, MOVEMENT):
        return View.dense(value)
    return view_of(node.inputs[0], maker).through(node) or View.dense(value)
