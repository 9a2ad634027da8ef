"""One rule for each operation: gradients of its inputs from those of its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import GraphBuilder, Node, Op, Value, registering
from tenzing.errors import UnsupportedOp

Given = Sequence[Value | None]
SLOPE_OF_ERF: Final = 2 / math.sqrt(math.pi)


@dataclass(frozen=True)
class Step:
    """One node of the forward pass on the way back; ``made`` are its outputs as they are kept."""

    builder: GraphBuilder
    node: Node
    made: tuple[Value, ...]
    gradients: Given

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What the node read."""
        return self.node.inputs

    @property
    def gradient(self) -> Value:
        """That of the first output."""
        found = self.gradients[0]
        assert found is not None
        return found

    def add(self, op: Op, *inputs: Value) -> Value:
        """Append an op with one output."""
        return self.builder.add(op, *inputs)

    def times(self, one: Value, other: Value | float) -> Value:
        """Product with a tensor or a number."""
        right = self.splat(other, one) if isinstance(other, int | float) else other
        return self.add(ops.Multiply(), one, right)

    def splat(self, number: float, like: Value) -> Value:
        """A constant of another value's type."""
        return self.add(ops.Constant.splat(number, like.shape, like.dtype))

    def sum(self, one: Value | None, other: Value) -> Value:
        """Of what is there and what comes."""
        return other if one is None else self.add(ops.Add(), one, other)

    def along_rows(self, value: Value) -> Value:
        """Sums over all dims but the last."""
        return self.add(ops.Reduce("add", tuple(range(len(value.shape) - 1))), value)


Rule = Callable[[Step], Given]
_TABLE: dict[str, Any] = {}


def _gradient(*kinds: type[Op]) -> Callable[[Rule], Rule]:
    return registering(_TABLE, "gradient", [kind.__qualname__ for kind in kinds])


# -- elementwise --------------------------------------------------------------------------------


@_gradient(ops.Add)
def _add(s: Step) -> Given:
    return s.gradient, s.gradient


@_gradient(ops.Subtract)
def _subtract(s: Step) -> Given:
    return s.gradient, s.add(ops.Negate(), s.gradient)


@_gradient(ops.Multiply)
def _multiply(s: Step) -> Given:
    left, right = s.inputs
    return s.times(s.gradient, right), s.times(s.gradient, left)


@_gradient(ops.Divide)
def _divide(s: Step) -> Given:
    top, bottom = s.inputs
    onto = s.add(ops.Divide(), s.gradient, bottom)
    share = s.add(ops.Divide(), top, bottom)
    return onto, s.add(ops.Negate(), s.times(onto, share))


@_gradient(ops.Negate)
def _negate(s: Step) -> Given:
    return (s.add(ops.Negate(), s.gradient),)


@_gradient(ops.Convert)
def _convert(s: Step) -> Given:
    return (s.add(ops.Convert(s.inputs[0].dtype), s.gradient),)


@_gradient(ops.Tanh)
def _tanh(s: Step) -> Given:
    (y,) = s.made
    slope = s.add(ops.Subtract(), s.splat(1.0, y), s.times(y, y))
    return (s.times(s.gradient, slope),)


@_gradient(ops.Logistic)
def _logistic(s: Step) -> Given:
    (y,) = s.made
    return (s.times(s.gradient, s.times(y, s.add(ops.Subtract(), s.splat(1.0, y), y))),)


@_gradient(ops.Exponential)
def _exponential(s: Step) -> Given:
    return (s.times(s.gradient, s.made[0]),)


@_gradient(ops.Erf)
def _erf(s: Step) -> Given:
    (x,) = s.inputs
    bell = s.add(ops.Exponential(), s.add(ops.Negate(), s.times(x, x)))
    return (s.times(s.gradient, s.times(bell, SLOPE_OF_ERF)),)


@_gradient(ops.Maximum, ops.Minimum)
def _extremum(s: Step) -> Given:
    """Equal numbers: the first has it all."""
    left, right = s.inputs
    direction = "ge" if isinstance(s.node.op, ops.Maximum) else "le"
    first = s.add(ops.Compare(direction), left, right)
    zero = s.splat(0.0, s.gradient)
    return (s.add(ops.Select(), first, s.gradient, zero),
            s.add(ops.Select(), first, zero, s.gradient))  # fmt: skip


@_gradient(ops.Relu)
def _relu(s: Step) -> Given:
    (x,) = s.inputs
    open_ = s.add(ops.Compare("gt"), x, s.splat(0.0, x))
    return (s.add(ops.Select(), open_, s.gradient, s.splat(0.0, x)),)


@_gradient(ops.Silu)
def _silu(s: Step) -> Given:
    """s (1 + x (1 - s)) with s the logistic of x."""
    (x,) = s.inputs
    gate = s.add(ops.Logistic(), x)
    rest = s.times(x, s.add(ops.Subtract(), s.splat(1.0, gate), gate))
    slope = s.times(gate, s.add(ops.Add(), s.splat(1.0, rest), rest))
    return (s.times(s.gradient, slope),)


@_gradient(ops.Select)
def _select(s: Step) -> Given:
    mask, zero = s.inputs[0], s.splat(0.0, s.gradient)
    return (None, s.add(ops.Select(), mask, s.gradient, zero),
            s.add(ops.Select(), mask, zero, s.gradient))  # fmt: skip


# -- shapes -------------------------------------------------------------------------------------


