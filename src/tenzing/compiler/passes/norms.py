"""Puts norms and softmax back together where a model spells them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Op, Value, is_float, rewrite
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Constant,
    Convert,
    Divide,
    Exponential,
    LayerNorm,
    Maximum,
    Multiply,
    Negate,
    NormBackward,
    Power,
    Reduce,
    Reshape,
    RmsNorm,
    Rsqrt,
    Softmax,
    Sqrt,
    Subtract,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.rows import last_dim_row, row_source

RMS_VECTORS: Final = 1  # a weight
LAYER_VECTORS: Final = 2  # a weight and a bias


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """Spelled-out row statistics become ``rms_norm``, ``layer_norm`` and ``softmax``.

    ``x * rsqrt(mean(x * x) + e)`` is an RMS norm; of ``x - mean(x)`` it is a layer norm. A weight
    or bias row that follows, also one like ``1 + weight``, joins it. Widening before and rounding
    after a norm disappear, since norms are wide inside.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        private = graph.private()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            found = _normalised(builder, node, inputs) or _softmax(builder, node, inputs)
            found = found or _scaled_and_shifted(builder, node, inputs)
            if isinstance(node.op, Convert) and node.inputs[0] in private:
                return _narrow(builder, node.op, inputs[0])
            if found is not None or len(inputs) != 2:  # noqa: PLR2004 - a pair
                return found
            for old, value, other in zip(node.inputs, inputs, inputs[::-1], strict=True):
                if old in private:
                    found = found or _with_vector(builder, node.op, value, other)
            return found

        return rewrite(graph, rule)


@dataclass(frozen=True)
class KeepStatistics(Pass):
    """A norm hands the statistics of its rows to its backward form: they are taken once."""

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        return _Statistics(graph).run()


