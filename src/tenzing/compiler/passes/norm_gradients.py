"""Finds the gradients of norms that autograd took apart, whatever framework wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tenzing.compiler.graph import F32, Graph, GraphBuilder, Node, Shape, Value, is_float, rewrite
from tenzing.compiler.ops import (
    Add,
    Convert,
    Multiply,
    NormBackward,
    Power,
    Reduce,
    Reshape,
    Rsqrt,
    Subtract,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.terms import (
    Atom,
    Forms,
    Monomial,
    Polynomial,
    over,
    sums_last,
    times,
    total,
)

CUBE: Final = 3  # the power of one over the root in what a gradient takes off


@dataclass(frozen=True)
class RecogniseNormGradients(Pass):
    """Gradients of RMS norms and layer norms, spelled out, become ``norm_backward``.

    With r one over the root, q the gradient times the weight and C columns, the gradient of an RMS
    norm is ``q * r - x * r ** 3 * sum(q * x) / C``; a layer norm has ``x - mean(x)`` in place of x
    and loses its own mean. Values are compared as polynomials of x, r, q and sums along rows, so
    no spelling is known here. Sums over all rows of the gradients of a weight and bias join, and so
    does a sum with another gradient of x.
    """

    requires = frozenset({"live"})

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        found: list[Gradient] = []
        for frame in _frames(graph):
            found += _Search(graph, frame).run()
        return _Replacement(graph, found).run() if found else graph


@dataclass
class Gradient:
    """One gradient of a norm: values of the graph that go in, and those that it replaces."""

    out: Value
    grads: tuple[Value, ...]  # the same numbers, perhaps in several dtypes
    rows: tuple[Value, ...]  # x, likewise
    root: Value  # one over the root, or what the root is taken of when ``taken`` is False
    taken: bool
    mean: Value | None
    weight: Value | None
    others: tuple[Value, ...] = ()  # further gradients of x within ``out``
    for_weight: Value | None = None
    for_bias: Value | None = None


def _frames(graph: Graph) -> list[Shape]:
    """Shapes with a sum along rows of products of two things: there may be a gradient."""
    makers = graph.producers()
    found: dict[Shape, None] = {}
    for node in graph.nodes:
        shape = node.inputs[0].shape if node.inputs else ()
        if not sums_last(node) or shape[-1] == 1 or len(shape) == 1:
            continue
        maker = makers.get(node.inputs[0])
        square = maker is not None and (
            isinstance(maker.op, Power)
            or (isinstance(maker.op, Multiply) and maker.inputs[0] == maker.inputs[1])
        )
        if not square and is_float(node.inputs[0].dtype):
            found[shape] = None
    return list(found)


class _Search:
    """Walks the graph in order with the polynomials of one frame."""

    def __init__(self, graph: Graph, frame: Shape) -> None:
        self.graph, self.frame = graph, frame
        self.forms = Forms(graph, frame)
        self.users = graph.users()
        self.returned = set(graph.outputs)
        self.vectors: list[tuple[Value, Polynomial]] = []  # sums over all rows
        self.found: list[tuple[Gradient, Polynomial, Polynomial]] = []

    def run(self) -> list[Gradient]:
        for node in self.graph.nodes:
            self.forms.learn(node)
            if isinstance(node.op, Add | Subtract) and node.outputs[0].shape == self.frame:
                self._try(node)
            elif _sums_rows(node, self.frame):
                self.vectors.append((node.outputs[0], self.forms.of(node.inputs[0])))
        for gradient, grad, normal in self.found:
            if gradient.weight is not None:
                gradient.for_weight = self._vector(grad * normal)
            if gradient.mean is not None:
                gradient.for_bias = self._vector(grad)
            self._extend(gradient)
        return [gradient for gradient, _, _ in self.found]

    def _extend(self, gradient: Gradient) -> None:
        """Take in the rounding of the result, and one further gradient of x."""
        reader = self._only_reader(gradient.out)
        if gradient.others or reader is None:
            return
        if isinstance(reader.op, Convert) and is_float(reader.outputs[0].dtype):
            gradient.out = reader.outputs[0]
            reader = self._only_reader(gradient.out)
        if reader is not None and isinstance(reader.op, Add):
            gradient.others = tuple(v for v in reader.inputs if v != gradient.out)
            gradient.out = reader.outputs[0]

    def _only_reader(self, value: Value) -> Node | None:
        readers = self.users.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.returned else None

    def _vector(self, form: Polynomial) -> Value | None:
        return next((value for value, own in self.vectors if own.close(form)), None)

    def _try(self, node: Node) -> None:
        whole = self.forms.of(node.outputs[0])
        for root in dict.fromkeys(a for m in whole.terms for a, p in m if p == CUBE):
            if root.kind not in ("row", "root"):
                continue
            for x, weighed in _candidates(whole, root, self.frame[-1]):
                if self._matches(node, root, x, weighed):
                    return

    def _matches(self, node: Node, root: Atom, x: Atom, weighed: Polynomial) -> bool:
        own, others = self._leaves(node, root)
        sum_of_own = total(form for _, form in own)
        for centred in (False, True):
            rows = Polynomial.of(x)
            if centred:
                rows += rows.row_sum(self.frame[-1]).scaled(-1.0 / self.frame[-1])
            wanted = _gradient(weighed, rows, Polynomial.of(root), self.frame[-1], centred)
            if wanted.close(sum_of_own) and all(sign > 0 for sign, _ in others):
                found = self._gradient_of(node, root, x, weighed, centred)
                if found is None:
                    return False
                gradient, grad = found
                gradient.others = tuple(value for _, value in others)
                self.found.append((gradient, grad, rows * Polynomial.of(root)))
                self.forms.close_off(node.outputs[0])
                return True
        return False

    def _leaves(
        self, node: Node, root: Atom
    ) -> tuple[list[tuple[Value, Polynomial]], list[tuple[int, Value]]]:
        """The summands with the root, then all others with their signs."""
        own, others = [], []
        stack = [(1, value) for value in _signed(node)]
        while stack:
            sign, (more, value) = stack.pop()
            sign *= more
            form = self.forms.of(value)
            if not form.holds(root):
                # what is zero whatever the rows hold, such as the sum of x - mean(x), goes
                others.extend([(sign, value)] if form.terms else [])
                continue
            maker = self.forms.makers.get(value)
            if maker is not None and isinstance(maker.op, Add | Subtract):
                stack.extend((sign, item) for item in _signed(maker))
            else:
                own.append((value, form.scaled(sign)))
        return own, others[::-1]

    def _gradient_of(
        self, node: Node, root: Atom, x: Atom, weighed: Polynomial, centred: bool
    ) -> tuple[Gradient, Polynomial] | None:
        out = node.outputs[0]
        rows = self.forms.alike(Polynomial.of(x))
        for column in _columns(weighed):
            grad = weighed.over(frozenset({(column, 1)}))
            values = self.forms.alike(grad)
            if values:
                weight: Value | None = self.forms.named[str(column.key)]
                break
        else:
            grad, weight = weighed, None
            values = self.forms.alike(grad)
        if not values or not rows:
            return None
        value, taken = self._root(root)
        mean = self._mean(x) if centred else None
        if centred and mean is None:
            return None
        return Gradient(out, tuple(values), tuple(rows), value, taken, mean, weight), grad

    def _root(self, root: Atom) -> tuple[Value, bool]:
        """A value that holds one over the root, or one to take it of."""
        name = str(root.key)
        if root.kind == "row":
            return self.forms.named[name], True
        known = self.forms.roots[name]
        return (self.forms.named[name], False) if known is None else (known, True)

    def _mean(self, x: Atom) -> Value | None:
        columns = self.frame[-1]
        wanted = Polynomial.of(x).row_sum(columns).scaled(1.0 / columns)
        return next(iter(self.forms.alike(wanted)), None)


def _candidates(whole: Polynomial, root: Atom, columns: int) -> Iterator[tuple[Atom, Polynomial]]:
    """What x and the weighed gradient must be, from the terms ``x * root ** 3 * sum(.. * x)``."""
    cube = frozenset({(root, CUBE)})
    by_rows: dict[Atom, Polynomial] = {}
    for monomial, factor in whole.terms.items():
        if not cube <= monomial:
            continue
        rest = monomial - cube
        wide = [item for item in rest if not item[0].per_row]
        sums = [item for item in rest if item[0].kind == "sum"]
        if len(wide) != 1 or len(sums) != 1 or wide[0][1] != 1 or sums[0][1] != 1:
            continue
        x, inside = wide[0][0], sums[0][0].key
        if x.kind != "wide" or not isinstance(inside, frozenset) or len(inside) == 1:
            continue
        rows: Monomial = frozenset({(x, 1)})
        if not rows <= inside:
            continue
        weighed = times(over(inside, rows), rest - rows - frozenset(sums))
        term = Polynomial({weighed: -columns * factor})
        by_rows[x] = by_rows.get(x, Polynomial({})) + term
    yield from by_rows.items()


def _gradient(
    weighed: Polynomial, rows: Polynomial, root: Polynomial, columns: int, centred: bool
) -> Polynomial:
    """The gradient of a norm as a polynomial."""
    normal = rows * root
    share = -1.0 / columns
    inner = weighed + normal * (weighed * normal).row_sum(columns).scaled(share)
    if centred:
        inner += weighed.row_sum(columns).scaled(share)
    return inner * root


def _columns(weighed: Polynomial) -> list[Atom]:
    """Weights that every term of a weighed gradient holds once."""
    terms = list(weighed.terms)
    return [a for a, p in terms[0] if a.kind == "column" and p == 1
            and all((a, 1) in m for m in terms)]  # fmt: skip


def _signed(node: Node) -> list[tuple[int, Value]]:
    second = -1 if isinstance(node.op, Subtract) else 1
    return [(1, node.inputs[0]), (second, node.inputs[1])]


def _sums_rows(node: Node, frame: Shape) -> bool:
    """Whether a node sums over all rows of a frame."""
    lead = tuple(range(len(frame) - 1))
    return (
        isinstance(node.op, Reduce)
        and node.op.kind == "add"
        and node.inputs[0].shape == frame
        and tuple(node.op.dims) == lead
        and is_float(node.outputs[0].dtype)
    )


class _Replacement:
    """Puts one node in the place of every gradient that was found."""

    def __init__(self, graph: Graph, found: list[Gradient]) -> None:
        self.graph = _in_order(graph, found)
        self.of = {gradient.out: gradient for gradient in found}
        self.now: dict[Value, Value] = {}  # what stands for a replaced value
        self.vectors: dict[Value, Value] = {}

    def run(self) -> Graph:
        return rewrite(self.graph, self._rule)

    def _rule(
        self, builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...] | None:
        out = node.outputs[0]
        if out in self.of:
            self.now[out] = self._emit(builder, self.of[out])
            return (self.now[out],)
        return (self.vectors[out],) if out in self.vectors else None

    def _emit(self, builder: GraphBuilder, gradient: Gradient) -> Value:
        dtype, shape = _wide_enough(gradient), gradient.out.shape

        def given(values: tuple[Value, ...], shape: Shape) -> Value:
            value = next((v for v in values if v.dtype == dtype), values[0])
            return _as(builder, self.now.get(value, value), shape, dtype)

        weighted, biased = gradient.weight is not None, gradient.for_bias is not None
        op = NormBackward(gradient.mean is not None, weighted, biased, bool(gradient.others))
        parts = [given(gradient.grads, shape), given(gradient.rows, shape)]
        parts += [_as(builder, v, shape[:-1], F32) for v in self._statistics(builder, gradient)]
        if gradient.weight is not None:
            parts.append(given((gradient.weight,), shape[-1:]))
        if gradient.others:
            further = [given((v,), shape) for v in gradient.others]
            while len(further) > 1:
                further = [builder.add(Add(), further[0], further[1]), *further[2:]]
            parts += further
        onto, *vectors = builder.emit(op, *parts)
        wanted = [gradient.for_weight] * weighted + [gradient.for_bias] * biased
        for old, new in zip(wanted, vectors, strict=True):
            if old is not None:
                self.vectors[old] = _as(builder, new, old.shape, old.dtype)
        return _as(builder, onto, shape, gradient.out.dtype)

    def _statistics(self, builder: GraphBuilder, gradient: Gradient) -> list[Value]:
        root = self.now.get(gradient.root, gradient.root)
        root = root if gradient.taken else builder.add(Rsqrt(), root)
        return [root] if gradient.mean is None else [gradient.mean, root]


def _wide_enough(gradient: Gradient) -> np.dtype[np.generic]:
    """The dtype of the result, or a wider one where something given or wanted is wider."""
    dtype = gradient.out.dtype
    sides = [gradient.grads, gradient.rows]
    sides += [(v,) for v in (gradient.weight, gradient.for_weight, gradient.for_bias) if v]
    for values in sides:
        if all(v.dtype.itemsize > dtype.itemsize for v in values):
            dtype = min((v.dtype for v in values), key=lambda each: each.itemsize)
    return dtype


def _as(builder: GraphBuilder, value: Value, shape: Shape, dtype: np.dtype[np.generic]) -> Value:
    if value.shape != shape:
        value = builder.add(Reshape(shape), value)
    return value if value.dtype == dtype else builder.add(Convert(dtype), value)


def _in_order(graph: Graph, found: list[Gradient]) -> Graph:
    """The graph with the sums for weights and biases behind the gradient that gives them."""
    makers = graph.producers()
    behind: dict[int, Node] = {}
    for gradient in found:
        for vector in (gradient.for_weight, gradient.for_bias):
            if vector is not None:
                behind[id(makers[vector])] = makers[gradient.out]
    done: dict[int, Node] = {}
    begun: set[int] = set()
    stack = list(reversed(graph.nodes))
    while stack:
        node = stack[-1]
        before = [makers[v] for v in node.inputs if v in makers]
        later = behind.get(id(node))
        before += [later] if later is not None else []
        waits = [] if id(node) in begun else [n for n in before if id(n) not in done]
        begun.add(id(node))
        if waits:
            stack.extend(n for n in reversed(waits) if id(n) not in begun)
            continue
        stack.pop()
        done.setdefault(id(node), node)
    return replace(graph, nodes=tuple(done.values()))


__all__ = ["RecogniseNormGradients"]
