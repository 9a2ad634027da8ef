"""A compiled model: graph, prepared weights and target; call it, time it, print it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from tenzing import facts
from tenzing.compiler import reference
from tenzing.compiler.choices import following
from tenzing.compiler.comparison import (
    Comparison,
    Difference,
    agreement,
    compare_operations,
    difference,
    tolerance_of,
)
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.frontends import torch_compile
from tenzing.compiler.frontends.doors import import_any
from tenzing.compiler.frontends.interface import Imported, Interface, NoFramework
from tenzing.compiler.graph import Array, Graph, Value, with_origins
from tenzing.compiler.lowering import Progress
from tenzing.compiler.passes import (
    AUTOCAST,
    AUTOCAST_DTYPES,
    Kernels,
    Step,
    default_pipeline,
    recognise,
    registered,
    shard,
)
from tenzing.compiler.passes.sharding import Sharded, check_axes
from tenzing.compiler.printer import to_text
from tenzing.compiler.ranks import Ranks
from tenzing.compiler.timing import GraphTime, time_graph
from tenzing.errors import UsageError
from tenzing.fabric import Mesh
from tenzing.isa import Program
from tenzing.machine import Analysis, analyse
from tenzing.timeline import Timeline

PS_PER_US: Final = 1_000_000
NUMERICS: Final = ("instruction", "graph")


@dataclass(repr=False)
class Compiled:
    """A model as a program for one chip.

    Calling it runs every instruction on the simulated chip (``numerics="instruction"``) or the
    NumPy meaning of every operation (``"graph"``) and returns what the model returns; buffers that
    the model writes are written. Times need no values: they come from shapes alone. ``imported``
    is the graph before the passes; the passes run when first needed.
    """

    imported: Imported
    target: str
    autocast: str = "none"
    autocast_dtype: str = "bf16"
    numerics: str = "instruction"
    kernels: Kernels = ()
    mesh: Mesh = field(default_factory=lambda: Mesh(()))
    sequence_parallel: bool | None = None
    reporter: Callable[[Compiled], str] | None = field(default=None, repr=False)
    _programs: dict[str, Program] = field(default_factory=dict, repr=False)
    _analyses: dict[str, Analysis] = field(default_factory=dict, repr=False)
    _times: dict[str, GraphTime] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """Name, chip, types and modes in a line: notebooks print what a cell returns."""
        graph = self.imported.graph
        types = (", ".join(str(v.type) for v in side) for side in (graph.inputs, graph.outputs))
        modes = f"numerics={self.numerics}, autocast={self.autocast}"
        return (
            f"{type(self).__name__}({graph.name} on {self.target}: {' -> '.join(types)}; {modes})"
        )

    @cached_property
    def _optimised(self) -> tuple[Graph, tuple[Step, ...]]:
        steps: list[Step] = []
        given = self.imported.graph if self.mesh.ranks == 1 else self.sharded.graph
        pipeline = default_pipeline(self.autocast, self.autocast_dtype, self.kernels)
        graph = pipeline.run(with_origins(given), steps)
        return graph, tuple(steps)

    @cached_property
    def sharded(self) -> Sharded:
        """The graph of every rank of the mesh, and how arrays are cut for it."""
        if self.imported.sharded is not None:
            return self.imported.sharded
        sequence = self.sequence_parallel
        chosen = self.time.sequence_parallel if sequence is None else sequence
        return shard(recognise(self.imported.graph), self.mesh, chosen)

    @property
    def graph(self) -> Graph:
        """The graph after the passes."""
        return self._optimised[0]

    @property
    def steps(self) -> tuple[Step, ...]:
        """What each pass did."""
        return self._optimised[1]

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        """Arrays of the graph's parameters; UsageError when the model was made without values."""
        self._check_values()
        return reference.prepare(self.graph, self.imported.weights)

    def _check_values(self) -> None:
        missing = self._without_values()
        if missing:
            raise UsageError(
                f"the model has no values for {len(missing)} parameters, so it can be timed but "
                "not run", got=f"{missing[0]} and others" if len(missing) > 1 else missing[0],
                next_step="compile it with its weights loaded, not on the meta device",
            )  # fmt: skip

    @property
    def runnable(self) -> bool:
        """Whether every parameter has values."""
        return not self._without_values()

    def _without_values(self) -> list[str]:
        parameters = (p.name for p in self.imported.graph.parameters)
        return [name for name in parameters if name not in self.imported.weights]

    @property
    def example(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword inputs it was compiled for."""
        return self.imported.example or ((), {})

    @property
    def interface(self) -> Interface:
        """How the model's inputs and outputs are nested."""
        return self.imported.interface

    def __call__(self, *inputs: Any, progress: Progress | None = None, **keywords: Any) -> Any:
        """Execute on the simulated chip; raises UsageError for inputs of other shapes."""
        arrays = self.interface.arrays(inputs, keywords)
        outputs = self.run_arrays(arrays, progress)
        written = {alias.target: outputs[alias.output] for alias in self.graph.aliases}
        self.interface.write(written, inputs, keywords)
        return self.interface.outputs(outputs)

    def run_arrays(
        self, arrays: Sequence[Array], progress: Progress | None = None
    ) -> Sequence[Array]:
        """Outputs of the graph, new contents of its state included, for arrays of its inputs."""
        if self.mesh.ranks > 1:
            return self._run_ranks(arrays)
        weights = {**self.weights, **self.interface.read_state()}
        if self.numerics == "graph":
            return reference.run_prepared(self.graph, arrays, weights)
        outputs, program = run_graph(self.graph, arrays, weights, self.target, progress)
        self._programs[self.target] = program
        return outputs

    def _run_ranks(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Whole results of all ranks; each starts from its share of the state."""
        self._check_values()
        named = zip(self.imported.graph.inputs, arrays, strict=True)
        whole = {**self.imported.weights, **self.interface.read_state()}
        return self._all_ranks.joined({**whole, **{v.name: array for v, array in named}})

    @cached_property
    def _all_ranks(self) -> Ranks:
        return Ranks(
            self.sharded, numerics=self.numerics, target=self.target, autocast=self.autocast,
            autocast_dtype=self.autocast_dtype,
        )  # fmt: skip

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
        if self.kernels:  # the store of layer times knows our kernels only
            return self.analysis.latency_ps / PS_PER_US
        return self.time.latency_us

    @property
    def time(self) -> GraphTime:
        """Time and work of one execution; layers that repeat are simulated a few times only."""
        return self.time_for(self.target)

    def time_for(self, target: str) -> GraphTime:
        """The same on another chip."""
        name = facts.chip(target).name
        cut = self.imported.sharded is None  # else the graph is that of one rank already
        if name not in self._times:
            self._times[name] = time_graph(
                self.imported.graph, name, autocast=self.autocast,
                autocast_dtype=self.autocast_dtype, mesh=dict(self.mesh.axes) if cut else None,
                sequence_parallel=self.sequence_parallel,
            )  # fmt: skip
        return self._times[name]

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

    def compare(self, *inputs: Any, per_op: bool = False, **keywords: Any) -> Comparison:
        """Differences with the framework; leaves buffers and inputs as they were.

        ``per_op`` also runs the optimised graph operation by operation, beside the framework's own
        values (``Comparison.first`` is where they part) and beside each one's NumPy meaning.
        """
        if per_op and self.mesh.ranks > 1:
            raise UsageError("operations are compared on one core, not over a mesh",
                             got=f"{self.mesh.ranks} ranks",
                             next_step="compile once more without mesh=")  # fmt: skip
        arrays = [a.copy() for a in self.interface.arrays(inputs, keywords)]
        weights = {n: a.copy() for n, a in self.interface.read_state().items()}
        with self.interface.kept(inputs, keywords):
            eager = self.interface.results(self.interface.eager(inputs, keywords))
            expected = [array.copy() for array in eager]
        with self.interface.kept(inputs, keywords):
            got = self.run_arrays(arrays)
        found = Comparison(self._differences(got, expected))
        if found.agrees and not per_op:
            return found
        bound = dict(zip(self.graph.inputs, arrays, strict=True))
        bound |= {v: {**self.weights, **weights}[v.name] for v in self.graph.parameters}
        if not found.agrees and self.mesh.ranks == 1:
            found = self._explained(found, bound, expected, inputs, keywords)
        return self._compare_operations(found, bound, inputs, keywords) if per_op else found

    def _differences(
        self, got: Sequence[Array], expected: Sequence[Array]
    ) -> tuple[Difference, ...]:
        limits = (tolerance_of(a.dtype, self.autocast) for a in expected)
        places = self.interface.output_places()
        named = zip(self.interface.output_names(), places, expected, limits, strict=True)
        return tuple(difference(n, got[p], e, limit) for n, p, e, limit in named)

    def _explained(
        self, found: Comparison, bound: Mapping[Value, Array], expected: Sequence[Array],
        inputs: tuple[Any, ...], keywords: dict[str, Any],
    ) -> Comparison:  # fmt: skip
        """The comparison with the reasons for its differences, as far as they are known."""
        known = self._known(inputs, keywords)
        if isinstance(known, str):
            return found
        with self.interface.kept(inputs, keywords):
            cause = self.interface.departure(inputs, keywords)
        choices, outputs = following(self.graph, bound, known)
        followed = self._differences(outputs, expected) if choices else ()
        return replace(found, choices=tuple(choices), followed=followed, cause=cause)

    def _known(
        self, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Mapping[str, Array] | str:
        """The framework's own values inside its computation, or why it has none."""
        names = {v.origin for node in self.graph.nodes for v in node.outputs if v.origin}
        try:
            with self.interface.kept(inputs, keywords):
                return self.interface.intermediates(names, inputs, keywords)
        except NoFramework as error:
            return str(error)

    def _compare_operations(
        self, found: Comparison, bound: Mapping[Value, Array],
        inputs: tuple[Any, ...], keywords: dict[str, Any],
    ) -> Comparison:  # fmt: skip
        known = self._known(inputs, keywords)
        reason, known = (known, {}) if isinstance(known, str) else ("", known)
        framework, meanings, missing = compare_operations(
            self.graph, bound, self.target, self.autocast, known
        )
        shown = () if reason else tuple(framework)
        return replace(
            found, operations=shown, meanings=tuple(meanings), without_counterpart=missing,
            no_intermediates=reason,
        )  # fmt: skip

    def agreement(self, outputs: Any, *inputs: Any, **keywords: Any) -> dict[str, float]:
        """Largest difference and cosine of outputs that a call returned with the framework's."""
        with self.interface.kept(inputs, keywords):
            expected = self.interface.results(self.interface.eager(inputs, keywords))
            return agreement(expected, self.interface.results(outputs))

    def timeline(self) -> Timeline:
        """Every instruction and transfer as spans on the tracks of its engine."""
        return self.analysis.timeline()

    def report(self) -> str:
        """Time, engine use, stalls and memory as text."""
        if self.reporter is None:
            raise UsageError(
                "this compiled model was made below the reporting layer",
                next_step="compile with tenzing.compile, or use tenzing.report on .analysis",
            )
        return self.reporter(self)

    def text(self) -> str:
        """The optimised graph as text."""
        return to_text(self.graph)


def compile(
    model: Any,
    example_inputs: Any = (),
    example_keywords: Mapping[str, Any] | None = None,
    *,
    target: str = "trn2",
    numerics: str = "instruction",
    autocast: str = "none",
    autocast_dtype: str = "bf16",
    mesh: Mapping[str, int] | None = None,
    sequence_parallel: bool | None = None,
    kernels: Mapping[str, Callable[..., Any]] | None = None,
) -> Compiled:
    """Compile a model of any framework at the shapes of its example inputs.

    ``model``: whatever one of ``frontends.doors`` takes, such as a ``torch.nn.Module`` in eval
    mode, a JAX or TensorFlow function, an ONNX or StableHLO file, a Hugging Face folder or name.

    ``example_inputs``: a tuple or list of positional inputs, a mapping of keyword inputs, or one
    tensor. ``numerics``: ``instruction`` runs every instruction of the program, ``graph`` the NumPy
    meaning of every operation. ``autocast``: ``none`` keeps the model's dtypes, ``matmult``
    multiplies matrices in ``autocast_dtype``, ``all`` computes everything in it. ``kernels``:
    the user's own NKI kernels by the operation they replace, such as ``rms_norm``. ``mesh``:
    ``{"tp": 8}`` splits weights and heads over eight cores, ``{"tp": 2, "ep": 4}`` also the
    experts of a mixture, whole ones over four. ``sequence_parallel``: also cut the tokens between
    products, which saves norms and residuals; None, the default, does so where it is faster.
    Raises UnsupportedOp, UsageError or FactsError.
    """
    chip = facts.simulated_chip(target)
    check_modes(numerics, autocast, autocast_dtype)
    ranks = Mesh.of(mesh)
    check_axes(ranks)
    inputs, keywords = split_example(example_inputs, example_keywords)
    imported = import_any(model, inputs, keywords)
    if imported.example is None:
        imported = imported._replace(example=(inputs, keywords))
    if imported.sharded is not None:
        if mesh is not None:
            raise UsageError("mesh= for a program that is written per rank", got=mesh,
                             next_step="leave it out: the program has its own mesh")  # fmt: skip
        ranks = imported.sharded.mesh
    own = registered(kernels or {})
    return Compiled(
        imported,
        chip.name,
        autocast,
        autocast_dtype,
        numerics,
        own,
        ranks,
        sequence_parallel,
    )


def check_modes(numerics: str, autocast: str, autocast_dtype: str) -> None:
    """Raise UsageError for a mode that does not exist."""
    for what, got, allowed in (
        ("autocast mode", autocast, AUTOCAST),
        ("autocast dtype", autocast_dtype, tuple(AUTOCAST_DTYPES)),
        ("numerics mode", numerics, NUMERICS),
    ):
        if got not in allowed:
            raise UsageError(f"unknown {what}", got=got, allowed=", ".join(allowed))


def split_example(
    example: Any, keywords: Mapping[str, Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs of an example in any of its allowed forms."""
    named = dict(keywords or {})
    if isinstance(example, Mapping):
        return (), {**example, **named}
    if isinstance(example, tuple | list):
        return tuple(example), named
    return (example,), named


def install_torch_backend(target: str = "trn2", autocast: str = "none") -> None:
    """Choose the chip and autocast mode of ``torch.compile(module, backend="tenzing")``."""
    torch_compile.register(_executor(target), autocast)


def torch_backend(module: Any, example_inputs: Sequence[Any], **options: Any) -> Any:
    """The backend PyTorch finds by its entry point; options ``target`` and ``autocast``."""
    target, autocast = options.get("target", "trn2"), options.get("autocast", "none")
    return torch_compile.make_backend(_executor(target), autocast)(module, example_inputs)


def _executor(target: str) -> torch_compile.Executor:
    name = facts.simulated_chip(target).name

    def execute(graph: Graph, inputs: Sequence[Array]) -> Sequence[Array]:
        return run_graph(graph, inputs, reference.prepare(graph, {}), name)[0]

    return execute


__all__ = [
    "Compiled", "compile", "install_torch_backend", "check_modes", "split_example", "torch_backend",
]  # fmt: skip
