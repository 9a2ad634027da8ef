"""Masks that positions alone decide become the band of the attention, which needs no mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tenzing.compiler.graph import BOOL, Array, Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import (
    Abs,
    Add,
    And,
    Attention,
    BroadcastInDim,
    Compare,
    Constant,
    Convert,
    Iota,
    Negate,
    Not,
    Reshape,
    Select,
    Subtract,
)
from tenzing.compiler.passes.pipeline import Pass

MATRIX_RANK = 2  # the last two dims of a mask are queries and keys
MASK_INPUT = 3
HIDES = -1e30  # a number this low added to a score hides it
FLIPPED = {"le": "ge", "lt": "gt", "ge": "le", "gt": "lt", "eq": "eq", "ne": "ne"}
OPPOSITE = {"le": "gt", "lt": "ge", "ge": "lt", "gt": "le", "eq": "ne", "ne": "eq"}


@dataclass(frozen=True)
class Limits:
    """Query q sees keys q - ``before`` to q + ``after``; None is no limit."""

    before: int | None = None
    after: int | None = None

    def __and__(self, other: Limits) -> Limits:
        return Limits(_least(self.before, other.before), _least(self.after, other.after))

    @property
    def nothing(self) -> bool:
        """Whether no query can see any key."""
        return self.before is not None and self.after is not None and self.before + self.after < 0

    @property
    def opposite(self) -> Limits | None:
        """What these limits hide, when that is a band too."""
        if self.before is None and self.after is not None:
            return Limits(-self.after - 1, None)
        if self.after is None and self.before is not None:
            return Limits(None, -self.before - 1)
        return None

    @classmethod
    def of(cls, op: Attention) -> Limits:
        """The limits an operation has already."""
        before = op.window - 1 - op.offset if op.window else None
        wide = op.window - 1 + op.offset if op.window else None
        return cls(before, op.offset if op.causal else wide)

    def on(self, op: Attention, keys: int) -> Attention:
        """The operation with these limits."""
        if self == Limits():
            return replace(op, causal=False, window=0, offset=0)
        after = keys if self.after is None else self.after
        window = after + self.before + 1 if self.before is not None else 0
        return replace(op, causal=True, window=window, offset=after)


def _least(one: int | None, other: int | None) -> int | None:
    return min((x for x in (one, other) if x is not None), default=None)


@dataclass(frozen=True)
class MasksAsBands(Pass):
    """Split masks into what positions decide and the rest, which keeps its unit dims.

    Understands conjunctions of comparisons of query and key positions, constants with the shape of
    a band, and numbers to add that are zero or hide.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if not isinstance(node.op, Attention) or len(inputs) <= MASK_INPUT:
                return None
            mask = inputs[MASK_INPUT]
            found, rest = _split(builder, mask)
            limits = found & Limits.of(node.op)
            if rest == [mask] or limits.nothing:
                return None
            keys = node.op.sizes(*(v.shape for v in inputs[:MASK_INPUT])).keys
            op = limits.on(node.op, keys)
            masks = [joined(builder, rest)] if rest else []
            return builder.emit(op, *inputs[:MASK_INPUT], *masks)

        return rewrite(graph, rule)


def _split(builder: GraphBuilder, mask: Value) -> tuple[Limits, list[Value]]:
    """The limits in a mask, and the parts of it that are none."""
    limits, rest = Limits(), []
    for part in _parts(builder, mask):
        if mask.dtype == BOOL:
            found = _limits(builder, part)
        else:
            found = _added_limits(builder, part, mask.shape)
            if found is None and (pair := _band_of_keys(builder, part)) is not None:
                found = pair[0]
                rest.append(pair[1])
        if found is None:
            rest.append(part)
        else:
            limits = limits & found
    return limits, rest


def _parts(builder: GraphBuilder, value: Value) -> Iterable[Value]:
    """What is joined by ``and`` or added, behind broadcasts that keep the rank."""
    node = builder.maker(value)
    kind = And if value.dtype == BOOL else Add
    if node is not None and isinstance(node.op, kind):
        for source in node.inputs:
            yield from _parts(builder, source)
    elif node is not None and isinstance(node.op, BroadcastInDim):
        source = node.inputs[0]
        if len(source.shape) == len(value.shape):
            yield from _parts(builder, source)
        else:
            yield value
    else:
        yield value


