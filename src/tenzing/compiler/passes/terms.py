"""Values as sums of products, whatever way a framework wrote them.

A gradient that autograd took apart is the same polynomial in every framework: of the rows that go
in, of one number per row, of one per column, and of sums along rows. Two values with equal
polynomials are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from tenzing.compiler.graph import Graph, Node, Op, Shape, Value, is_float
from tenzing.compiler.ops import (
    Add,
    BroadcastInDim,
    Constant,
    Convert,
    Divide,
    Maximum,
    Multiply,
    Negate,
    Power,
    Reduce,
    Reshape,
    Rsqrt,
    Select,
    Sqrt,
    Subtract,
)
from tenzing.compiler.passes.rows import keeps_rows

TERMS_MAX: Final = 48  # a longer sum is taken as one unknown: it is no gradient of one norm
POWER_MAX: Final = 4
CLOSE: Final = 1e-5  # of factors that a framework may have rounded to float32

HALVES: Final = (0.5, -0.5)  # exponents that take a root

Kind = Literal["wide", "column", "row", "root", "sum"]


class Atom(NamedTuple):
    """One unknown of a polynomial.

    ``wide`` has a number per element, ``column`` one per column; ``row`` has one per row, and so
    have ``root``, which is one over the root of the named value, and ``sum``, the sum of a product
    along its row.
    """

    kind: Kind
    key: str | Monomial

    @property
    def per_row(self) -> bool:
        """Whether all elements of a row share the number."""
        return self.kind in ("row", "root", "sum")


Monomial = frozenset[tuple[Atom, int]]
ONE: Final[Monomial] = frozenset()


def times(one: Monomial, other: Monomial) -> Monomial:
    """The product of two monomials."""
    powers = dict(one)
    for atom, power in other:
        powers[atom] = powers.get(atom, 0) + power
    return frozenset((atom, power) for atom, power in powers.items() if power)


def over(one: Monomial, other: Monomial) -> Monomial:
    """The quotient of two monomials."""
    return times(one, frozenset((atom, -power) for atom, power in other))


@dataclass(frozen=True)
class Polynomial:
    """Factors by monomial."""

    terms: Mapping[Monomial, float]

    @classmethod
    def of(cls, atom: Atom, power: int = 1) -> Polynomial:
        """One unknown."""
        return cls({frozenset({(atom, power)}): 1.0})

    @classmethod
    def number(cls, value: float) -> Polynomial:
        """A constant."""
        return cls({ONE: value} if value else {})

    @property
    def monomials(self) -> frozenset[Monomial]:
        """The products without their factors."""
        return frozenset(self.terms)

    def __add__(self, other: Polynomial) -> Polynomial:
        found = dict(self.terms)
        for monomial, factor in other.terms.items():
            before = found.get(monomial, 0.0)
            found[monomial] = before + factor
            if abs(found[monomial]) <= CLOSE * max(abs(before), abs(factor)):
                del found[monomial]
        return Polynomial(found)

    def scaled(self, factor: float) -> Polynomial:
        """Every term times a number."""
        return Polynomial({m: f * factor for m, f in self.terms.items()} if factor else {})

    def __mul__(self, other: Polynomial) -> Polynomial:
        found = Polynomial({})
        for one, factor in self.terms.items():
            found += Polynomial({times(one, m): factor * f for m, f in other.terms.items()})
        return found

    def over(self, monomial: Monomial) -> Polynomial:
        """Every term divided by a monomial."""
        return Polynomial({over(m, monomial): f for m, f in self.terms.items()})

    def inverse(self) -> Polynomial | None:
        """One over it; None for a sum."""
        if len(self.terms) != 1:
            return None
        ((monomial, factor),) = self.terms.items()
        return Polynomial({over(ONE, monomial): 1.0 / factor})

    def row_sum(self, columns: int) -> Polynomial:
        """The sum along rows of so many columns: numbers per row come out in front."""
        found = Polynomial({})
        for monomial, factor in self.terms.items():
            inside = frozenset(item for item in monomial if not item[0].per_row)
            front = monomial - inside
            summed = frozenset({(Atom("sum", inside), 1)}) if inside else ONE
            count = 1 if inside else columns
            found += Polynomial({times(front, summed): factor * count})
        return found

    def holds(self, atom: Atom) -> bool:
        """Whether an unknown is in a term, sums of its products aside."""
        return any(atom == a for monomial in self.terms for a, _ in monomial)

    def close(self, other: Polynomial) -> bool:
        """Equal, up to the rounding of factors."""
        if self.monomials != other.monomials:
            return False
        return all(
            abs(f - other.terms[m]) <= CLOSE * max(abs(f), abs(other.terms[m]))
            for m, f in self.terms.items()
        )


class Forms:
    """The polynomial of every value that has the shape of a frame, or one number per row of it."""

    def __init__(self, graph: Graph, frame: Shape) -> None:
        self.frame, self.columns = frame, frame[-1]
        self.row_shapes = (frame[:-1], (*frame[:-1], 1))
        self.makers = graph.producers()
        self.named: dict[str, Value] = {}
        self.roots: dict[str, Value | None] = {}  # one over the root, where the graph computes it
        self._of: dict[Value, Polynomial] = {}
        self._alike: dict[frozenset[Monomial], list[Value]] = {}
        self._kept = self._squares(graph)
        self._find_roots(graph)
        for value in (*graph.inputs, *graph.parameters):
            self._enter(value, None)

    def of(self, value: Value) -> Polynomial:
        """The polynomial of a value that ``learn`` has seen, or of an input."""
        if value not in self._of:
            self._enter(value, None)
        return self._of[value]

    def alike(self, form: Polynomial) -> list[Value]:
        """Float values seen so far that have the polynomial."""
        return [v for v in self._alike.get(form.monomials, ()) if self._of[v].close(form)]

    def is_row(self, value: Value) -> bool:
        """Whether it holds one number per row of the frame."""
        return value.shape in self.row_shapes

    def learn(self, node: Node) -> None:
        """The polynomials of a node's outputs; its inputs come before."""
        found = self._read(node) if len(node.outputs) == 1 else None
        for value in node.outputs:
            self._enter(value, found)

    def close_off(self, value: Value) -> None:
        """From here on the value is an unknown of its own."""
        self._of[value] = Polynomial.of(self._unknown(value))

    def base(self, value: Value) -> Value:
        """The value behind conversions between floats, and behind what keeps rows."""
        node = self.makers.get(value)
        while node is not None and _same_numbers(node):
            value = node.inputs[0]
            node = self.makers.get(value)
        return value

    def _find_roots(self, graph: Graph) -> None:
        for node in graph.nodes:
            if not self._takes_root(node) or not self.is_row(node.outputs[0]):
                continue
            base = self.base(node.inputs[0])
            self.named[base.name] = base
            if isinstance(node.op, Rsqrt):
                self.roots[base.name] = node.outputs[0]
            else:
                self.roots.setdefault(base.name, None)

    def _takes_root(self, node: Node) -> bool:
        if isinstance(node.op, Power):
            return splat_of(node.inputs[1], self.makers.get) in HALVES
        return isinstance(node.op, Rsqrt | Sqrt)

    def _squares(self, graph: Graph) -> set[Value]:
        """Rows whose squares are summed: a norm takes them as they are, sums or not."""
        found = set()
        for node in graph.nodes:
            if not sums_last(node) or node.inputs[0].shape != self.frame:
                continue
            square = self.makers.get(self.base(node.inputs[0]))
            if square is not None and _is_square(square, self.makers.get):
                rows = self.base(square.inputs[0])
                maker = self.makers.get(rows)
                if maker is not None and isinstance(maker.op, Subtract):
                    centre = self.makers.get(maker.inputs[1])
                    if centre is not None and keeps_rows(centre):
                        rows = self.base(maker.inputs[0])
                found.add(rows)
        return found

    def _unknown(self, value: Value) -> Atom:
        self.named[value.name] = value
        return Atom("row" if self.is_row(value) else "wide", value.name)

    def _enter(self, value: Value, form: Polynomial | None) -> None:
        if value.name in self.roots:
            form = Polynomial.of(Atom("root", value.name), -2)
        elif form is None or len(form.terms) > TERMS_MAX or value in self._kept:
            form = Polynomial.of(self._unknown(value))
        self._of[value] = form
        inside = value.shape == self.frame or self.is_row(value)
        if inside and is_float(value.dtype):
            self._alike.setdefault(form.monomials, []).append(value)

    def _read(self, node: Node) -> Polynomial | None:
        value = node.outputs[0]
        if not is_float(value.dtype) or not (value.shape == self.frame or self.is_row(value)):
            return None
        if isinstance(node.op, Constant):
            return Polynomial.number(float(node.op.number)) if node.op.is_splat else None
        if isinstance(node.op, BroadcastInDim | Reshape | Convert):
            return self._moved(node)
        if isinstance(node.op, Reduce):
            return self._summed(node)
        if isinstance(node.op, Divide) and self._keeps_variance(node):
            return Polynomial.number(1.0)
        rule = _RULES.get(type(node.op))
        inside = all(v.shape == self.frame or self.is_row(v) for v in node.inputs)
        found = rule(*map(self.of, node.inputs)) if rule is not None and inside else None
        if found is not None and isinstance(node.op, Add | Subtract) and _is_plain(found):
            return None  # a sum of unknowns is one more: gradients of it are not taken apart
        return found

    def _keeps_variance(self, node: Node) -> bool:
        """The derivative of ``max(variance, 0)``: one, but for rounding of a zero variance."""
        taken, shared = (self.makers.get(v) for v in node.inputs)
        if taken is None or shared is None or not isinstance(taken.op, Select):
            return False
        compare = self.makers.get(taken.inputs[0])
        if not isinstance(shared.op, Select) or compare is None:
            return False
        if [splat_of(v, self.makers.get) for v in taken.inputs[1:]] != [1.0, 0.0]:
            return False
        value, top = compare.inputs
        maker = self.makers.get(top)
        if maker is None or not isinstance(maker.op, Maximum) or value not in maker.inputs:
            return False
        others = [splat_of(v, self.makers.get) for v in maker.inputs if v != value]
        return others == [0.0] and self._is_variance(self.of(value))

    def _is_variance(self, form: Polynomial) -> bool:
        """Whether it is the mean of the squares of ``x - mean(x)``."""
        sums = {a for m in form.terms for a, _ in m if a.kind == "sum"}
        rows = [a.key for a in sums if isinstance(a.key, frozenset)]
        for x in (Polynomial({key: 1.0}) for key in rows):
            centred = x + x.row_sum(self.columns).scaled(-1.0 / self.columns)
            variance = (centred * centred).row_sum(self.columns).scaled(1.0 / self.columns)
            if variance.close(form):
                return True
        return False

    def _moved(self, node: Node) -> Polynomial | None:
        source, value = node.inputs[0], node.outputs[0]
        if _same_numbers(node):
            return self.of(source)
        number = splat_of(value, self.makers.get)
        if number is not None:
            return Polynomial.number(number)
        column = column_of(value, self.makers.get) if value.shape == self.frame else None
        if column is None:
            return None
        self.named[column.name] = column
        return Polynomial.of(Atom("column", column.name))

    def _summed(self, node: Node) -> Polynomial | None:
        source = node.inputs[0]
        if not sums_last(node):
            return None
        if source.shape == self.frame:
            return self.of(source).row_sum(self.columns)
        return self.of(source) if source.shape == self.row_shapes[1] else None