@_gradient(ops.Reshape)
def _reshape(s: Step) -> Given:
    return (s.add(ops.Reshape(s.inputs[0].shape), s.gradient),)


@_gradient(ops.Transpose)
def _transpose(s: Step) -> Given:
    back = tuple(int(k) for k in np.argsort(s.node.attrs["permutation"]))
    return (s.add(ops.Transpose(back), s.gradient),)


@_gradient(ops.Slice)
def _slice(s: Step) -> Given:
    """Zeros around it; rows with gaps, as alternating columns have, are not needed by builders."""
    op, shape = s.node.op, s.inputs[0].shape
    assert isinstance(op, ops.Slice)
    if any(step != 1 for step in op.stride):
        raise UnsupportedOp("no gradient is known of a slice with a stride")
    zero = s.add(ops.Constant.splat(0.0, (), s.gradient.dtype))
    high = tuple(n - limit for n, limit in zip(shape, op.limit, strict=True))
    return (s.add(ops.Pad(op.start, high), s.gradient, zero),)


@_gradient(ops.Concatenate)
def _concatenate(s: Step) -> Given:
    dim, shape = s.node.attrs["dim"], s.gradient.shape
    parts, start = [], 0
    for value in s.inputs:
        low, high = [0] * len(shape), list(shape)
        low[dim], high[dim] = start, start + value.shape[dim]
        start = high[dim]
        parts.append(s.add(ops.Slice(tuple(low), tuple(high), (1,) * len(low)), s.gradient))
    return parts


@_gradient(ops.BroadcastInDim)
def _broadcast(s: Step) -> Given:
    op, (x,) = s.node.op, s.inputs
    assert isinstance(op, ops.BroadcastInDim)
    kept = {d for d, n in zip(op.dims, x.shape, strict=True) if n == op.shape[d]}
    total = s.gradient
    gone = tuple(d for d in range(len(op.shape)) if d not in kept)
    if gone:
        total = s.add(ops.Reduce("add", gone), total)
    return (total if total.shape == x.shape else s.add(ops.Reshape(x.shape), total),)


@_gradient(ops.Reduce)
def _reduce(s: Step) -> Given:
    op, (x,) = s.node.op, s.inputs
    assert isinstance(op, ops.Reduce)
    if op.kind != "add":
        raise UnsupportedOp(f"no gradient is known of a reduction by {op.kind}")
    kept = tuple(d for d in range(len(x.shape)) if d not in op.dims)
    return (s.add(ops.BroadcastInDim(x.shape, kept), s.gradient),)


@_gradient(ops.Gather, ops.TakeRows)
def _rows(s: Step) -> Given:
    table, index = s.inputs
    if s.node.attrs.get("dim", 0):
        raise UnsupportedOp("no gradient is known of a gather along another dim than the first")
    zeros = s.splat(0.0, table)
    return s.add(ops.Scatter(True), zeros, index, s.gradient), None


# -- products, norms, attention -----------------------------------------------------------------


@_gradient(ops.Linear)
def _linear(s: Step) -> Given:
    """Onto x by the weight the other way round; onto the weight by a sum over all rows."""
    op = s.node.op
    assert isinstance(op, ops.Linear)
    if op.activation or op.residual or op.scaled:
        raise UnsupportedOp("no gradient is known of a linear with an epilogue")
    x, weight, *bias = s.inputs
    turned = "kn" if op.weight == "nk" else "nk"
    onto = s.add(ops.Linear(turned, out_dtype=x.dtype), s.gradient, weight)
    rows = tuple(range(len(x.shape) - 1))
    pair = (s.gradient, x) if op.weight == "nk" else (x, s.gradient)
    product = s.add(ops.DotGeneral(((), ()), (rows, rows), weight.dtype), *pair)
    return [onto, product, *(s.along_rows(s.gradient) for _ in bias)]


@_gradient(ops.RmsNorm, ops.LayerNorm)
def _norm(s: Step) -> Given:
    centred = isinstance(s.node.op, ops.LayerNorm)
    x, *rows = s.inputs
    op = ops.NormBackward(centred, weighted=bool(rows), biased=len(rows) > 1)
    return s.builder.emit(op, s.gradient, x, *s.made[1:], *rows[:1])


@_gradient(ops.Rotary)
def _rotary(s: Step) -> Given:
    """Turned back; the sines of both halves are the same, as builders write them."""
    op, (_, cosine, sine) = s.node.op, s.inputs
    return s.add(op, s.gradient, cosine, s.add(ops.Negate(), sine)), None, None


@_gradient(ops.Attention)
def _attention(s: Step) -> Given:
    op, (q, k, v, *mask) = s.node.op, s.inputs
    assert isinstance(op, ops.Attention)
    if op.soft_cap or op.offset or op.packed or (op.window and mask):
        raise UnsupportedOp("no gradient is known of attention with a soft cap or sinks")
    if op.window:
        band = op.band(q.shape[2], k.shape[2])
        mask = [s.add(ops.Constant.of(band[None, None]))]
    back = ops.AttentionBackward(op.scale, op.heads, op.kv_heads, op.causal and not op.window)
    return [*s.builder.emit(back, q, k, v, s.gradient, *mask), *(None for _ in s.inputs[3:])]


RULES: Final[Mapping[type[Op], Rule]] = {getattr(ops, name): rule for name, rule in _TABLE.items()}
__all__ = ["RULES", "Given", "Rule", "Step"]