def joined(builder: GraphBuilder, parts: list[Value]) -> Value:
    """The parts as one mask of the smallest shape that holds all."""
    shape = tuple(max(sizes) for sizes in zip(*(p.shape for p in parts), strict=True))
    wide = [
        p if p.shape == shape else builder.add(BroadcastInDim(shape, tuple(range(len(shape)))), p)
        for p in parts
    ]
    total = wide[0]
    for other in wide[1:]:
        total = builder.add(And() if total.dtype == BOOL else Add(), total, other)
    return total


def _added_limits(builder: GraphBuilder, value: Value, shape: tuple[int, ...]) -> Limits | None:
    """Limits of numbers to add that are zero where a key is seen and hide it elsewhere.

    Only when every query sees a key: a row of numbers that hide attends to all keys alike.
    """
    node = builder.maker(value)
    limits: Limits | None = None
    if node is None:
        return None
    if isinstance(node.op, Constant):
        array = node.op.array.astype(np.float64)
        if ((array == 0) | (array <= HIDES)).all():
            limits = _constant_limits(array == 0)
    elif isinstance(node.op, Select):
        yes, no = (splat(builder, v) for v in node.inputs[1:])
        if yes == 0 and no is not None and no <= HIDES:
            limits = _all_limits(builder, node.inputs[0])
        elif no == 0 and yes is not None and yes <= HIDES:
            found = _all_limits(builder, node.inputs[0])
            limits = found.opposite if found is not None else None
    queries, keys = shape[-2:]
    if limits is None or not _each_sees_one(limits, queries, keys):
        return None
    return limits


def _band_of_keys(builder: GraphBuilder, value: Value) -> tuple[Limits, Value] | None:
    """Limits and one number for each key, when a constant adds them where a key is seen.

    So positions by slopes (ALiBi) come, repeated for queries or joined with a mask of keys.
    """
    node = builder.maker(value)
    while node is not None and isinstance(node.op, Reshape):
        node = builder.maker(node.inputs[0])
    if node is None or not isinstance(node.op, Constant) or len(value.shape) < MATRIX_RANK:
        return None
    array = node.op.array.reshape(value.shape)
    seen = array > HIDES
    limits = _constant_limits(seen)
    if limits is None or not _each_sees_one(limits, *value.shape[-2:]):
        return None
    keys = np.where(seen, array, -np.inf).max(axis=-2, keepdims=True)
    if not (np.where(seen, array, keys) == keys).all():
        return None
    keys[np.isneginf(keys)] = 0  # of a key that no query sees
    for dim in range(keys.ndim):
        first = keys.take([0], axis=dim)
        keys = first if (keys == first).all() else keys
    if keys.shape == value.shape:
        return None
    return limits, builder.add(Constant.of(keys.astype(value.dtype)))


def _all_limits(builder: GraphBuilder, value: Value) -> Limits | None:
    total = Limits()
    for part in _parts(builder, value):
        found = _limits(builder, part)
        if found is None:
            return None
        total = total & found
    return total


def _each_sees_one(limits: Limits, queries: int, keys: int) -> bool:
    first = 0 if limits.after is None else limits.after
    last = 0 if limits.before is None else queries - 1 - limits.before
    return first >= 0 and last < keys and not limits.nothing


def _limits(builder: GraphBuilder, value: Value) -> Limits | None:
    """Limits of a boolean value; None when it is not a band."""
    node = builder.maker(value)
    if node is None:
        return None
    if isinstance(node.op, Constant):
        return _constant_limits(node.op.array)
    if isinstance(node.op, Not):
        found = _all_limits(builder, node.inputs[0])
        return found.opposite if found is not None else None
    if isinstance(node.op, BroadcastInDim | Reshape) and _keeps_matrix(node):
        return _all_limits(builder, node.inputs[0])
    if isinstance(node.op, Compare):
        return _compared(builder, node.op.direction, *node.inputs)
    return None


def _constant_limits(array: Array) -> Limits | None:
    """Limits of a constant that is a band in its last two dims, the same in all others."""
    if array.all():
        return Limits()
    if array.ndim < MATRIX_RANK or not array.any():
        return None
    flat = array.reshape(-1, *array.shape[-2:])
    seen = flat[0]
    if not (flat == seen).all():
        return None
    queries, keys = seen.shape
    apart = np.arange(keys) - np.arange(queries)[:, None]
    after, before = int(apart[seen].max()), -int(apart[seen].min())
    if not (seen == ((apart <= after) & (apart >= -before))).all():
        return None
    return Limits(before if before < queries - 1 else None, after if after < keys - 1 else None)


