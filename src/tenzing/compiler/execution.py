"""Runs a graph on a simulated core, or records it for time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tenzing import facts
from tenzing.compiler.graph import Array, Graph, Value
from tenzing.compiler.lowering import (
    RECORDINGS,
    Progress,
    Recordings,
    device_dtype,
    lower_graph,
)
from tenzing.errors import CapacityError
from tenzing.isa import Program, Space
from tenzing.machine import ACTIVE, Core, Options, hbm_need_bytes, lifetimes
from tenzing.nki import NkiTensor
from tenzing.units import format_bytes


def run_graph(
    graph: Graph,
    inputs: Sequence[Array],
    weights: Mapping[str, Array],
    target: str,
    progress: Progress | None = None,
) -> tuple[list[Array], Program]:
    """Execute a graph on a simulated core: output arrays and the recorded program."""
    core = Core(facts.chip(target), Options(values=True), graph.name)
    arrays = dict(zip(graph.inputs, inputs, strict=True))
    arrays.update({value: weights[value.name] for value in graph.parameters})
    bound = {v: _bind(core, v, arrays[v]) for v in (*graph.inputs, *graph.parameters)}
    outputs = _lower(core, graph, bound, progress)
    results = [
        tensor.array().astype(value.dtype).reshape(value.shape)
        for tensor, value in zip(outputs, graph.outputs, strict=True)
    ]
    return results, core.program


def record_graph(
    graph: Graph, target: str, *, check_memory: bool = True, ends: list[int] | None = None,
    recordings: Recordings | None = None,
) -> Program:  # fmt: skip
    """The program of a graph without values: shapes and dtypes decide it.

    ``ends`` gets the number of instructions up to the end of each node. ``recordings``: kernels
    that other graphs of this target recorded, and where this graph's are kept for the next.

    Raises CapacityError when it needs more HBM than a core has, unless told not to look.
    """
    core = Core(facts.chip(target), Options(values=False), graph.name)
    known = recordings or Recordings()
    known.serve(core)
    bound = {v: _bind(core, v, None) for v in (*graph.inputs, *graph.parameters)}

    def mark(number: int, total: int) -> None:
        core.flush()
        assert ends is not None
        ends.append(len(core.program))

    token = RECORDINGS.set(known)
    try:
        _lower(core, graph, bound, None if ends is None else mark, check_memory)
    finally:
        RECORDINGS.reset(token)
    return core.program


def _bind(core: Core, value: Value, array: Array | None) -> NkiTensor:
    dtype = device_dtype(value.dtype)
    contents = None if array is None else np.ascontiguousarray(array).astype(dtype, copy=False)
    storage, _, layout, data = core.allocate(
        Space.HBM, dtype, value.shape or (1,), name=value.name, origin="input", contents=contents
    )
    return NkiTensor(storage, 0, layout, data)


def _lower(
    core: Core,
    graph: Graph,
    bound: dict[Value, NkiTensor],
    progress: Progress | None,
    check_memory: bool = True,
) -> list[NkiTensor]:
    token = ACTIVE.set(core)
    try:
        outputs = lower_graph(graph, bound, progress)
        core.flush()
    finally:
        ACTIVE.reset(token)
    limit = core.chip.integer("hbm.core_bytes")
    needed = hbm_need_bytes(core.program, *lifetimes(core.program)) if check_memory else 0
    if needed > limit:
        raise CapacityError(
            f"the model needs {format_bytes(needed)} of HBM on one core of {core.chip.name}: "
            f"{_shares(graph, needed)}",
            allowed=f"{format_bytes(limit)} (hbm.core_bytes)",
            next_step="use a smaller batch, narrower weights or more cores",
        )  # fmt: skip
    return outputs


def _shares(graph: Graph, needed_bytes: int) -> str:
    """What fills the memory: weights, state that calls write, inputs, and activations at peak."""
    written = {alias.target for alias in graph.aliases}
    fixed = {"weights": 0, "state": 0, "inputs": 0}
    for value in (*graph.parameters, *graph.inputs):
        kind = "inputs" if value in graph.inputs else "weights"
        kind = "state" if value.name in written else kind
        fixed[kind] += value.type.elements * device_dtype(value.dtype).itemsize
    fixed["activations"] = max(needed_bytes - sum(fixed.values()), 0)
    return ", ".join(f"{name} {format_bytes(size)}" for name, size in fixed.items())


__all__ = ["record_graph", "run_graph"]
