"""How close a compiled module comes to its framework, as a whole and operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.execution import run_graph
from tenzing.compiler.graph import Array, Graph, Node, Value, is_float

EXACT_TOLERANCE: Final = 1e-4  # of the largest element: float32 sums in another order
NARROW_TOLERANCE: Final = 2e-2  # narrow floats round every step
SINGLE_BYTES: Final = 4


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
    """Differences of the outputs with the framework's, and of each operation with its meaning."""

    outputs: tuple[Difference, ...]
    operations: tuple[Difference, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every output is within its tolerance."""
        return not any(d.beyond for d in self.outputs)

    @property
    def first(self) -> Difference | None:
        """The first operation, in order of execution, beyond its tolerance."""
        return next((d for d in self.operations if d.beyond), None)

    def __str__(self) -> str:
        rows = [*self.outputs, *self.operations]
        lines = [f"{d.name}: max abs {d.max_abs:.3g}, relative {d.relative:.3g}"
                 f"{f', {d.operation} of {d.module or chr(45)} {d.place}' if d.operation else ''}"
                 f"{'  BEYOND ' + format(d.tolerance, '.1g') if d.beyond else ''}"
                 for d in rows]  # fmt: skip
        return "\n".join(lines)


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
        node.op.name if node else "", node.scope if node else "", place,
    )  # fmt: skip


def tolerance_of(dtype: np.dtype[Any], autocast: str = "none") -> float:
    """The relative difference that rounding alone explains."""
    narrow = is_float(dtype) and dtype.itemsize < SINGLE_BYTES
    return NARROW_TOLERANCE if narrow or autocast != "none" else EXACT_TOLERANCE


def compare_operations(
    graph: Graph, bound: Mapping[Value, Array], target: str, autocast: str
) -> tuple[Difference, ...]:
    """Each node on the chip beside its NumPy meaning, both given what the meaning says before."""
    arrays = dict(bound)
    found = []
    for node in graph.nodes:
        expected = node.op.reference(*(arrays[v] for v in node.inputs))
        arrays.update(zip(node.outputs, expected, strict=True))
        sources = tuple(dict.fromkeys(node.inputs))
        single = Graph(node.op.name, sources, (), (node,), node.outputs)
        got, _ = run_graph(single, [arrays[v] for v in sources], {}, target)
        for value, mine, theirs in zip(node.outputs, got, expected, strict=True):
            limit = max(tolerance_of(v.dtype, autocast) for v in (value, *node.inputs))
            found.append(difference(f"%{value.name}", mine, theirs, limit, node))
    return tuple(found)


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