def _compared(builder: GraphBuilder, direction: str, one: Value, other: Value) -> Limits | None:
    """Limits behind a comparison of positions, or of their distance with a number."""
    near = _distance(builder, direction, one, other)
    if near is not None:
        return near
    left, right = _line(builder, one), _line(builder, other)
    if left is None or right is None:
        return None
    query, key, shift = (a - b for a, b in zip(left, right, strict=True))
    if (query, key) == (1, -1):
        query, key, shift, direction = -query, -key, -shift, FLIPPED[direction]
    if (query, key) != (-1, 1):
        return None
    table = {
        "le": Limits(None, -shift), "lt": Limits(None, -shift - 1),
        "ge": Limits(shift, None), "gt": Limits(shift - 1, None), "eq": Limits(shift, -shift),
    }  # fmt: skip
    return table.get(direction)


def _distance(builder: GraphBuilder, direction: str, one: Value, other: Value) -> Limits | None:
    """``|query - key| <= number``."""
    node, number = builder.maker(one), splat(builder, other)
    if number is None or node is None or direction not in ("le", "lt"):
        return None
    while isinstance(node.op, BroadcastInDim | Reshape) and _keeps_matrix(node):
        node = builder.maker(node.inputs[0])
        if node is None:
            return None
    line = _line(builder, node.inputs[0]) if isinstance(node.op, Abs) else None
    if line not in ((1, -1, 0), (-1, 1, 0)):
        return None
    limit = int(np.ceil(number)) - 1 if direction == "lt" else int(np.floor(number))
    return Limits(limit, limit)


Line = tuple[int, int, int]  # a * query + b * key + c


def _line(builder: GraphBuilder, value: Value) -> Line | None:
    """A value as a linear form of the positions along its last two dims."""
    node = builder.maker(value)
    if node is None or value.dtype.kind not in "iu":
        return None
    op = node.op
    if isinstance(op, Constant):
        return _constant_line(op)
    if isinstance(op, Iota):
        along = op.dim - len(op.shape)
        return {-1: (0, 1, 0), -2: (1, 0, 0)}.get(along)
    if isinstance(op, BroadcastInDim | Reshape):
        return _line(builder, node.inputs[0]) if _keeps_matrix(node) else None
    if isinstance(op, Negate):
        inner = _line(builder, node.inputs[0])
        return None if inner is None else (-inner[0], -inner[1], -inner[2])
    if isinstance(op, Add | Subtract):
        one, other = (_line(builder, v) for v in node.inputs)
        if one is None or other is None:
            return None
        sign = 1 if isinstance(op, Add) else -1
        return one[0] + sign * other[0], one[1] + sign * other[1], one[2] + sign * other[2]
    return None


def _constant_line(op: Constant) -> Line | None:
    array = op.array
    if op.is_splat:
        return (0, 0, int(op.number))
    for along, line in ((-1, (0, 1)), (-2, (1, 0))):
        if array.ndim < -along or array.shape[along] != array.size:
            continue
        flat = array.reshape(-1).astype(np.int64)
        if (flat == np.arange(flat.size) + flat[0]).all():
            return (*line, int(flat[0]))
    return None


def _keeps_matrix(node: Node) -> bool:
    """Whether a broadcast or reshape leaves the last two dims where they are."""
    source, result = node.inputs[0].shape, node.outputs[0].shape
    if isinstance(node.op, BroadcastInDim):
        first = len(result) - len(source)
        return node.op.dims == tuple(range(first, len(result)))
    short = min(len(source), len(result), MATRIX_RANK)
    leading = source[:-short] + result[:-short]
    return source[-short:] == result[-short:] and all(n == 1 for n in leading)


def splat(builder: GraphBuilder, value: Value) -> float | None:
    """The number that a constant repeats everywhere; None when it is something else."""
    node = builder.maker(value)
    while node is not None and isinstance(node.op, BroadcastInDim | Convert | Reshape):
        node = builder.maker(node.inputs[0])
    return node.op.number if node and isinstance(node.op, Constant) and node.op.is_splat else None