class _Statistics:
    """Norms by the rows they read, and what those that kept their statistics have."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.makers = graph, graph.producers()
        backward = [n for n in graph.nodes if isinstance(n.op, NormBackward)]
        self.wanted = {self._rows(node) for node in backward}
        self.kept: dict[tuple[Value, bool], tuple[float, tuple[Value, ...]]] = {}

    def run(self) -> Graph:
        return rewrite(self.graph, self._rule) if self.wanted else self.graph

    def _rows(self, node: Node) -> tuple[Value, bool]:
        """x before it was widened, and whether its mean comes off."""
        if isinstance(node.op, NormBackward):
            return self._before_widening(node.op.parts(node.inputs).x), node.op.centred
        return self._before_widening(node.inputs[0]), isinstance(node.op, LayerNorm)

    def _before_widening(self, value: Value) -> Value:
        maker = self.makers.get(value)
        while maker is not None and isinstance(maker.op, Convert):
            source = maker.inputs[0]
            if not is_float(source.dtype) or source.dtype.itemsize > value.dtype.itemsize:
                break
            value, maker = source, self.makers.get(source)
        return value

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        if isinstance(node.op, NormBackward):
            return self._read(builder, node, node.op, inputs)
        if not _is_inference(node) or self._rows(node) not in self.wanted - self.kept.keys():
            return None
        assert isinstance(node.op, RmsNorm | LayerNorm)
        out, *numbers = builder.emit(replace(node.op, statistics=True), *inputs)
        self.kept[self._rows(node)] = node.op.epsilon, tuple(numbers)
        return (out,)

    def _read(
        self, builder: GraphBuilder, node: Node, op: NormBackward, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        """The backward form with what the norm kept, if that is what it would compute."""
        parts = op.parts(inputs)
        epsilon, numbers = self.kept.get(self._rows(node), (None, ()))
        if epsilon is None or _root_epsilon(builder, parts.rstd, parts.x, op.centred) != epsilon:
            return None
        given = parts._replace(mean=numbers[0] if op.centred else None, rstd=numbers[-1])
        return builder.emit(op, *(value for value in given if value is not None))


def _root_epsilon(builder: GraphBuilder, value: Value, x: Value, centred: bool) -> float | None:
    """``e`` when the value is ``rsqrt(mean(y * y) + e)``, y being ``x - mean(x)`` if centred."""
    root = builder.maker(row_source(builder, value))
    if root is None or not isinstance(root.op, Rsqrt):
        return None
    rows = _squared(builder, root.inputs[0])
    if rows is not None and (_uncentred(builder, rows) is not None) == centred:
        return _mean_square_epsilon(builder, root.inputs[0], rows)
    return _moments_epsilon(builder, root.inputs[0], x) if centred else None


def _moments_epsilon(builder: GraphBuilder, value: Value, x: Value) -> float | None:
    """``e`` when the value is ``mean(x * x) - mean(x) ** 2 + e``."""
    maker = builder.maker(row_source(builder, value))
    if maker is None or not isinstance(maker.op, Add):
        return None
    for mean, constant in (maker.inputs, maker.inputs[::-1]):
        epsilon = _number(builder, constant)
        if epsilon is not None and _is_variance_by_moments(builder, mean, x):
            return epsilon
    return None


def _normalised(
    builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """``x * 1 / rms(x)`` or ``x / rms(x)``."""
    if not isinstance(node.op, Multiply | Divide) or not is_float(inputs[0].dtype):
        return None
    sides = [inputs] if isinstance(node.op, Divide) else [inputs, inputs[::-1]]
    for x, scale in sides:
        wanted = Sqrt if isinstance(node.op, Divide) else Rsqrt
        scale, weight = _weighted(builder, scale) if wanted is Rsqrt else (scale, ())
        maker = builder.maker(row_source(builder, scale))
        if maker is None or not isinstance(maker.op, wanted):
            continue
        epsilon = _mean_square_epsilon(builder, maker.inputs[0], x)
        if epsilon is None:
            continue
        centred = _uncentred(builder, x)
        if centred is not None:
            return builder.emit(LayerNorm(epsilon), centred, *weight)
        return builder.emit(RmsNorm(epsilon), x, *weight)
    return None


def _scaled_and_shifted(
    builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """Keras's layer norm: ``x * s + (b - mean(x) * s)``, ``s`` being ``rsqrt(var(x) + e) * w``."""
    if not isinstance(node.op, Add) or not is_float(inputs[0].dtype):
        return None
    for product, shift in (inputs, inputs[::-1]):
        maker = builder.maker(product)
        if maker is None or not isinstance(maker.op, Multiply):
            continue
        for x, scale in (maker.inputs, maker.inputs[::-1]):
            bias = _shift(builder, shift, x, scale)
            weighted = None if bias is None else _weighted_deviation(builder, scale, x)
            if bias is not None and weighted is not None:
                epsilon, weight = weighted
                return builder.emit(LayerNorm(epsilon), x, weight, bias)
    return None


def _shift(builder: GraphBuilder, value: Value, x: Value, scale: Value) -> Value | None:
    """The row ``b`` when the value is ``b - mean(x) * scale``, or a sum with the negated mean."""
    maker = builder.maker(value)
    if maker is None or not isinstance(maker.op, Add | Subtract):
        return None
    negated = isinstance(maker.op, Add)
    for product, row in (maker.inputs, maker.inputs[::-1]) if negated else (maker.inputs[::-1],):
        factors = builder.maker(product)
        if factors is None or not isinstance(factors.op, Multiply) or scale not in factors.inputs:
            continue
        mean = factors.inputs[0] if factors.inputs[1] == scale else factors.inputs[1]
        maker = builder.maker(row_source(builder, mean)) if negated else None
        if maker is not None and isinstance(maker.op, Negate):
            mean = maker.inputs[0]
        elif negated:
            continue
        if _mean_of(builder, mean) == x:
            return last_dim_row(builder, row)
    return None


