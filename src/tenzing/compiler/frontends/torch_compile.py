"""``torch.compile(module, backend="tenzing")``: graphs from AOTAutograd, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tenzing.compiler.frontends.torch import GraphReader, training_decompositions
from tenzing.compiler.frontends.torch_values import (
    RANDOM_STATE,
    drawn_state,
    from_numpy,
    require_torch,
    tensor_type,
    to_numpy,
)
from tenzing.compiler.graph import Array, Graph, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import run
from tenzing.compiler.verify import verify

BACKEND_NAME: Final = "tenzing"
Executor = Callable[[Graph, Sequence[Array]], Sequence[Array]]


def run_reference(graph: Graph, inputs: Sequence[Array]) -> Sequence[Array]:
    """Run with the NumPy meaning of every operation."""
    return run(graph, inputs, {})


def register(executor: Executor = run_reference, autocast: str = "none") -> None:
    """Make ``torch.compile(..., backend="tenzing")`` run graphs with ``executor``."""
    torch = require_torch()
    torch._dynamo.reset()
    registry = torch._dynamo.backends.registry
    registry._COMPILER_FNS.pop(BACKEND_NAME, None)
    torch._dynamo.register_backend(name=BACKEND_NAME, compiler_fn=make_backend(executor, autocast))


def make_backend(executor: Executor = run_reference, autocast: str = "none") -> Any:
    """A backend function to hand to ``torch.compile`` directly."""
    torch = require_torch()
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func
    from torch._functorch.partitioners import default_partition

    def compile_graph(module: Any, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        boxed: Callable[..., Any] = make_boxed_func(_Compiled(torch, module, executor, autocast))
        return boxed

    compiled = aot_autograd(
        fw_compiler=compile_graph,
        bw_compiler=compile_graph,
        inference_compiler=compile_graph,
        partition_fn=lambda joint, *rest, **options: default_partition(
            _without_aliases(torch, joint), *rest, **options
        ),
        decompositions=training_decompositions(torch),
    )

    def compile_static(module: Any, example_inputs: Sequence[Any]) -> Any:
        if not torch.is_grad_enabled():
            return compiled(module, example_inputs)
        # The flash form of attention yields wrong gradients once decomposed.
        math_form = torch.nn.attention.SDPBackend.MATH
        with torch.nn.attention.sdpa_kernel(math_form):
            return compiled(module, example_inputs)

    def backend(module: Any, example_inputs: Sequence[Any], **_: Any) -> Any:
        if any(_is_open(torch, leaf) for leaf in example_inputs):
            return torch._dynamo.disable(_PerShape(torch, module, compile_static))
        return compile_static(module, example_inputs)

    return backend


def _without_aliases(torch: Any, joint: Any) -> Any:
    """Forward and backward as one graph, where no value is kept a second time under another name.

    A backward graph that is given two tensors cannot know that they are one.
    """
    names = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)
    for node in joint.graph.nodes:
        if node.target in names:
            # what is returned stays as it is: it tells whose memory a result shares
            node.replace_all_uses_with(node.args[0], lambda user: user.op != "output")
    joint.graph.eliminate_dead_code()
    joint.recompile()
    return joint


def _is_open(torch: Any, leaf: Any) -> bool:
    """Whether PyTorch left a size open, as it does once an input came in two sizes."""
    sizes = leaf.shape if isinstance(leaf, torch.Tensor) else (leaf,)
    return any(isinstance(size, torch.SymInt) for size in sizes)


class _PerShape:
    """A graph with open sizes as one program for each set of sizes that it is called with."""

    def __init__(self, torch: Any, module: Any, compile_static: Callable[..., Any]) -> None:
        self.torch, self.module, self.compile_static = torch, module, compile_static
        self.programs: dict[Any, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        torch = self.torch
        key = tuple(
            (tuple(a.shape), a.dtype, a.requires_grad) if isinstance(a, torch.Tensor) else a
            for a in arguments
        )
        key = (*key, torch.is_grad_enabled())
        if key not in self.programs:
            self.programs[key] = self.compile_static(self.module, list(arguments))
        return self.programs[key](*arguments)


class _Compiled:
    """One compiled AOT graph, called with tensors."""

    def __init__(self, torch: Any, module: Any, executor: Executor, autocast: str) -> None:
        self.torch = torch
        self.executor = executor
        graph, self.results = AotReader(torch, module.graph).read()
        self.graph = default_pipeline(autocast).run(graph)

    def __call__(self, *arguments: Any) -> list[Any]:
        arrays = [to_numpy(a) for a in arguments if isinstance(a, self.torch.Tensor)]
        if self.graph.inputs and self.graph.inputs[-1].name == RANDOM_STATE:
            arrays.append(to_numpy(drawn_state(self.torch)))
        outputs = iter(self.executor(self.graph, arrays))
        return [
            from_numpy(next(outputs)) if isinstance(result, Value) else result
            for result in self.results
        ]


class AotReader(GraphReader):
    """Reads a graph whose placeholders are all tensors: weights are inputs like any other."""

    def __init__(self, torch: Any, fx_graph: Any, name: str = "compiled") -> None:
        super().__init__(torch, fx_graph, name)

    def read(self) -> tuple[Graph, list[Any]]:
        for node in self.fx_graph.nodes:
            if node.op == "placeholder":
                self.known[node] = self._input(node)
        self.translator.state = self.random_input
        results = [self.known.get(r) if r is not None else None for r in self.calls()]
        outputs = [r for r in results if isinstance(r, Value)]
        return verify(self.builder.build(outputs)), results

    def _input(self, node: Any) -> Any:
        example = node.meta.get("val")
        if not isinstance(example, self.torch.Tensor):
            return example
        kind = tensor_type(example)
        return self.builder.input(node.name, kind.shape, kind.dtype)
