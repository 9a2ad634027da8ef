"""How a cut passes through operations that move elements; None where it does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tenzing.compiler.graph import Op, Shape
from tenzing.compiler.ops import BroadcastInDim, Reduce, Reshape, Slice, Transpose
from tenzing.compiler.passes.sharding.layout import Section, Split

Moved = tuple[Op, Split] | None


def moved(op: Op, shape: Shape, split: Split) -> Moved:
    """The operation on one part of a tensor of ``shape``, and how its result is cut."""
    if isinstance(op, Transpose):
        return op, replace(split, dim=op.permutation.index(split.dim))
    if isinstance(op, Reduce) and split.dim not in op.dims:
        return op, replace(split, dim=split.dim - sum(dim < split.dim for dim in op.dims))
    if isinstance(op, Slice):
        return _slice(op, shape, split)
    if isinstance(op, Reshape):
        return _reshape(op, shape, split)
    if isinstance(op, BroadcastInDim):
        dim = op.dims[split.dim]
        if op.shape[dim] == shape[split.dim]:
            cut = replace(split, dim=dim)
            return BroadcastInDim(cut.local(op.shape), op.dims), cut
    return None


def _slice(op: Slice, shape: Shape, split: Split) -> Moved:
    d = split.dim
    start, limit = list(op.start), list(op.limit)
    if op.stride[d] != 1:
        return None
    edges = [int(e) for e in np.cumsum([0, *(s.size for s in split.sections)])]
    if start[d] not in edges or limit[d] not in edges:
        return None
    first, last = edges.index(start[d]), edges.index(limit[d])
    steps = [int(e) for e in np.cumsum([0, *(s.step for s in split.sections)])]
    start[d], limit[d] = steps[first], steps[last]
    kept = replace(split, sections=split.sections[first:last])
    return Slice(tuple(start), tuple(limit), op.stride), kept


def _reshape(op: Reshape, old: Shape, split: Split) -> Moved:
    """The cut dim must be the slow part of the dims it is cut into or joined from."""
    before = math.prod(old[: split.dim])
    for dim in range(len(op.shape)):
        if math.prod(op.shape[:dim]) != before:
            continue
        for cut in _landed(split, old, op.shape, dim):
            return Reshape(cut.local(op.shape)), cut
    return None


def _landed(split: Split, old: Shape, new: Shape, dim: int) -> list[Split]:
    """The cut at ``dim`` of the new shape, if it can be there."""
    size = split.size
    if _is_product(old[split.dim :], new[dim]):  # kept, or joined with faster dims
        grown = [_scaled(s, new[dim] // size, 1) for s in split.sections]
        return [Split(dim, tuple(grown), split.axes)]
    if not _is_product(new[dim:], size):
        return []
    equal = len(split.sections) > 1 and len({*split.sections}) == 1
    if equal and new[dim] == len(split.sections):  # [3 x heads x width] as [3, heads x width]
        one = replace(split, sections=split.sections[:1])
        return _landed(one, (*old[: split.dim], one.size), new, dim + 1)
    inner = size // new[dim]
    if any(s.size % inner or s.step % inner or (s.padded and s.unit % inner)
           for s in split.sections):  # fmt: skip
        return []
    return [Split(dim, tuple(_scaled(s, 1, inner) for s in split.sections), split.axes)]


def _scaled(section: Section, times: int, over: int) -> Section:
    unit = section.unit * times // over if section.unit * times % over == 0 else 1
    return Section(section.size * times // over, section.parts, max(unit, 1))


def _is_product(shape: Shape, size: int) -> bool:
    """Whether the first dims multiply to ``size``."""
    total = 1
    for n in shape:
        total *= n
        if total >= size:
            break
    return total == size


__all__ = ["moved"]
