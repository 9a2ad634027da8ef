"""The table of ONNX rules, and the object they use to emit nodes and to ask for known numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends import aten
from tenzing.compiler.graph import Array, GraphBuilder, GraphError, Op, TensorType, Value
from tenzing.errors import UnsupportedOp

Item = Any  # Value, a tuple of Values (a sequence) or None (an absent optional)
Rule = Callable[..., Item]
RuleT = TypeVar("RuleT", bound=Rule)

MICROSOFT: Final = "com.microsoft"
SEQUENCES: Final = (  # operations whose output is a sequence of tensors
    "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SplitToSequence",
)  # fmt: skip
FOLLOWED_ELEMENTS: Final = 65536  # larger tensors do not decide shapes
RULES: Final[dict[tuple[str, str], dict[int, Rule]]] = {}  # by domain, operation, first version


def onnx(*names: str, since: int = 1, domain: str = "") -> Callable[[RuleT], RuleT]:
    """Register a rule for operations from one version of their operation set on."""

    def register(rule: RuleT) -> RuleT:
        for name in names:
            versions = RULES.setdefault((domain, name), {})
            if since in versions:
                raise GraphError("ONNX rule registered twice", got=f"{name} since {since}")
            versions[since] = rule
        return rule

    return register


def find_rule(domain: str, name: str, version: int) -> Rule | None:
    """The newest rule of an operation that is not newer than ``version``."""
    versions = RULES.get((domain, name), {})
    order = sorted(versions)
    place = bisect_right(order, version)
    return versions[order[place - 1]] if place else None


class Region(ABC):
    """A subgraph among the attributes of a node."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Number of its own inputs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of its outputs."""

    @abstractmethod
    def inline(self, inputs: Sequence[Item]) -> list[Item]:
        """Its outputs, its nodes emitted in the graph around it."""

    @abstractmethod
    def captured(self) -> dict[str, Value]:
        """The values outside that it reads, by name."""

    @abstractmethod
    def apart(
        self, own: Sequence[TensorType], captured: Mapping[str, Value]
    ) -> tuple[FollowingBuilder, list[Item]]:
        """The same as a graph of its own, which takes its inputs and then the captured values."""


class Known(NamedTuple):
    """The content of a value, and the inputs whose example values it came from."""

    array: Array
    sources: frozenset[str] = frozenset()


@dataclass
class Knowledge:
    """What is known about values while a graph is built, and the inputs that became fixed."""

    values: dict[Value, Known] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)


class FollowingBuilder(GraphBuilder):
    """A builder that also computes every value that follows from known ones."""

    def __init__(self, name: str, knowledge: Knowledge) -> None:
        super().__init__(name)
        self.knowledge = knowledge

    def emit(self, op: Op, *inputs: Value, hint: str = "") -> tuple[Value, ...]:
        """See the class."""
        outputs = super().emit(op, *inputs, hint=hint)
        self._follow(op, inputs, outputs)
        return outputs

    def _follow(self, op: Op, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        table = self.knowledge.values
        known = [table[value] for value in inputs if value in table]
        small = all(value.type.elements <= FOLLOWED_ELEMENTS for value in outputs)
        if len(known) < len(inputs) or not small or op.regions:
            return
        sources = frozenset[str]().union(*(k.sources for k in known))
        found = op.reference(*(k.array for k in known))
        table.update((v, Known(a, sources)) for v, a in zip(outputs, found, strict=True))


class Translator(aten.Translator):
    """Emits nodes for one ONNX node at a time; ATen's rules and compositions are at hand too.

    ``place`` is the node in words, for errors; ``opset`` the version of its operation set, and
    ``outputs`` how many of its outputs have a name.
    """

    def __init__(
        self, builder: FollowingBuilder, dtype_of: Callable[[int, str], np.dtype[Any]]
    ) -> None:
        super().__init__(builder)
        self.dtype_of = dtype_of
        self.knowledge = builder.knowledge
        self.place = ""
        self.opset = 1
        self.outputs = 1

    def unsupported(self, what: str, *, got: object = None, next_step: str = "") -> UnsupportedOp:
        """An error that names the node."""
        return UnsupportedOp(
            f"{what} (in {self.place})", got=got,
            next_step=next_step or "change the model where it is exported, or add a rule in "
            "tenzing/compiler/frontends/onnx_ops",
        )  # fmt: skip

    def aten(self, overload: str, result: TensorType, *arguments: Any, **named: Any) -> Any:
        """What the ATen rule of an overload gives for a result of this type."""
        self.result, self.used = result, frozenset(range(self.outputs))
        self.overload = overload
        return aten.RULES[overload](self, *arguments, **named)

    # -- numbers that are known while the graph is built ----------------------------------------

    def known(self, value: Value | None) -> Array | None:
        """The content of a value that no input changes; None when it is not known."""
        found = self.knowledge.values.get(value) if value is not None else None
        return found.array if found is not None and not found.sources else None

    def static(self, value: Value, what: str) -> Array:
        """The content of a value that decides a shape.

        When it follows from example inputs, those inputs are fixed to them from now on.
        """
        found = self.knowledge.values.get(value)
        if found is None:
            raise self.unsupported(
                f"{what} depends on data, so a shape would", got=value,
                next_step="make it a constant of the model, or give the input that it comes from "
                "among the example inputs",
            )  # fmt: skip
        self.knowledge.fixed |= found.sources
        return found.array

    def ints(self, value: Value | None, what: str) -> tuple[int, ...] | None:
        """Known integers in a list; None for an absent input."""
        if value is None:
            return None
        return tuple(int(n) for n in self.static(value, what).reshape(-1))

    def number(self, value: Value | None, what: str, default: Any = None) -> Any:
        """One known number; the default for an absent input."""
        if value is None or not value.type.elements:
            return default
        return self.static(value, what).reshape(-1)[0].item()

    def constant(self, array: Any) -> Value:
        """A constant with the content of an array."""
        return self.emit(ops.Constant.of(np.asarray(array)))

    @property
    def kind(self) -> str:
        """The name of the node's operation."""
        return self.place.rsplit("(", 1)[-1].rstrip(")").rsplit(".", 1)[-1]

    def dtype(self, code: int) -> np.dtype[Any]:
        """NumPy's dtype for the number of an ONNX element type."""
        return self.dtype_of(code, self.place)

    # -- short forms -----------------------------------------------------------------------------

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the start; an error when the tensor lacks it."""
        if not -rank <= axis < max(rank, 1):
            raise self.unsupported("an axis that the tensor lacks", got=axis)
        return axis % max(rank, 1)

    def axes(self, axes: Iterable[int], rank: int) -> tuple[int, ...]:
        """Sorted axes counted from the start."""
        return tuple(sorted(self.axis(a, rank) for a in axes))

    def together(self, *values: Value) -> list[Value]:
        """Values stretched to their common shape, as NumPy does."""
        shape = np.broadcast_shapes(*(v.shape for v in values))
        return [self.broadcast(v, shape) for v in values]


__all__ = [
    "MICROSOFT", "RULES", "SEQUENCES", "FollowingBuilder", "Item", "Knowledge", "Known", "Region",
    "Translator", "find_rule", "onnx",
]  # fmt: skip
