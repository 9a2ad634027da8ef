"""Operations that hold graphs, and calls of kernels that somebody else wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import BOOL, Array, Graph, GraphError, Op, TensorType, Work
from tenzing.compiler.reference import evaluate
from tenzing.nki.kernel import jit

KERNELS: Final[dict[str, Any]] = {}  # NKI kernels that graphs call, by name


def register_kernel(name: str, kernel: Callable[..., Any]) -> str:
    """Make an NKI kernel callable from graphs; the name may be given to a new kernel again."""
    KERNELS[name] = jit(kernel)
    return name


def run_region(region: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of a region, which reads nothing but its inputs."""
    return evaluate(region, dict(zip(region.inputs, inputs, strict=True)))


def check_region(op: str, region: Graph, inputs: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """The output types of a region; GraphError unless it takes inputs of these types alone."""
    wanted = tuple(value.type for value in region.inputs)
    if wanted != tuple(inputs) or region.parameters or region.aliases:
        raise GraphError(
            f"{op} gives graph {region.name} other inputs than it takes",
            got=", ".join(map(str, inputs)), allowed=", ".join(map(str, wanted)),
        )  # fmt: skip
    return tuple(value.type for value in region.outputs)


@dataclass(frozen=True)
class Call(Op, name="call"):
    """The graph ``body`` applied to the inputs."""

    body: Graph

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The types of the body's outputs."""
        return check_region(self.name, self.body, inputs)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """The body's nodes one after another."""
        return run_region(self.body, inputs)

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """The body's arithmetic."""
        return _arithmetic(self.body)


@dataclass(frozen=True)
class Case(Op, name="case"):
    """One of several graphs, chosen by the first input; an index out of range takes the last.

    Inputs are (index i32[], operands...); every branch takes the operands and yields equal types.
    Two branches and an index of 0 or 1 are an if: (otherwise, then).
    """

    branches: tuple[Graph, ...]

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The types of every branch's outputs."""
        if not inputs or inputs[0] != TensorType((), np.dtype(np.int32)):
            raise GraphError("case index", got=", ".join(map(str, inputs)), allowed="i32[]")
        types = [check_region(self.name, b, inputs[1:]) for b in self.branches]
        if not types or any(t != types[0] for t in types):
            raise GraphError("case branches yield different types", got=types)
        return types[0]

    def branch(self, index: int) -> Graph:
        """The graph that an index chooses."""
        return self.branches[index if 0 <= index < len(self.branches) else -1]

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """The chosen branch alone."""
        return run_region(self.branch(int(inputs[0])), inputs[1:])

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """That of the branch with the most arithmetic."""
        return max((_arithmetic(b) for b in self.branches), key=lambda work: work.flops)


@dataclass(frozen=True)
class While(Op, name="while"):
    """``body`` again and again while ``condition`` holds.

    Both graphs take (carried..., fixed...); the condition yields bool[], the body the next carried
    values. The first ``carried`` inputs change, the others are the same in every turn. ``trips``
    states how often the body runs where only values could tell; 0 states nothing.
    """

    condition: Graph
    body: Graph
    carried: int
    trips: int = 0

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The types of the carried values."""
        if check_region(self.name, self.condition, inputs) != (TensorType((), BOOL),):
            raise GraphError("while condition", got=self.condition.outputs, allowed="one bool[]")
        after = check_region(self.name, self.body, inputs)
        if after != tuple(inputs[: self.carried]):
            raise GraphError("while body changes the types it carries", got=after, allowed=inputs)
        return after

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Turn by turn."""
        carried, fixed = inputs[: self.carried], inputs[self.carried :]
        while run_region(self.condition, (*carried, *fixed))[0]:
            carried = run_region(self.body, (*carried, *fixed))
        return carried

    def arithmetic(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Work:
        """That of the stated trips, at least one."""
        once = _arithmetic(self.body)
        return sum([once] * (max(self.trips, 1) - 1), once)


@dataclass(frozen=True)
class KernelCall(Op, name="kernel"):
    """An NKI kernel registered under ``kernel``, called with the inputs and ``attributes``.

    Its results must have the types in ``results``. What it computes is what its instructions do.
    """

    kernel: str
    results: tuple[TensorType, ...]
    attributes: tuple[tuple[str, Any], ...] = ()

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The stated types."""
        if self.kernel not in KERNELS:
            raise GraphError(
                "no kernel is registered under this name", got=self.kernel,
                allowed=", ".join(sorted(KERNELS)) or "none is registered",
                next_step="import the file that registers it first",
            )  # fmt: skip
        taken = inspect.signature(KERNELS[self.kernel].function)
        try:
            taken.bind(*inputs, **dict(self.attributes))
        except TypeError as error:
            raise GraphError(f"kernel {self.kernel} is called wrongly: {error}",
                             allowed=f"{self.kernel}{taken}") from None  # fmt: skip
        return self.results

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        """Its instructions, on a simulated core of their own."""
        arguments = [np.ascontiguousarray(a) for a in inputs]
        found = KERNELS[self.kernel](*arguments, **dict(self.attributes))
        arrays = found if isinstance(found, tuple | list) else (found,)
        if len(arrays) != len(self.results):
            raise self.mismatch(f"{len(arrays)} results")
        for array, wanted in zip(arrays, self.results, strict=True):
            if array.size != wanted.elements or array.dtype != wanted.dtype:
                raise self.mismatch(f"{array.dtype.name}{list(array.shape)}")
        return tuple(a.reshape(t.shape) for a, t in zip(arrays, self.results, strict=True))

    def mismatch(self, got: str) -> GraphError:
        """The error for a kernel whose results are not what was stated."""
        return GraphError(
            f"kernel {self.kernel} returns another type than it was declared with", got=got,
            allowed=", ".join(map(str, self.results)),
        )  # fmt: skip


def called_kernels(graph: Graph) -> tuple[str, ...]:
    """Names of the user's own kernels that a graph calls, regions included."""
    names: dict[str, None] = {}

    def look(nodes: Graph) -> None:
        for node in nodes.nodes:
            if isinstance(node.op, KernelCall):
                names[node.op.kernel] = None
            for region in node.op.regions:
                look(region)

    look(graph)
    return tuple(names)


def _arithmetic(region: Graph) -> Work:
    total = Work()
    for node in region.nodes:
        types: Mapping[str, list[TensorType]] = {
            "inputs": [v.type for v in node.inputs], "outputs": [v.type for v in node.outputs],
        }  # fmt: skip
        total += node.op.arithmetic(**types)
    return total
