"""Recognises attention written out as products and a softmax, and repeated key heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    Convert,
    Divide,
    DotGeneral,
    Multiply,
    Not,
    Op,
    Reshape,
    Select,
    Softmax,
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


@dataclass(frozen=True)
class RecogniseAttention(Pass):
    """``softmax(scale * q kT + mask) v`` as one operation, when nobody else reads the middle.

    Masks may be added or selected by; converts, a soft cap and reshapes of the leading dims may
    stand between.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        users = {value: len(nodes) for value, nodes in graph.users().items()}
        users.update((value, 2) for value in graph.outputs)

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
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


def _attended(
    builder: GraphBuilder, users: dict[Value, int], pair: Sequence[Value], kind: TensorType
) -> tuple[Value, ...] | None:
    """Attention of this type in place of the product of probabilities with v."""
    softmax = _Walk(builder, users).to_softmax(pair[0])
    if softmax is None:
        return None
    scores = _Walk(builder, users).to_product(softmax.inputs[0])
    return None if scores is None else _attention(builder, kind, scores, pair[1])


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

    def to_softmax(self, value: Value) -> Node | None:
        """The softmax behind converts and reshapes."""
        node = self._private(value)
        while node is not None and not isinstance(node.op, Softmax):
            if isinstance(node.op, Select):
                return self._to_guarded(node)
            if not isinstance(node.op, Convert) and not _keeps_matrix(node):
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
    factor *= key_factor
    heads = lead[1]
    masks = [_small_mask(builder, m, lead) for m in scores.masks]
    mask = _total(builder, masks)
    attention = Attention(
        scores.scale * factor, heads, heads, out_dtype=kind.dtype, soft_cap=scores.soft_cap
    )
    result = builder.add(attention, q, k, v, *mask)
    return (_shaped(builder, result, kind.shape),)


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
    """q before a multiplication by one number, and that number."""
    node = builder.maker(q)
    if node is None or not isinstance(node.op, Multiply | Divide):
        return q, 1.0
    factor = splat(builder, node.inputs[1])
    if not factor:
        return q, 1.0
    return node.inputs[0], factor if isinstance(node.op, Multiply) else 1 / factor


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
