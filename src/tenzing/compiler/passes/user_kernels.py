"""Puts the user's own kernels in the place of ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tenzing.compiler.graph import Graph, GraphBuilder, Node, Value, rewrite
from tenzing.compiler.ops import OPS, KernelCall, register_kernel
from tenzing.compiler.ops.control import KERNELS
from tenzing.compiler.passes.pipeline import Pass
from tenzing.errors import UsageError

Kernels = tuple[tuple[str, str], ...]  # operation, registered kernel


def registered(kernels: Mapping[str, Callable[..., Any]]) -> Kernels:
    """Kernels by the operation they replace, registered; UsageError for an unknown operation."""
    pairs = []
    for operation, kernel in kernels.items():
        if operation not in OPS:
            raise UsageError(
                "a kernel replaces an operation that does not exist", got=operation,
                allowed=", ".join(sorted(OPS)),
            )  # fmt: skip
        name = f"{operation}.{getattr(kernel, '__name__', type(kernel).__name__)}"
        pairs.append((operation, register_kernel(name, kernel)))
    return tuple(pairs)


@dataclass(frozen=True)
class UseKernels(Pass):
    """Replace operations by calls of the user's kernels where their parameters fit.

    A kernel gets the operation's tensors in order, and as keywords those attributes that it has
    parameters for. It does not fit an operation with more tensors, or with an attribute beyond its
    default that the kernel has no parameter for; such an operation keeps our kernel.
    """

    kernels: Kernels

    def apply(self, graph: Graph) -> Graph:
        """See the class."""
        chosen = dict(self.kernels)
        used: set[str] = set()

        def rule(
            builder: GraphBuilder, node: Node, inputs: tuple[Value, ...]
        ) -> tuple[Value, ...] | None:
            name = chosen.get(node.op.name)
            call = None if name is None else _call(node, name)
            if call is None:
                return None
            used.add(node.op.name)
            return builder.emit(call, *inputs, hint=node.outputs[0].name)

        result = rewrite(graph, rule)
        idle = sorted(set(chosen) - used)
        if idle:
            raise UsageError(
                "no operation of the model takes the kernel given for it", got=", ".join(idle),
                allowed=", ".join(sorted(graph.count())),
                next_step="its parameters must be the operation's tensors, then attributes by name",
            )  # fmt: skip
        return result


def _call(node: Node, name: str) -> KernelCall | None:
    parameters = list(inspect.signature(KERNELS[name].function).parameters)[len(node.inputs) :]
    attributes = []
    for f in fields(node.op):  # type: ignore[arg-type]
        value = getattr(node.op, f.name)
        if f.name in parameters:
            attributes.append((f.name, value))
        elif f.default is not value and f.default != value and not _is_layout(f.name):
            return None
    try:
        inspect.signature(KERNELS[name].function).bind(*node.inputs, **dict(attributes))
    except TypeError:
        return None
    return KernelCall(name, tuple(v.type for v in node.outputs), tuple(attributes))


def _is_layout(name: str) -> bool:
    """Attributes that other passes settle the same way for every model: always [k, n], types."""
    return name in ("weight", "out_dtype")


__all__ = ["Kernels", "UseKernels", "registered"]