def _divided(one: Polynomial, other: Polynomial) -> Polynomial | None:
    inverse = other.inverse()
    return None if inverse is None else one * inverse


def _raised(one: Polynomial, other: Polynomial) -> Polynomial | None:
    """A small whole power, or one of a single term that leaves whole powers."""
    exponent = other.terms.get(ONE)
    if exponent is None or len(other.terms) != 1:
        return None
    if len(one.terms) == 1:
        ((monomial, factor),) = one.terms.items()
        powers = [(atom, power * exponent) for atom, power in monomial]
        positive = factor > 0 and all(atom.kind == "root" for atom, _ in monomial)
        whole = all(power == int(power) for _, power in powers)
        if whole and (positive or exponent == int(exponent)):
            raised = frozenset((atom, int(power)) for atom, power in powers)
            return Polynomial({raised: factor**exponent})
    if exponent not in range(1, POWER_MAX):
        return None
    found = one
    for _ in range(int(exponent) - 1):
        found *= one
    return found


def _root(form: Polynomial) -> Polynomial | None:
    return _raised(form, Polynomial.number(0.5))


def _one_over_root(form: Polynomial) -> Polynomial | None:
    return _raised(form, Polynomial.number(-0.5))


_RULES: Final[Mapping[type[Op], Callable[..., Polynomial | None]]] = {
    Add: lambda one, other: one + other,
    Subtract: lambda one, other: one + other.scaled(-1.0),
    Multiply: lambda one, other: one * other,
    Negate: lambda one: one.scaled(-1.0),
    Divide: _divided,
    Power: _raised,
    Sqrt: _root,
    Rsqrt: _one_over_root,
}


