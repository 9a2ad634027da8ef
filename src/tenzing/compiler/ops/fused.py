"""A group of operations over one tile shape that the chip runs without leaving SBUF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenzing.compiler.graph import Array, Graph, GraphError, Op, Shape, TensorType, Work
from tenzing.compiler.ops.elementwise import expect_count
from tenzing.compiler.reference import evaluate


@dataclass(frozen=True)
class Access:
    """A strided reading of a dense row-major tensor, in elements.

    The last dim of ``shape`` runs along the columns of the tile, the others along its rows; a
    stride of 0 repeats.
    """

    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def tile(self) -> Shape:
        """Rows and columns that the access covers."""
        return math.prod(self.shape[:-1]), self.shape[-1]

    @property
    def last_element(self) -> int:
        """The largest element index that the access touches."""
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((size - 1) * stride for size, stride in steps)

    @property
    def distinct(self) -> int:
        """Number of elements read when repeats are read once."""
        steps = zip(self.shape, self.strides, strict=True)
        return math.prod(size for size, stride in steps if stride)

    def read(self, array: Array) -> Array:
        """The elements as a [rows, columns] array."""
        flat = np.ascontiguousarray(array).reshape(-1)[self.offset :]
        step = [stride * array.dtype.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(flat, self.shape, step, writeable=False)
        return view.reshape(self.tile)

    def __str__(self) -> str:
        start = f"+{self.offset}" if self.offset else ""
        return f"{'x'.join(map(str, self.shape))}@{','.join(map(str, self.strides))}{start}"


@dataclass(frozen=True)
class Fused(Op, name="fused"):
    """``body`` applied to tiles of ``rows`` by ``columns``.

    Every body input is [rows, columns], [rows, 1], [1, columns] or [1, 1] and reads its tensor
    through its access; every body output is [rows, columns] or [rows, 1] and is stored densely
    with the shape in ``shapes``.  Rows are independent of each other, so any cut along rows is
    allowed: rows are the candidates for partitions, columns are the free dim.
    """

    rows: int
    columns: int
    accesses: tuple[Access, ...]
    shapes: tuple[Shape, ...]
    body: Graph

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The outer shapes with the dtypes of the body's outputs."""
        expect_count(self.name, inputs, len(self.accesses))
        triples = zip(inputs, self.accesses, self.body.inputs, strict=True)
        for operand, access, value in triples:
            self._check_input(operand, access, value.type)
        results = []
        for shape, value in zip(self.shapes, self.body.outputs, strict=True):
            if value.shape not in ((self.rows, self.columns), (self.rows, 1)):
                raise GraphError("fused output is no tile", got=value)
            if math.prod(shape) != math.prod(value.shape):
                raise GraphError("fused output changes its elements", got=shape, allowed=value)
            results.append(TensorType(shape, value.dtype))
        return tuple(results)

    def _check_input(self, operand: TensorType, access: Access, inside: TensorType) -> None:
        allowed = {(r, c) for r in (1, self.rows) for c in (1, self.columns)}
        if access.tile != inside.shape or inside.shape not in allowed:
            raise GraphError("fused input is no tile", got=f"{access} for {inside}")
        if operand.dtype != inside.dtype:
            raise GraphError("fused input dtype", got=operand, allowed=inside)
        if min(access.strides, default=0) < 0 or access.last_element >= operand.elements:
            raise GraphError("fused access leaves its tensor", got=str(access), allowed=operand)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """The body's nodes one after another, each rounded to its dtype."""
        tiles = [access.read(a) for access, a in zip(self.accesses, inputs, strict=True)]
        results = evaluate(self.body, dict(zip(self.body.inputs, tiles, strict=True)))
        return tuple(r.reshape(s) for r, s in zip(results, self.shapes, strict=True))

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """The body's arithmetic."""
        total = Work()
        for node in self.body.nodes:
            types = [v.type for v in node.inputs], [v.type for v in node.outputs]
            total += node.op.arithmetic(*types)
        return total

    def work(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """Arithmetic of the body; memory traffic only at the group's edge."""
        read = sum(
            access.distinct * operand.dtype.itemsize
            for access, operand in zip(self.accesses, inputs, strict=True)
        )
        written = sum(t.size_bytes for t in outputs)
        return self.arithmetic(inputs, outputs) + Work(read_bytes=read, write_bytes=written)

    @property
    def attrs(self) -> dict[str, Any]:
        """Tile, accesses as text, and the body."""
        tile = f"{self.rows}x{self.columns}"
        return {"tile": tile, "reads": tuple(map(str, self.accesses)), "body": self.body}
