"""How close a compiled module comes to its framework, as a whole and operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.choices import Choice
from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import Array, Graph, Node, Value, is_float
from tenzing.compiler.ops import BroadcastInDim, Constant, Fused, Reshape

EXACT_TOLERANCE: Final = 1e-4  # of the largest element: float32 sums in another order
NARROW_TOLERANCE: Final = 2e-2  # narrow floats round every step
SINGLE_BYTES: Final = 4
MOVES: Final = (BroadcastInDim, Constant, Reshape)  # what lies around the arithmetic of a group


@dataclass(frozen=True)
class Difference:
    """One tensor beside what it should be; ``relative`` is of the largest expected element."""

    name: str
    max_abs: float
    relative: float
    cosine: float
    tolerance: float
    operation: str = ""
    module: str = ""
    place: str = ""

    @property
    def beyond(self) -> bool:
        """Whether it is farther away than the tolerance, or not a number."""
        return not self.relative <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """Differences of the outputs with the framework's, and of each operation, in two ways.

    ``operations`` sets each result on the chip beside the framework's own value, from the values
    that the framework had before it. Operations joined into one appear with their last result;
    ``without_counterpart`` results, which the framework does not have, not at all. ``meanings``
    sets each operation on the chip beside its NumPy meaning for the same inputs.
    ``no_intermediates`` says why a framework has no values to show; ``operations`` is then empty.

    Where an output is beyond its tolerance, ``choices`` lists the decisions between candidates
    equal within rounding that the framework took otherwise, and ``followed`` compares the outputs
    once more with every one of them taken as there. ``cause`` says whether the framework's own
    translation of the model already answers otherwise than the model.
    """

    outputs: tuple[Difference, ...]
    operations: tuple[Difference, ...] = ()
    meanings: tuple[Difference, ...] = ()
    without_counterpart: int = 0
    no_intermediates: str = ""
    choices: tuple[Choice, ...] = ()
    followed: tuple[Difference, ...] = ()
    cause: str = ""

    @property
    def explained(self) -> bool:
        """Whether the outputs part only because of choices between near equals."""
        return bool(self.choices) and not any(d.beyond for d in self.followed)

    @property
    def agrees(self) -> bool:
        """Whether every output is within its tolerance."""
        return not any(d.beyond for d in self.outputs)

    @property
    def first(self) -> Difference | None:
        """The first operation, in order of execution, that parts from the framework's value."""
        return next((d for d in self.operations if d.beyond), None)

    @property
    def first_meaning(self) -> Difference | None:
        """The first operation that the chip computes otherwise than its NumPy meaning."""
        return next((d for d in self.meanings if d.beyond), None)

    def __str__(self) -> str:
        parts = ["\n".join(map(_line, self.outputs))]
        parts.extend(self._reasons())
        if not self.meanings:
            return "\n\n".join(parts)
        if self.no_intermediates:
            parts.append(f"no operation beside the framework's: {self.no_intermediates}")
        else:
            more = f"{self.without_counterpart} more results have no counterpart there"
            title = f"operations beside the framework's ({more})"
            parts.append(_table(title, self.operations, "parts from the framework", self.first))
        title, verdict = "operations beside their NumPy meaning", "parts from its meaning"
        parts.append(_table(title, self.meanings, verdict, self.first_meaning))
        return "\n\n".join(parts)

    def _reasons(self) -> list[str]:
        """Why outputs part, as far as it is known."""
        reasons = [self.cause] if self.cause else []
        if self.choices:
            worst = max(self.followed, key=lambda d: d.relative, default=None)
            verdict = (
                "with the framework's picks every output agrees" if self.explained
                else "even with the framework's picks outputs part"
            ) + (f" (largest relative {worst.relative:.2g})" if worst else "")  # fmt: skip
            title = "choices between candidates that are equal within rounding"
            reasons.append("\n".join([title, *map(str, self.choices), verdict]))
        return reasons


def _table(title: str, rows: Sequence[Difference], what: str, first: Difference | None) -> str:
    found = f"no operation {what}" if first is None else f"first that {what}: {_line(first)}"
    return "\n".join([title, *map(_line, rows), found])


