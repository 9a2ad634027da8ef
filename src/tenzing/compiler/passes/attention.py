"""Recognises attention written out as products and a softmax, and repeated key heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tenzing.compiler.graph import (
    BOOL,
    Graph,
    GraphBuilder,
    Node,
    Shape,
    TensorType,
    Value,
    is_float,
    rewrite,
)
from tenzing.compiler.ops import (
    Add,
    Attention,
    BroadcastInDim,
    Compare,
    Concatenate,
    Constant,
    Convert,
    Divide,
    DotGeneral,
    Multiply,
    Not,
    Op,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Subtract,
    Tanh,
    Transpose,
)
from tenzing.compiler.passes.bands import HIDES, MATRIX_RANK, joined, splat
from tenzing.compiler.passes.pipeline import Pass

MASK_RANK = 4


@dataclass
class Scores:
    """What stands between a softmax and the product of q and k."""

    product: Node
    scale: float
    soft_cap: float
    masks: list[Value]
    lead: Shape  # batch and heads
    sink: Value | None = None  # [..., queries, 1]: a score of its own that gives nothing


@dataclass(frozen=True)
class RecogniseAttention(Pass):
    """``softmax(scale * q kT + mask) v`` as one operation, when nobody else reads the middle.

    Masks may be added or selected by; converts, a soft cap and reshapes of the leading dims may
    stand between. A sink, one more column of scores whose share is dropped behind the softmax,
    becomes a row of zeros ahead of k and v, which one more column of q and k gives its score.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users = {value: len(nodes) for value, nodes in graph.users().items()}
        users.update((value, 2) for value in graph.outputs)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            if isinstance(node.op, Attention):
                return _rescaled(builder, node.op, inputs)
            if not isinstance(node.op, DotGeneral):
                return None
            sides, kind = _sides(node.op, inputs), node.output.type
            if sides == "plain":
                return _attended(builder, users, inputs, kind)
            if sides == "turned":  # v times the probabilities: the result lies on its side
                swapped = kind.with_shape((*kind.shape[:-2], kind.shape[-1], kind.shape[-2]))
                pair = inputs[1], _with_swapped_tail(builder, inputs[0])
                found = _attended(builder, users, pair, swapped)
                return found and (_with_swapped_tail(builder, found[0]),)
            return None

        return rewrite(graph, rule)


