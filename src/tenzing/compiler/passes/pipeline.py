"""What a pass is, and the runner that verifies the graph after each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from tenzing.compiler.graph import Graph, GraphError
from tenzing.compiler.ops import Elementwise
from tenzing.compiler.verify import verify


class Pass(ABC):
    """A rewrite of the whole graph that keeps its meaning; subclasses are frozen dataclasses.

    ``requires`` and ``ensures`` name properties of ``PROPERTIES``; the runner checks them before
    and after.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    ensures: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def apply(self, graph: Graph) -> Graph:
        """The rewritten graph."""

    @property
    def name(self) -> str:
        """The class name, as reports show it."""
        return type(self).__name__


def _live(graph: Graph) -> str | None:
    """Every computed value is read or returned."""
    read = set(graph.outputs).union(*(node.inputs for node in graph.nodes))
    dead = [n for n in graph.nodes if not read.intersection(n.outputs)]
    return f"nobody reads %{dead[0].outputs[0].name}" if dead else None


def _no_wide_integers(graph: Graph) -> str | None:
    """No 64-bit numbers inside the graph."""
    for node in graph.nodes:
        for value in node.outputs:
            if value.dtype.itemsize == np.dtype(np.int64).itemsize:
                return f"{value} is 64 bits wide"
    return None


def _grouped(graph: Graph) -> str | None:
    """Every elementwise operation is part of a fused group."""
    loose = [n for n in graph.nodes if isinstance(n.op, Elementwise)]
    return f"{loose[0].op.name} %{loose[0].outputs[0].name} is in no group" if loose else None


PROPERTIES: Final[Mapping[str, Callable[[Graph], str | None]]] = {
    "live": _live,
    "no_wide_integers": _no_wide_integers,
    "grouped": _grouped,
}


@dataclass(frozen=True)
class Step:
    """What one pass did: node counts by kind before and after."""

    name: str
    before: Mapping[str, int]
    after: Mapping[str, int]


@dataclass(frozen=True)
class Pipeline:
    """Passes in order."""

    passes: tuple[Pass, ...]

    def run(self, graph: Graph, steps: list[Step] | None = None) -> Graph:
        """Apply every pass; BrokenGraph or GraphError names the pass that broke a rule."""
        for each in self.passes:
            check_properties(graph, each.requires, f"before {each.name}")
            after = verify(each.apply(graph), f"after {each.name}")
            check_properties(after, each.ensures, f"after {each.name}")
            if steps is not None:
                steps.append(Step(each.name, graph.count(), after.count()))
            graph = after
        return graph


def check_properties(graph: Graph, names: frozenset[str], stage: str) -> None:
    """Raise GraphError when a named property does not hold."""
    for name in sorted(names):
        problem = PROPERTIES[name](graph)
        if problem is not None:
            raise GraphError(f"graph {graph.name} is not {name} {stage}: {problem}")