def _line(d: Difference) -> str:
    where = f", {d.operation} of {d.module or '-'} {d.place}" if d.operation else ""
    beyond = f"  BEYOND {d.tolerance:.1g}" if d.beyond else ""
    return f"{d.name}: max abs {d.max_abs:.3g}, relative {d.relative:.3g}{where}{beyond}"


def difference(
    name: str, got: Array, expected: Array, tolerance: float, node: Node | None = None
) -> Difference:
    """How far ``got`` is from ``expected``; infinities that both have do not count."""
    a, b = _wide(got), _wide(expected)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    worst = float(apart.max(initial=0.0))
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    relative = worst / largest if largest else worst
    place = str(node.loc or "") if node else ""
    return Difference(
        name, worst, relative, cosine(got, expected), tolerance,
        operation_of(node) if node else "", node.scope if node else "", place,
    )  # fmt: skip


def operation_of(node: Node) -> str:
    """The name of an operation, with what is computed inside a fused one."""
    if not isinstance(node.op, Fused):
        return node.op.name
    inside = (n.op for n in node.op.body.nodes if not isinstance(n.op, MOVES))
    return f"{node.op.name}({', '.join(dict.fromkeys(op.name for op in inside))})"


def tolerance_of(dtype: np.dtype[Any], autocast: str = "none") -> float:
    """The relative difference that rounding alone explains."""
    narrow = is_float(dtype) and dtype.itemsize < SINGLE_BYTES
    return NARROW_TOLERANCE if narrow or autocast != "none" else EXACT_TOLERANCE


def compare_operations(
    graph: Graph, bound: Mapping[Value, Array], target: str, autocast: str,
    known: Mapping[str, Array],
) -> tuple[list[Difference], list[Difference], int]:  # fmt: skip
    """Each node on the chip beside the framework's value and beside its NumPy meaning.

    ``known``: the framework's values by the value of the imported graph. Every node gets those as
    inputs where there are any, else what the chip computed, so that a fault shows where it is made
    and not again behind it. Also returns how many results have no counterpart among the known.
    """
    arrays, limits = dict(bound), dict.fromkeys(bound, 0.0)
    framework: list[Difference] = []
    meanings: list[Difference] = []
    missing = 0
    for node in graph.nodes:
        meant = node.op.reference(*(arrays[v] for v in node.inputs))
        sources = tuple(dict.fromkeys(node.inputs))
        single = Graph(node.op.name, sources, (), (node,), node.outputs)
        got, _ = run_graph(single, [arrays[v] for v in sources], {}, target)
        near = max(tolerance_of(v.dtype, autocast) for v in (*node.outputs, *node.inputs))
        limit = max([near, *(limits[v] for v in node.inputs)])
        for value, mine, theirs in zip(node.outputs, got, meant, strict=True):
            meanings.append(difference(f"%{value.name}", mine, theirs, near, node))
            wanted = known.get(value.origin)
            if wanted is None or wanted.shape != value.shape:
                arrays[value], limits[value], missing = mine, limit, missing + 1
                continue
            framework.append(difference(f"%{value.name}", mine, wanted, limit, node))
            arrays[value], limits[value] = wanted.astype(value.dtype), 0.0
    return framework, meanings, missing


def agreement(expected: Sequence[Array], got: Sequence[Array]) -> dict[str, float]:
    """How close arrays are to what they should be: largest difference and lowest cosine."""
    worst, lowest = 0.0, 1.0
    for a, b in zip(expected, got, strict=True):
        worst = max(worst, float(np.abs(_wide(a) - _wide(b)).max(initial=0.0)))
        lowest = min(lowest, cosine(a, b))
    return {"max_abs_difference": worst, "cosine": lowest}


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays taken as vectors; 1 when one of them is zero."""
    x, y = _wide(a), _wide(b)
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm else 1.0


def _wide(array: Array) -> Array:
    return array.astype(np.float64).reshape(-1)


__all__ = [
    "Comparison", "Difference", "agreement", "compare_operations", "cosine", "difference",
    "tolerance_of",
]  # fmt: skip