def _rescaled(
    builder: GraphBuilder, op: Attention, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """Attention that takes over a factor of its queries."""
    q, factor = _unscaled(builder, inputs[0])
    if factor == 1.0:
        return None
    return builder.emit(replace(op, scale=op.scale * factor), q, *inputs[1:])


def _attended(
    builder: GraphBuilder, users: dict[Value, int], pair: Sequence[Value], kind: TensorType
) -> tuple[Value, ...] | None:
    """Attention of this type in place of the product of probabilities with v."""
    walk = _Walk(builder, users)
    softmax = walk.to_softmax(pair[0])
    if softmax is None:
        return None
    value, sink = (
        _beside_sink(builder, softmax.inputs[0]) if walk.cut else (softmax.inputs[0], None)
    )
    scores = _Walk(builder, users).to_product(value)
    if scores is None or (walk.cut and sink is None):
        return None
    return _attention(builder, kind, replace(scores, sink=sink), pair[1])


def _sides(op: DotGeneral, inputs: Sequence[Value]) -> str:
    """``plain`` for [lead, M, K] x [lead, K, N], ``turned`` when the right is [lead, N, K]."""
    lead = len(inputs[0].shape) - MATRIX_RANK
    dims = tuple(range(lead))
    if lead not in (1, 2) or len(inputs[1].shape) != lead + MATRIX_RANK or op.batch != (dims, dims):
        return ""
    left, right = op.contract
    if left != (lead + 1,) or len(right) != 1:
        return ""
    return "turned" if right[0] == lead + 1 else "plain"


@dataclass
class _Walk:
    """Steps from a softmax back to its operands through values that have one reader."""

    builder: GraphBuilder
    users: dict[Value, int]
    scale: float = 1.0
    soft_cap: float = 0.0
    masks: list[Value] = field(default_factory=list)
    lead: Shape = ()
    cut: bool = False  # whether the last column behind the softmax is dropped

    def to_softmax(self, value: Value) -> Node | None:
        """The softmax behind converts and reshapes."""
        node = self._private(value)
        while node is not None and not isinstance(node.op, Softmax):
            if isinstance(node.op, Select):
                return self._to_guarded(node)
            drops = not self.cut and _drops_last_column(node)
            self.cut = self.cut or drops
            if not drops and not isinstance(node.op, Convert) and not _keeps_matrix(node):
                return None
            node = self._private(node.inputs[0])
        return node

    def _to_guarded(self, node: Node) -> Node | None:
        """The softmax whose NaNs become zero: rows that see no key, which attention has too."""
        test, zero, kept = self.builder.maker(node.inputs[0]), *node.inputs[1:]
        softmax = self.builder.maker(kept)
        if test is None or softmax is None or not isinstance(softmax.op, Softmax):
            return None
        is_nan = isinstance(test.op, Compare) and test.op.direction == "ne"
        guards = is_nan and test.inputs == (kept, kept) and splat(self.builder, zero) == 0.0
        return softmax if guards and self.users.get(kept) == len((test, node)) else None

    def to_product(self, value: Value) -> Scores | None:
        """The product of q and k, and what is done to it."""
        while True:
            if len(value.shape) == MASK_RANK:
                self.lead = value.shape[:MATRIX_RANK]
            node = self._private(value)
            if node is None:
                return None
            if isinstance(node.op, DotGeneral):
                return Scores(node, self.scale, self.soft_cap, self.masks, self.lead)
            following = self._through(node)
            if following is None:
                return None
            value = following

    def _private(self, value: Value) -> Node | None:
        node = self.builder.maker(value)
        return node if node is not None and self.users.get(value) == 1 else None

    def _through(self, node: Node) -> Value | None:
        """The scores before ``node``; None when it is nothing that attention does."""
        op = node.op
        if isinstance(op, Convert):
            return node.inputs[0] if is_float(node.inputs[0].dtype) else None
        if _keeps_matrix(node):
            return node.inputs[0]
        if isinstance(op, Add):
            return self._masked(node)
        if isinstance(op, Select):
            return self._selected(node)
        if isinstance(op, Multiply | Divide):
            return self._scaled(node)
        return None

    def _masked(self, node: Node) -> Value | None:
        if self.scale != 1.0 or self.soft_cap:
            return None  # a mask under the scale would need scaling too
        for scores, mask in (node.inputs, node.inputs[::-1]):
            if self._leads_to_product(scores):
                self.masks.append(mask)
                return scores
        return None

    def _selected(self, node: Node) -> Value | None:
        chosen, yes, no = node.inputs
        if self.scale != 1.0 or self.soft_cap:
            return None
        for scores, other, hidden in ((yes, no, False), (no, yes, True)):
            number = splat(self.builder, other)
            if number is not None and number <= HIDES:
                self.masks.append(self.builder.add(Not(), chosen) if hidden else chosen)
                return scores
        return None

    def _scaled(self, node: Node) -> Value | None:
        """A factor, or the soft cap: cap * tanh(scores / cap)."""
        left, right = node.inputs
        factor = splat(self.builder, right)
        if factor is None and isinstance(node.op, Multiply):
            left, factor = right, splat(self.builder, left)
        if not factor:
            return None
        inner = self._private(left)
        if inner is not None and isinstance(inner.op, Tanh) and isinstance(node.op, Multiply):
            if self.soft_cap or self.scale != 1.0:
                return None
            self.soft_cap = factor
            before = self._private(inner.inputs[0])
            if before is None or not isinstance(before.op, Multiply | Divide):
                return None
            value = self._scaled(before)
            self.scale *= factor
            return value
        self.scale *= factor if isinstance(node.op, Multiply) else 1 / factor
        return left

    def _leads_to_product(self, value: Value) -> bool:
        """Whether a chain of one-operand steps leads from ``value`` to a product."""
        node = self._private(value)
        while node is not None and not isinstance(node.op, DotGeneral):
            if isinstance(node.op, Add):
                return any(self._leads_to_product(v) for v in node.inputs)
            if not isinstance(node.op, Convert | Multiply | Divide | Reshape | Tanh | Select):
                return False
            wide = [v for v in node.inputs if splat(self.builder, v) is None and v.dtype != BOOL]
            node = self._private(wide[0]) if wide else None
        return node is not None


def _attention(
    builder: GraphBuilder, kind: TensorType, scores: Scores, v: Value
) -> tuple[Value, ...] | None:
    q, k = scores.product.inputs
    op = scores.product.op
    assert isinstance(op, DotGeneral)
    sides = _sides(op, (q, k))
    if not sides or not q.dtype == k.dtype == v.dtype or not is_float(q.dtype):
        return None
    if len(scores.masks) > 1 and len({m.dtype for m in scores.masks}) > 1:
        return None
    k, key_factor = _unscaled(builder, k)
    if sides == "plain":
        k = _with_swapped_tail(builder, k)
    lead = scores.lead or (1, q.shape[0])
    q, k, v = (_with_lead(builder, x, lead) for x in (q, k, v))
    q, factor = _unscaled(builder, q)
    scale, heads = scores.scale * factor * key_factor, lead[1]
    mask = _total(builder, [_small_mask(builder, m, lead) for m in scores.masks])
    if scores.sink is not None:
        if scores.soft_cap or not scale:
            return None
        k, v = _before_repetition(builder, k, v)
        q, k, v, *mask = _with_sink(
            builder, (q, k, v), mask, _with_lead(builder, scores.sink, lead), scale
        )
    attention = Attention(scale, heads, k.shape[1], out_dtype=kind.dtype, soft_cap=scores.soft_cap)
    result = builder.add(attention, q, k, v, *mask)
    return (_shaped(builder, result, kind.shape),)


def _drops_last_column(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Slice):
        return False
    shape = node.inputs[0].shape
    return op == Slice((0,) * len(shape), (*shape[:-1], shape[-1] - 1), (1,) * len(shape))


def _beside_sink(builder: GraphBuilder, value: Value) -> tuple[Value, Value | None]:
    """The scores and the sink that are joined to ``value``; the row's maximum may be taken off."""
    node = builder.maker(value)
    if node is not None and isinstance(node.op, Subtract):
        top = builder.maker(node.inputs[1])
        while top is not None and isinstance(top.op, BroadcastInDim | Reshape):
            top = builder.maker(top.inputs[0])
        last = (len(value.shape) - 1,)
        if top is None or top.op != Reduce("maximum", last) or top.inputs != node.inputs[:1]:
            return value, None
        node = builder.maker(node.inputs[0])
    if node is not None and isinstance(node.op, Convert) and is_float(node.inputs[0].dtype):
        node = builder.maker(node.inputs[0])
    if node is None or node.op != Concatenate(len(value.shape) - 1):
        return value, None
    scores, *others = node.inputs
    return (scores, others[0]) if [o.shape[-1] for o in others] == [1] else (value, None)


def _before_repetition(builder: GraphBuilder, k: Value, v: Value) -> tuple[Value, Value]:
    """k and v before query heads that share them repeated both."""
    sources = _repeated(builder, k), _repeated(builder, v)
    if sources[0] is None or sources[1] is None or sources[0].shape[1] != sources[1].shape[1]:
        return k, v
    return sources[0], sources[1]


def _with_sink(
    builder: GraphBuilder, operands: tuple[Value, Value, Value], mask: list[Value], sink: Value,
    scale: float,
) -> list[Value]:  # fmt: skip
    """q, k, v and mask with the sink as key 0: a row of zeros, scored by a further column."""
    rows, columns = MASK_RANK - MATRIX_RANK, MASK_RANK - 1
    q, *pair = operands

    def filled(number: float, shape: Shape, dtype: np.dtype[Any]) -> Value:
        return builder.add(Constant.splat(number, shape, dtype))

    k, v = (
        builder.add(
            Concatenate(rows), filled(0, (*x.shape[:rows], 1, x.shape[columns]), x.dtype), x
        )
        for x in pair
    )
    lead, keys = k.shape[:rows], k.shape[rows]
    flag = builder.add(
        Concatenate(rows),
        filled(1, (*lead, 1, 1), k.dtype),
        filled(0, (*lead, keys - 1, 1), k.dtype),
    )
    score = sink if sink.dtype == q.dtype else builder.add(Convert(q.dtype), sink)
    score = builder.add(Multiply(), score, filled(1 / scale, score.shape, score.dtype))
    found = [
        builder.add(Concatenate(columns), q, score),
        builder.add(Concatenate(columns), k, flag),
        v,
    ]
    for hiding in mask:
        wide = (*hiding.shape[:columns], keys - 1)
        if hiding.shape != wide:
            hiding = builder.add(BroadcastInDim(wide, tuple(range(MASK_RANK))), hiding)
        seen = filled(hiding.dtype == BOOL, (*wide[:columns], 1), hiding.dtype)
        found.append(builder.add(Concatenate(columns), seen, hiding))
    return found


def _with_swapped_tail(builder: GraphBuilder, x: Value) -> Value:
    """``x`` with its last two dims exchanged, by undoing a transpose if there is one."""
    rank = len(x.shape)
    order = (*range(rank - MATRIX_RANK), rank - 1, rank - 2)
    node = builder.maker(x)
    if node is not None and _keeps_matrix(node):
        inner = _with_swapped_tail(builder, node.inputs[0])
        return _shaped(builder, inner, tuple(x.shape[d] for d in order))
    if node is None or not isinstance(node.op, Transpose):
        return builder.add(Transpose(order), x)
    whole = tuple(node.op.permutation[d] for d in order)
    source = node.inputs[0]
    return source if whole == tuple(range(rank)) else builder.add(Transpose(whole), source)


def _with_lead(builder: GraphBuilder, x: Value, lead: Shape) -> Value:
    return _shaped(builder, x, (*lead, *x.shape[-MATRIX_RANK:]))


def _shaped(builder: GraphBuilder, x: Value, shape: Shape) -> Value:
    node = builder.maker(x)
    if node is not None and isinstance(node.op, Reshape):
        x = node.inputs[0]
    return x if x.shape == shape else builder.add(Reshape(shape), x)


def _unscaled(builder: GraphBuilder, q: Value) -> tuple[Value, float]:
    """q before a multiplication by one number, and that number; it may lie in another form then."""
    node = builder.maker(q)
    if node is not None and isinstance(node.op, Reshape | Transpose):
        inner, factor = _unscaled(builder, node.inputs[0])
        return (q, 1.0) if factor == 1.0 else (builder.add(node.op, inner), factor)
    if node is None or not isinstance(node.op, Multiply | Divide):
        return q, 1.0
    number = splat(builder, node.inputs[1])
    if not number:
        return q, 1.0
    return node.inputs[0], number if isinstance(node.op, Multiply) else 1 / number


def _small_mask(builder: GraphBuilder, mask: Value, lead: Shape) -> Value:
    """A mask of rank 4 without the dims it only repeats along."""
    if len(mask.shape) > MASK_RANK:  # windows of images apart from the images
        return builder.add(Reshape((*lead, *_tail(mask.shape))), mask)
    node = builder.maker(mask)
    while node is not None and isinstance(node.op, BroadcastInDim | Convert):
        source = node.inputs[0]
        first = len(mask.shape) - len(source.shape)
        if isinstance(node.op, Convert):
            if not is_float(source.dtype):
                break
        elif node.op.dims != tuple(range(first, len(mask.shape))):
            mask = _unrepeated(builder, mask, node)
            break
        mask, node = source, builder.maker(source)
        if first:
            break
    if len(mask.shape) < MASK_RANK:
        batch = mask.shape[0] if len(mask.shape) > MATRIX_RANK else 1
        full = lead if batch == math.prod(lead) else (1, batch)  # one per head, or for all
        return _shaped(builder, mask, (*full, *_tail(mask.shape)))
    return mask


def _unrepeated(builder: GraphBuilder, mask: Value, node: Node) -> Value:
    """What a broadcast to rank 4 repeats, with dims of one where it repeats it."""
    if len(mask.shape) != MASK_RANK or not isinstance(node.op, BroadcastInDim):
        return mask
    (source,) = node.inputs
    sizes = dict(zip(node.op.dims, source.shape, strict=True))
    return _shaped(builder, source, tuple(sizes.get(d, 1) for d in range(MASK_RANK)))


def _tail(shape: Shape) -> Shape:
    return (1,) * (MATRIX_RANK - len(shape)) + shape[-MATRIX_RANK:]


def _total(builder: GraphBuilder, masks: list[Value]) -> list[Value]:
    """All masks as one, or none."""
    return [joined(builder, masks)] if masks else []


def _keeps_matrix(node: Node) -> bool:
    if not isinstance(node.op, Reshape):
        return False
    return node.inputs[0].shape[-MATRIX_RANK:] == node.outputs[0].shape[-MATRIX_RANK:]


@dataclass(frozen=True)
class ShareKeyHeads(Pass):
    """Let query heads share a key head instead of repeating it: [B, KV, n, S, D] flattened."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            op: Op = node.op
            if not isinstance(op, Attention) or op.packed or op.kv_heads != op.heads:
                return None
            sources = [_repeated(builder, x) for x in inputs[1:3]]
            if sources[0] is None or sources[1] is None:
                return None
            k, v = sources[0], sources[1]
            if k.shape[1] != v.shape[1]:
                return None
            shared = replace(op, kv_heads=k.shape[1])
            return builder.emit(shared, inputs[0], k, v, *inputs[3:])

        return rewrite(graph, rule)


def _repeated(builder: GraphBuilder, x: Value) -> Value | None:
    """The [B, KV, S, D] behind [B, KV * n, S, D]."""
    convert: Convert | None = None
    node = builder.maker(x)
    if node is not None and isinstance(node.op, Convert):
        convert, node = node.op, builder.maker(node.inputs[0])
    if node is None or not isinstance(node.op, Reshape):
        return None
    node = builder.maker(node.inputs[0])
    if node is None or not isinstance(node.op, BroadcastInDim):
        return None
    batch, kv_heads, times, *rest = wide = node.op.shape
    if len(wide) != MASK_RANK + 1 or (batch, kv_heads * times, *rest) != x.shape:
        return None
    source = node.inputs[0]
    if node.op.dims == (0, 1, 3, 4):
        fits = source.shape == (batch, kv_heads, *rest)
    else:
        fits = source.shape == (batch, kv_heads, 1, *rest)
    if not fits:
        return None
    found = _shaped(builder, source, (batch, kv_heads, *rest))
    return found if convert is None else builder.add(convert, found)