def _weighted_deviation(
    builder: GraphBuilder, scale: Value, x: Value
) -> tuple[float, Value] | None:
    """``e`` and the row ``w`` when the value is ``rsqrt(mean((x - mean(x)) ** 2) + e) * w``."""
    maker = builder.maker(scale)
    if maker is None or not isinstance(maker.op, Multiply):
        return None
    for deviation, weight in (maker.inputs, maker.inputs[::-1]):
        root = builder.maker(row_source(builder, deviation))
        if root is None or not isinstance(root.op, Rsqrt):
            continue
        centred = _squared(builder, root.inputs[0])
        if centred is None or _uncentred(builder, centred) != x:
            continue
        epsilon = _mean_square_epsilon(builder, root.inputs[0], centred)
        row = last_dim_row(builder, weight)
        if epsilon is not None and row is not None:
            return epsilon, row
    return None


def _squared(builder: GraphBuilder, value: Value) -> Value | None:
    """``y`` when the value is ``mean(y * y)`` plus something."""
    maker = builder.maker(row_source(builder, value))
    for mean in maker.inputs if maker is not None and isinstance(maker.op, Add) else ():
        square = _mean_of(builder, mean)
        product = builder.maker(square) if square is not None else None
        if (
            product is not None
            and product.inputs
            and _is_square(builder, product.outputs[0], product.inputs[0])
        ):
            return product.inputs[0]
    return None


def _weighted(builder: GraphBuilder, scale: Value) -> tuple[Value, tuple[Value, ...]]:
    """A number per row times a weight row, as Flax joins them before it scales."""
    maker = builder.maker(scale)
    if maker is None or not isinstance(maker.op, Multiply):
        return scale, ()
    for rows, other in (maker.inputs, maker.inputs[::-1]):
        weight = last_dim_row(builder, other)
        if weight is not None and row_source(builder, rows) != rows:
            return rows, (weight,)
    return scale, ()


def _mean_square_epsilon(builder: GraphBuilder, value: Value, x: Value) -> float | None:
    """``e`` when the value is ``mean(x * x) + e``."""
    maker = builder.maker(row_source(builder, value))
    if maker is None or not isinstance(maker.op, Add):
        return None
    for mean, constant in (maker.inputs, maker.inputs[::-1]):
        epsilon = _number(builder, constant)
        if epsilon is None:
            continue
        square = _mean_of(builder, mean)
        if square is not None and _is_square(builder, square, x):
            return epsilon
        if _is_variance_by_moments(builder, mean, _uncentred(builder, x)):
            return epsilon
    return None


def _is_variance_by_moments(builder: GraphBuilder, value: Value, x: Value | None) -> bool:
    """``mean(x * x) - mean(x) ** 2``, perhaps kept from falling below zero."""
    maker = builder.maker(row_source(builder, value))
    if maker is not None and isinstance(maker.op, Maximum):
        kept = [v for v in maker.inputs if _number(builder, v) != 0.0]
        maker = builder.maker(row_source(builder, kept[0])) if len(kept) == 1 else None
    if x is None or maker is None or not isinstance(maker.op, Subtract):
        return False
    second, first = (builder.maker(row_source(builder, v)) for v in maker.inputs)
    square = _mean_of(builder, maker.inputs[0])
    if second is None or first is None or square is None or not _is_square(builder, square, x):
        return False
    mean = first.inputs[0] if first.inputs else None
    return (
        mean is not None
        and _is_square(builder, first.outputs[0], mean)
        and _mean_of(builder, mean) == x
    )


def _is_square(builder: GraphBuilder, value: Value, x: Value) -> bool:
    maker = builder.maker(value)
    if maker is None or not maker.inputs or maker.inputs[0] != x:
        return False
    if isinstance(maker.op, Multiply):
        return maker.inputs[1] == x
    return isinstance(maker.op, Power) and _number(builder, maker.inputs[1]) == 2.0  # noqa: PLR2004


