"""A compiled model: graph, prepared weights and target; call it, time it, print it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tenzing import facts
from tenzing.compiler.frontends import torch as torch_frontend
from tenzing.compiler.frontends import torch_compile, torch_values
from tenzing.compiler.graph import Array, Graph, Value
from tenzing.compiler.lowering import Progress, device_dtype, lower_graph
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import prepare
from tenzing.errors import CapacityError, UsageError
from tenzing.isa import Program, Space
from tenzing.machine import ACTIVE, Analysis, Core, Options, analyse
from tenzing.nki import NkiTensor

AUTOCAST: Final = ("none", "matmult", "all")
NUMERICS: Final = ("instruction", "graph")


@dataclass
class Compiled:
    """A model as a program for one chip.

    Calling it runs every instruction on the simulated chip and returns what the model returns.
    ``program`` and ``analysis`` need no values: they come from shapes alone.
    """

    graph: Graph
    weights: Mapping[str, Array]
    target: str
    autocast: str
    to_user: Callable[[Sequence[Array]], Any]
    from_user: Callable[[Sequence[Any]], list[Array]]
    _programs: dict[str, Program] = field(default_factory=dict, repr=False)
    _analyses: dict[str, Analysis] = field(default_factory=dict, repr=False)

    def __call__(self, *inputs: Any, progress: Progress | None = None) -> Any:
        """Execute on the simulated chip; raises UsageError for inputs of other shapes."""
        arrays = self.from_user(inputs)
        outputs, program = run_graph(self.graph, arrays, self.weights, self.target, progress)
        self._programs[self.target] = program
        return self.to_user(outputs)

    @property
    def program(self) -> Program:
        """The recorded instructions on the target."""
        return self.program_for(self.target)

    @property
    def analysis(self) -> Analysis:
        """Time, memory and findings on the target."""
        return self.analysis_for(self.target)

    @property
    def latency_us(self) -> float:
        """One execution on the device, launch included, in microseconds."""
        return self.analysis.latency_ps / 1e6

    def program_for(self, target: str) -> Program:
        """The same graph recorded for another chip, for time only."""
        name = facts.chip(target).name
        if name not in self._programs:
            self._programs[name] = record_graph(self.graph, name)
        return self._programs[name]

    def analysis_for(self, target: str) -> Analysis:
        """Analysis on another chip."""
        name = facts.chip(target).name
        if name not in self._analyses:
            self._analyses[name] = analyse(self.program_for(name))
        return self._analyses[name]

    def text(self) -> str:
        """The optimised graph as text."""
        return to_text(self.graph)


def compile(
    module: Any,
    example_inputs: Sequence[Any],
    *,
    target: str = "trn2",
    autocast: str = "none",
) -> Compiled:
    """Compile a ``torch.nn.Module`` in eval mode at the shapes of the example inputs.

    ``autocast``: ``none`` keeps the model's dtypes, ``matmult`` multiplies matrices in bf16,
    ``all`` computes everything in bf16. Raises UnsupportedOp, UsageError or FactsError.
    """
    chip = facts.chip(target)
    if autocast not in AUTOCAST:
        raise UsageError("unknown autocast mode", got=autocast, allowed=", ".join(AUTOCAST))
    imported = torch_frontend.import_module(module, example_inputs)
    graph = default_pipeline(autocast).run(imported.graph)
    weights = prepare(graph, imported.weights)
    return Compiled(
        graph, weights, chip.name, autocast,
        torch_values.rebuilder(imported.output_tree),
        _checked_inputs(graph),
    )  # fmt: skip


def _checked_inputs(graph: Graph) -> Callable[[Sequence[Any]], list[Array]]:
    def check(inputs: Sequence[Any]) -> list[Array]:
        arrays = [torch_frontend.to_numpy(x) for x in torch_values.flat_tensors(inputs)]
        if len(arrays) != len(graph.inputs):
            raise UsageError("number of inputs differs from the compiled ones", got=len(arrays),
                             allowed=len(graph.inputs))  # fmt: skip
        for array, value in zip(arrays, graph.inputs, strict=True):
            if array.shape != value.shape or array.dtype != value.dtype:
                raise UsageError(
                    f"input {value.name} has another shape or dtype than it was compiled for",
                    got=f"{array.dtype.name}{list(array.shape)}", allowed=str(value.type),
                    next_step="pad to the compiled shape (a bucket) or compile for this one",
                )  # fmt: skip
        return arrays

    return check


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


def record_graph(graph: Graph, target: str) -> Program:
    """The program of a graph without values: shapes and dtypes decide it."""
    core = Core(facts.chip(target), Options(values=False), graph.name)
    bound = {v: _bind(core, v, None) for v in (*graph.inputs, *graph.parameters)}
    _lower(core, graph, bound, None)
    return core.program


def _bind(core: Core, value: Value, array: Array | None) -> NkiTensor:
    dtype = device_dtype(value.dtype)
    contents = None if array is None else np.ascontiguousarray(array).astype(dtype, copy=False)
    storage, _, layout, data = core.allocate(
        Space.HBM, dtype, value.shape or (1,), name=value.name, origin="input", contents=contents
    )
    return NkiTensor(storage, 0, layout, data)


def _lower(
    core: Core, graph: Graph, bound: dict[Value, NkiTensor], progress: Progress | None
) -> list[NkiTensor]:
    token = ACTIVE.set(core)
    try:
        outputs = lower_graph(graph, bound, progress)
        core.flush()
    finally:
        ACTIVE.reset(token)
    limit = core.chip.integer("hbm.core_bytes")
    needed = sum(s.nbytes for s in core.program.storages if s.space is Space.HBM)
    if needed > limit:
        raise CapacityError(
            f"the model needs {needed} bytes of HBM on one core of {core.chip.name}",
            allowed=f"{limit} (hbm.core_bytes)", next_step="use a smaller batch or more cores",
        )  # fmt: skip
    return outputs


def install_torch_backend(target: str = "trn2", autocast: str = "none") -> None:
    """Choose the chip and autocast mode of ``torch.compile(module, backend="tenzing")``."""
    torch_compile.register(_executor(target), autocast)


def torch_backend(module: Any, example_inputs: Sequence[Any], **options: Any) -> Any:
    """The backend PyTorch finds by its entry point; options ``target`` and ``autocast``."""
    target, autocast = options.get("target", "trn2"), options.get("autocast", "none")
    return torch_compile.make_backend(_executor(target), autocast)(module, example_inputs)


def _executor(target: str) -> torch_compile.Executor:
    name = facts.chip(target).name

    def execute(graph: Graph, inputs: Sequence[Array]) -> Sequence[Array]:
        return run_graph(graph, inputs, prepare(graph, {}), name)[0]

    return execute


def agreement(module: Any, inputs: Sequence[Any], outputs: Any) -> dict[str, float]:
    """How close outputs are to the framework's own: largest difference and cosine."""
    expected = [torch_frontend.to_numpy(t) for t in torch_values.run_eager(module, inputs)]
    got = [torch_frontend.to_numpy(t) for t in torch_values.flat_tensors(outputs)]
    worst, lowest = 0.0, 1.0
    for a, b in zip(expected, got, strict=True):
        x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
        worst = max(worst, float(np.abs(x - y).max(initial=0.0)))
        norm = float(np.linalg.norm(x) * np.linalg.norm(y))
        lowest = min(lowest, float(x @ y) / norm if norm else 1.0)
    return {"max_abs_difference": worst, "cosine": lowest}


__all__ = [
    "Compiled", "agreement", "compile", "install_torch_backend", "record_graph",
    "run_graph",
]  # fmt: skip
