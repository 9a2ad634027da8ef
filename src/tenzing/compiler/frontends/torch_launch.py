"""One ATen call as a program of its own: traced once per signature, run on the simulated core."""

from __future__ import annotations

import logging
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from tenzing.compiler.execution import run_graph
from tenzing.compiler.frontends.torch_compile import AotReader
from tenzing.compiler.frontends.torch_values import from_numpy, numpy_dtype, to_numpy
from tenzing.compiler.graph import Graph, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import run
from tenzing.compiler.timing import time_graph
from tenzing.errors import Loc, TenzingError, UnsupportedOp, is_user_code

PROGRAMS_KEPT: Final = 4096  # signatures remembered, the least recently used leave first
DYNAMIC: Final = ("DataDependentOutputException", "DynamicOutputShapeException")


def _add_scaled(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    return x.add_(y * alpha)


def _add_quotient(x: Any, above: Any, below: Any, *, value: Any = 1) -> Any:
    return x.add_(value * above / below)


# Operations of optimizers whose numbers follow a schedule, and their form with tensors for these.
LIFTED: Final[Mapping[str, Callable[..., Any] | None]] = {
    "mul.Tensor": None, "mul_.Tensor": None, "div.Tensor": None, "div_.Tensor": None,
    "add_.Tensor": _add_scaled, "addcdiv_.default": _add_quotient,
}  # fmt: skip


@dataclass
class Program:
    """One signature: its graph, what the results are made of, and how often it was launched.

    ``nesting`` is how PyTorch nests the call's own results; what the call writes follows them.
    """

    graph: Graph
    results: tuple[Any, ...]
    nesting: Any
    target: str
    launches: int = 0

    @cached_property
    def optimised(self) -> Graph:
        """The graph after the passes."""
        return default_pipeline().run(self.graph)

    @cached_property
    def latency_us(self) -> float:
        """One launch on the device."""
        return time_graph(self.graph, self.target).latency_us if self.graph.nodes else 0.0

    def __call__(self, tensors: Sequence[Any], numerics: str) -> list[Any]:
        """Host tensors of the results for host tensors of the arguments."""
        self.launches += 1
        arrays = [to_numpy(tensor) for tensor in tensors]
        if numerics == "graph":
            outputs = iter(run(self.optimised, arrays, {}))
        else:
            outputs = iter(run_graph(self.optimised, arrays, {}, self.target)[0])
        return [from_numpy(next(outputs)) if isinstance(r, Value) else r for r in self.results]


@dataclass
class Launcher:
    """Runs ATen calls on one kind of chip and counts their launches."""

    torch: Any
    target: str
    numerics: str
    programs: OrderedDict[Any, Program] = field(default_factory=OrderedDict)
    settled_us: float = 0.0

    @property
    def device_us(self) -> float:
        """Simulated time of all launches so far."""
        return self.settled_us + sum(p.launches * p.latency_us for p in self.programs.values())

    def forget_time(self) -> None:
        """Count from zero again."""
        self.settled_us = 0.0
        for program in self.programs.values():
            program.launches = 0

    def call(
        self, func: Any, leaves: Sequence[Any], tree: Any, written: Sequence[int]
    ) -> tuple[Any, list[Any]]:
        """Results of ``func`` for leaves on the host, and new contents of those that it writes.

        Raises UnsupportedOp, which names the operation and the user's line.
        """
        func, leaves = self._lifted(func, leaves)
        key = (func, self.target, str(tree), tuple(map(_signature, leaves)))
        program = self.programs.pop(key, None)
        if program is None:
            program = self._traced(func, leaves, tree, written)
        self.programs[key] = program
        if len(self.programs) > PROGRAMS_KEPT:
            _, old = self.programs.popitem(last=False)
            self.settled_us += old.launches * old.latency_us
        tensors = [leaf for leaf in leaves if isinstance(leaf, self.torch.Tensor)]
        results = program(tensors, self.numerics)
        count = len(results) - len(written)
        nested = self.torch.utils._pytree.tree_unflatten(results[:count], program.nesting)
        return nested, results[count:]

    def _lifted(self, func: Any, leaves: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """Numbers that change from step to step as inputs, so that one program serves all steps."""
        name, first = str(func).removeprefix("aten."), leaves[0]
        dense = isinstance(first, self.torch.Tensor) and first.dim() and first.is_floating_point()
        if name not in LIFTED or not dense or float not in map(type, leaves):
            return func, leaves
        inputs = [from_numpy(np.array(x, np.float32)) if type(x) is float else x for x in leaves]
        return LIFTED[name] or func, inputs

    def _traced(
        self, func: Any, leaves: Sequence[Any], tree: Any, written: Sequence[int]
    ) -> Program:
        try:
            call = _Call(self.torch, func, leaves, tree, written)
            graph, results = AotReader(self.torch, call.fx_graph(), str(func)).read()
        except TenzingError as error:
            raise error.at(user_place()) from None
        except Exception as error:
            if type(error).__name__ in DYNAMIC:
                raise _depends_on_values(func).at(user_place()) from error
            raise
        return Program(graph, tuple(results), call.nesting, self.target)


class _Call:
    """A call as a function of its tensors alone, without writes."""

    def __init__(
        self, torch: Any, func: Any, leaves: Sequence[Any], tree: Any, written: Sequence[int]
    ) -> None:
        self.torch, self.func, self.tree, self.written = torch, func, tree, written
        self.leaves = list(leaves)
        self.places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.nesting: Any = None

    def fx_graph(self) -> Any:
        """Nodes of core ATen operations."""
        from torch._decomp import core_aten_decompositions
        from torch.fx.experimental.proxy_tensor import make_fx

        torch = self.torch
        for leaf in self.leaves:  # what the chip cannot hold is refused
            dtype = getattr(leaf, "dtype", leaf)
            if isinstance(dtype, torch.dtype):
                numpy_dtype(dtype)
        shapes = [
            torch.empty(self.leaves[k].shape, dtype=self.leaves[k].dtype, device="cpu")
            for k in self.places
        ]
        function = torch.func.functionalize(self, remove="mutations_and_views")

        def trace() -> Any:
            with torch.no_grad(), _without_log():
                table = core_aten_decompositions()
                return make_fx(function, table, tracing_mode="fake")(*shapes).graph

        # inside a dispatch PyTorch's thread-local state forbids tracing: another thread has its own
        with ThreadPoolExecutor(max_workers=1) as tracer:
            graph = tracer.submit(trace).result()
        self._check_static(graph)
        return graph

    def _check_static(self, graph: Any) -> None:
        values = (node.meta.get("val") for node in graph.nodes)
        tensors = [v for v in values if isinstance(v, self.torch.Tensor)]
        if any(not isinstance(size, int) for tensor in tensors for size in tensor.shape):
            raise _depends_on_values(self.func)

    def __call__(self, *tensors: Any) -> list[Any]:
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor.clone() if place in self.written else tensor
        flatten = self.torch.utils._pytree.tree_flatten
        args, kwargs = self.torch.utils._pytree.tree_unflatten(leaves, self.tree)
        results = self.func(*args, **kwargs)
        # what an operation hands back of what it wrote is the caller's own tensor
        found, self.nesting = flatten(results if makes_new(self.func) else None)
        return [*found, *(leaves[place] for place in self.written)]


def makes_new(func: Any) -> bool:
    """Whether a call returns tensors other than those that it writes."""
    schema = getattr(func, "_schema", None)
    return schema is not None and any(r.alias_info is None for r in schema.returns)


def _depends_on_values(func: Any) -> TenzingError:
    return UnsupportedOp(
        f"{func} on the neuron device gives a result that depends on values in its shape",
        next_step="move its inputs to the host first: .cpu()",
    )


@contextmanager
def _without_log() -> Iterator[None]:
    """A call with wrong arguments raises PyTorch's own error, without the log of how."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _signature(leaf: Any) -> Any:
    """What of an argument a program depends on."""
    if hasattr(leaf, "shape"):
        return tuple(leaf.shape), leaf.dtype
    return type(leaf), repr(leaf)


def user_place() -> Loc | None:
    """The innermost line of the user's code."""
    frames = (f for f in reversed(traceback.extract_stack()) if is_user_code(f.filename))
    return next((Loc(f.filename, f.lineno or 1, f.name) for f in frames), None)


__all__ = ["Launcher", "Program", "makes_new", "user_place"]