def _is_plain(form: Polynomial) -> bool:
    """A sum of several unknowns with a number per element, each as it is."""
    if len(form.terms) < 2:  # noqa: PLR2004 - a sum
        return False
    return all(
        len(monomial) == 1 and all(a.kind == "wide" and power == 1 for a, power in monomial)
        for monomial in form.terms
    )


def _same_numbers(node: Node) -> bool:
    """A conversion between floats, or a shape that keeps one number per row."""
    if isinstance(node.op, Convert):
        return is_float(node.inputs[0].dtype) and is_float(node.outputs[0].dtype)
    return keeps_rows(node)


def sums_last(node: Node) -> bool:
    """Whether a node sums the last dim, and that alone."""
    rank = len(node.inputs[0].shape) if node.inputs else 0
    return isinstance(node.op, Reduce) and node.op.kind == "add" and node.op.dims == (rank - 1,)


def _is_square(node: Node, maker: Callable[[Value], Node | None]) -> bool:
    if isinstance(node.op, Multiply):
        return node.inputs[0] == node.inputs[1]
    return isinstance(node.op, Power) and splat_of(node.inputs[1], maker) == 2.0  # noqa: PLR2004


def splat_of(value: Value, maker: Callable[[Value], Node | None]) -> float | None:
    """The one number that a value holds everywhere."""
    node = maker(value)
    while node is not None and isinstance(node.op, BroadcastInDim | Reshape):
        node = maker(node.inputs[0])
    if node is None or not isinstance(node.op, Constant) or not node.op.is_splat:
        return None
    return float(node.op.number)


def column_of(value: Value, maker: Callable[[Value], Node | None]) -> Value | None:
    """The [C] value, or one with leading dims of one, that is repeated over all rows."""
    node = maker(value)
    if node is None or not isinstance(node.op, BroadcastInDim):
        return None
    source, last = node.inputs[0], len(value.shape) - 1
    ones = all(size == 1 for size in source.shape[:-1])
    if not ones or source.shape[-1:] != value.shape[-1:] or node.op.dims[-1:] != (last,):
        return None
    before = maker(source)
    while before is not None and isinstance(before.op, Reshape | Convert):
        if isinstance(before.op, Convert) and not _same_numbers(before):
            break
        if before.inputs[0].type.elements != before.inputs[0].shape[-1:][0]:
            break
        source = before.inputs[0]
        before = maker(source)
    return source


def total(forms: Iterable[Polynomial]) -> Polynomial:
    """The sum of polynomials."""
    found = Polynomial({})
    for form in forms:
        found += form
    return found


__all__ = [
    "ONE",
    "Atom",
    "Forms",
    "Monomial",
    "Polynomial",
    "over",
    "splat_of",
    "sums_last",
    "times",
    "total",
]