def _mean_of(builder: GraphBuilder, value: Value) -> Value | None:
    """``y`` when the value is the mean of y along its last dim, in any spelling."""
    maker = builder.maker(row_source(builder, value))
    if maker is None or not isinstance(maker.op, Multiply | Divide):
        return None
    total = builder.maker(row_source(builder, maker.inputs[0]))
    factor = _number(builder, maker.inputs[1])
    if total is None or factor is None or not _sums_last(total):
        return None
    count = total.inputs[0].shape[-1]
    mean = factor == count if isinstance(maker.op, Divide) else factor == _as(value, 1.0 / count)
    return total.inputs[0] if mean else None


def _as(value: Value, number: float) -> float:
    """The number as the value's dtype holds it."""
    return float(value.dtype.type(number))


def _sums_last(node: Node, kind: str = "add") -> bool:
    rank = len(node.inputs[0].shape) if node.inputs else 0
    return isinstance(node.op, Reduce) and node.op.kind == kind and node.op.dims == (rank - 1,)


def _uncentred(builder: GraphBuilder, value: Value) -> Value | None:
    """``x`` when the value is ``x - mean(x)``."""
    maker = builder.maker(value)
    if maker is None or not isinstance(maker.op, Subtract):
        return None
    x, mean = maker.inputs
    return x if _mean_of(builder, mean) == x else None


def _narrow(builder: GraphBuilder, op: Convert, value: Value) -> tuple[Value, ...] | None:
    """A norm of a widened row, rounded back, is the norm of the row: it is wide inside."""
    norm = builder.maker(value)
    if norm is None or not _is_inference(norm) or len(norm.inputs) > 1:
        return None
    widened = builder.maker(norm.inputs[0])
    if widened is None or not isinstance(widened.op, Convert):
        return None
    x = widened.inputs[0]
    return builder.emit(norm.op, x) if x.dtype == op.dtype and is_float(x.dtype) else None


def _softmax(
    builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
) -> tuple[Value, ...] | None:
    """``exp(x - max(x)) / sum(...)``."""
    if not isinstance(node.op, Divide):
        return None
    power, total = builder.maker(inputs[0]), builder.maker(row_source(builder, inputs[1]))
    if power is None or total is None or not isinstance(power.op, Exponential):
        return None
    if not _sums_last(total) or total.inputs[0] != inputs[0]:
        return None
    shifted = builder.maker(power.inputs[0])
    if shifted is None or not isinstance(shifted.op, Subtract):
        return None
    x, top = shifted.inputs
    highest = builder.maker(row_source(builder, top))
    if highest is None or not _sums_last(highest, "maximum") or highest.inputs[0] != x:
        return None
    return builder.emit(Softmax(), x)


def _is_inference(node: Node) -> bool:
    """A norm alone; one whose statistics go to its backward form stays as autograd wrote it."""
    return isinstance(node.op, RmsNorm | LayerNorm) and not node.op.statistics


def _with_vector(
    builder: GraphBuilder, op: Op, value: Value, other: Value
) -> tuple[Value, ...] | None:
    """A weight joins a norm without one; then a bias joins a layer norm."""
    norm = builder.maker(value)
    if norm is None or not _is_inference(norm):
        return None
    assert isinstance(norm.op, RmsNorm | LayerNorm)
    held = len(norm.inputs) - 1
    wanted = {0: Multiply, 1: Add}.get(held)
    most = RMS_VECTORS if isinstance(norm.op, RmsNorm) else LAYER_VECTORS
    if wanted is None or not isinstance(op, wanted) or held >= most:
        return None
    vector = last_dim_row(builder, other)
    if vector is None or vector.dtype != value.dtype:
        return None
    return builder.emit(replace(norm.op), *norm.inputs, vector)


def _number(builder: GraphBuilder, value: Value) -> float | None:
    maker = builder.maker(value)
    while maker is not None and isinstance(maker.op, BroadcastInDim | Reshape):
        maker = builder.maker(maker.inputs[0])
    if maker is None or not isinstance(maker.op, Constant) or not maker.op.is_splat:
        return None
    return float(maker.op.number)
