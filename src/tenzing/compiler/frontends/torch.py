"""PyTorch models to graphs: torch.export, our ATen table, weights by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.aten import Translator
from tenzing.compiler.frontends.aten.translator import Complex
from tenzing.compiler.frontends.interface import Imported, check_integers
from tenzing.compiler.frontends.torch_attention import NAMESPACE
from tenzing.compiler.frontends.torch_control import CONTROL
from tenzing.compiler.frontends.torch_export import quiet
from tenzing.compiler.frontends.torch_fidelity import faithful_export
from tenzing.compiler.frontends.torch_interface import Fixed, TorchInterface, runnable
from tenzing.compiler.frontends.torch_kernel import KERNEL_NAMESPACE, kernel_call
from tenzing.compiler.frontends.torch_traced import Traced, calls_behind
from tenzing.compiler.frontends.torch_values import (
    RANDOM_STATE,
    drawn_state,
    from_numpy,
    is_fake,
    numpy_dtype,
    require_torch,
    tensor_type,
    to_numpy,
)
from tenzing.compiler.graph import Alias, Array, Graph, GraphBuilder, TensorType, Value
from tenzing.compiler.ops import Constant
from tenzing.compiler.ops.random import STATE
from tenzing.compiler.verify import verify
from tenzing.errors import Loc, UnsupportedOp, UsageError

# Overloads that PyTorch would decompose but that we keep whole, because a chip has a better way.
KEPT_WHOLE: Final = (
    "linear.default",
    "matmul.default",
    "scaled_dot_product_attention.default",
    "layer_norm.default",
    "rms_norm.default",
    "softmax.int",
    "silu.default",
    "upsample_nearest1d.vec",
    "upsample_nearest1d.default",
    "upsample_nearest2d.vec",
    "upsample_nearest2d.default",
    "upsample_bicubic2d.vec",
    "upsample_linear1d.vec",
    "upsample_trilinear3d.vec",
    "_upsample_bilinear2d_aa.vec",
    "_upsample_bicubic2d_aa.vec",
)
MODULE: Final = "torch.nn.modules.module.Module"
EXPORTED: Final = "torch.export.exported_program.ExportedProgram"
NUMBERS_OF_DATA: Final = ("aten._local_scalar_dense.default", "aten.item.default")
FOLDED_ELEMENTS: Final = 64  # literal tensors up to this size are part of the graph
FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


def accepts(model: Any) -> bool:
    """Whether a model is PyTorch's: a module or an exported program."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    return bool(kinds & {MODULE, EXPORTED})


def import_module(
    module: Any,
    example_inputs: Sequence[Any],
    example_keywords: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    check: bool | None = None,
) -> Imported:
    """Trace ``module`` with torch.export at the shapes of the example inputs.

    ``check``: compare the exported program with the module on the example inputs and warn where
    they part; None does so for small models.
    Raises UnsupportedOp for an operation without a rule, UsageError when the module trains or
    cannot be traced.
    """
    program = faithful_export(module, example_inputs, example_keywords or {}, check)
    imported = import_exported(program, name=name or type(module).__name__)
    assert isinstance(imported.interface, TorchInterface)
    return imported._replace(interface=replace(imported.interface, module=runnable(module)))


def import_exported(program: Any, *, name: str = "model") -> Imported:
    """A graph from a ``torch.export.ExportedProgram``."""
    torch = require_torch()
    table = torch.export.default_decompositions()
    for overload in KEPT_WHOLE:
        packet, variant = overload.split(".")
        table.pop(getattr(getattr(torch.ops.aten, packet), variant), None)
    with math_attention(torch), views_as_reshapes(torch, program), quiet():
        program = program.run_decompositions(table)
    return _ProgramReader(torch, program, name).read()


def training_decompositions(torch: Any) -> dict[Any, Any]:
    """What to take apart when gradients are traced: norms stay whole in both directions."""
    from torch._decomp import core_aten_decompositions

    table = dict(core_aten_decompositions())
    table.pop(torch.ops.aten.native_layer_norm_backward.default, None)
    return table


@contextmanager
def math_attention(torch: Any) -> Iterator[None]:
    """Decompose attention by its mathematical form: the flash form gives wrong gradients."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


@contextmanager
def views_as_reshapes(torch: Any, program: Any) -> Iterator[None]:
    """While it is decomposed, a program reshapes where it viewed.

    What an operation is decomposed into may lie in memory in another way than its own result did,
    so that a view of it has become impossible; a graph knows no strides anyway.
    """
    view, reshape = torch.ops.aten.view.default, torch.ops.aten.reshape.default
    graphs = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    views = [node for m in graphs for node in m.graph.nodes if node.target is view]
    try:
        for node in views:
            node.target = reshape
        yield
    finally:
        for node in views:
            node.target = view


class Unknown:
    """A Python number read out of a tensor: good for assertions, which are dropped."""


class GraphReader:
    """Walks an FX graph of ATen calls and emits our nodes."""

    def __init__(self, torch: Any, fx_graph: Any, name: str) -> None:
        self.torch = torch
        self.fx_graph = fx_graph
        self.builder = GraphBuilder(name)
        self.translator = Translator(self.builder)
        self.known: dict[Any, Any] = {}

    def random_input(self) -> Value:
        """The input that carries the state of random numbers."""
        found = [value for value in self.builder.inputs if value.name == RANDOM_STATE]
        return found[0] if found else self.builder.input(RANDOM_STATE, STATE.shape, STATE.dtype)

    def calls(self) -> Any:
        """Translate every call; return the arguments of the output node."""
        result: Any = ()
        for node in self.fx_graph.nodes:
            if node.op == "call_function":
                self.known[node] = self._call(node)
            elif node.op == "get_attr":
                self.known[node] = self._attribute(node)
            elif node.op == "output":
                result = node.args[0]
        return result

    def _call(self, node: Any) -> Any:
        if node.target is getattr or not hasattr(node.target, "overloadpacket"):
            return self._python_call(node)
        self.builder.loc, self.builder.scope = _place(node), _module_path(node)
        translator = self.translator
        translator.result = self._result_type(node)
        translator.used = _used_outputs(node)
        named = {key: self._argument(value) for key, value in node.kwargs.items()}
        arguments = [self._argument(value) for value in node.args]
        schema = str(node.target)
        if schema in NUMBERS_OF_DATA:
            return Unknown()
        if any(isinstance(value, Unknown) for value in arguments) and "assert" not in schema:
            raise translator.unsupported(
                f"{schema} reads a number that depends on data",
                next_step="keep it a tensor: no .item(), no int() of a tensor",
            )
        if schema.startswith(KERNEL_NAMESPACE):
            return kernel_call(self.builder, schema, arguments, named)
        if not schema.startswith(("aten.", "prims.", f"{NAMESPACE}.")):
            raise translator.unsupported(f"PyTorch operation {schema} has no rule")
        output = translator.call(schema.removeprefix("aten."), arguments, named)
        self._check(node, output)
        return output

    def _result_type(self, node: Any) -> TensorType:
        try:
            return _result_type(node)
        except UsageError as error:
            raise self.translator.unsupported(
                f"data decide the shape of what {node.target} returns",
                next_step="keep every element and mask what is not wanted: no nonzero(), no "
                "boolean index, no sizes from .tolist()",
            ) from error

    def _python_call(self, node: Any) -> Any:
        name = getattr(node.target, "__name__", str(node.target))
        if name == "getitem":
            return self.known[node.args[0]][node.args[1]]
        arguments = [self._argument(value) for value in node.args]
        if any(isinstance(value, Unknown) for value in arguments):
            return Unknown()
        if all(isinstance(value, bool | int | float) for value in arguments):
            return node.target(*arguments)
        self.builder.loc, self.builder.scope = _place(node), _module_path(node)
        if name in CONTROL:
            return CONTROL[name](self.builder, *arguments)
        raise self.translator.unsupported(f"PyTorch operation {name} has no rule")

    def _attribute(self, node: Any) -> Any:
        """A graph that a branch or loop holds, or a tensor constant."""
        found = self.fx_graph.owning_module
        for name in node.target.split("."):
            found = getattr(found, name)
        if isinstance(found, self.torch.nn.Module):
            return _RegionReader(self.torch, found.graph, node.target).read()
        return self.builder.add(Constant.of(to_numpy(found)))

    def _argument(self, value: Any) -> Any:
        if value in self.known:
            return self.known[value]
        if isinstance(value, self.torch.dtype):  # complex numbers are pairs of real ones
            return numpy_dtype(value.to_real() if value.is_complex else value)
        if isinstance(value, list | tuple):
            return [self._argument(item) for item in value]
        return value

    def _check(self, node: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Value) and first.type != self.translator.result:
            raise self.translator.unsupported(
                f"the rule of {node.target} gives another type than PyTorch",
                got=f"{first.type}, PyTorch {self.translator.result}",
                next_step="this is a bug in tenzing; please report it with the model's line",
            )


class _RegionReader(GraphReader):
    """Reads a graph inside a graph: its placeholders are its inputs."""

    def read(self) -> Graph:
        for node in self.fx_graph.nodes:
            if node.op == "placeholder":
                kind = tensor_type(node.meta["val"])
                self.known[node] = self.builder.input(node.name, kind.shape, kind.dtype)
        results = self.calls()
        flat = results if isinstance(results, list | tuple) else [results]
        return verify(self.builder.build([self.known[result] for result in flat]))


class _ProgramReader(GraphReader):
    """Reads an exported program: its signature says what is a weight and what is written back."""

    def __init__(self, torch: Any, program: Any, name: str) -> None:
        super().__init__(torch, program.graph, name)
        self.program = program
        self.weights: dict[str, Array] = {}
        self.shared: dict[Any, Value] = {}
        self.named: dict[str, Value] = {}  # states and inputs by the signature's names
        self.leaves: list[Value | Fixed] = []
        self.random: Any = None
        self.translator.state = self._random_state

    def read(self) -> Imported:
        placeholders = [node for node in self.fx_graph.nodes if node.op == "placeholder"]
        specs = self.program.graph_signature.input_specs
        for node, spec in zip(placeholders, specs, strict=True):
            self.known[node] = self._placeholder(node, spec)
        outputs, output_leaves, written = self._outputs(self.calls())
        if self.translator.draws:
            written.append((self.translator.state_afterwards(), RANDOM_STATE))
        aliases = [Alias(len(outputs) + i, self.named[t].name) for i, (_, t) in enumerate(written)]
        graph = self.builder.build([*outputs, *(value for value, _ in written)], aliases)
        spec = self.program.call_spec
        interface = TorchInterface(
            spec.in_spec, tuple(self.leaves), spec.out_spec, tuple(output_leaves),
            self._state(written), traced=Traced(self.program, calls_behind(self.known)),
        )  # fmt: skip
        return Imported(verify(graph), self.weights, interface)

    def _placeholder(self, node: Any, spec: Any) -> Any:
        example = node.meta.get("val")
        is_input = spec.kind.name == "USER_INPUT"
        if not isinstance(example, self.torch.Tensor):
            if is_input:
                self.leaves.append(Fixed(example))
            return example
        kind = tensor_type(example)
        if not is_input:
            small = spec.kind.name == "CONSTANT_TENSOR" and kind.elements <= FOLDED_ELEMENTS
            tensor = self._tensor(spec.target) if small else None
            if tensor is not None and not is_fake(tensor):  # such as a loop's start
                return self.builder.add(Constant.of(to_numpy(tensor)), hint=spec.target)
            self.named[spec.target] = self._parameter(spec.target, kind)
            return self.named[spec.target]
        value = self.builder.input(node.name, kind.shape, kind.dtype)
        self.named[node.name] = value
        self.leaves.append(value)
        return value

    def _random_state(self) -> Value:
        """A buffer that no module has: its first content comes from PyTorch's generator."""
        if RANDOM_STATE not in self.named:
            self.named[RANDOM_STATE] = self.builder.parameter(
                RANDOM_STATE, STATE.shape, STATE.dtype
            )
            self.random = drawn_state(self.torch)
            self.weights[RANDOM_STATE] = to_numpy(self.random)
        return self.named[RANDOM_STATE]

    def _tensor(self, target: str) -> Any:
        if target == RANDOM_STATE:
            return self.random
        return self.program.state_dict.get(target, self.program.constants.get(target))

    def _parameter(self, target: str, kind: TensorType) -> Value:
        """A parameter, once per tensor: tied weights share one value."""
        tensor = self._tensor(target)
        key = _identity(tensor) if tensor is not None else target
        if key not in self.shared:
            self.shared[key] = self.builder.parameter(target, kind.shape, kind.dtype)
            if tensor is not None and not is_fake(tensor):
                array = to_numpy(tensor)
                check_integers(f"{target} of the module", array)
                self.weights[self.shared[key].name] = array
        return self.shared[key]

    def _outputs(
        self, results: Sequence[Any]
    ) -> tuple[list[Value], list[int | Fixed], list[tuple[Value, str]]]:
        """The user's outputs, its leaves, and new contents of buffers and inputs by target."""
        pairs = zip(results, self.program.graph_signature.output_specs, strict=True)
        user: list[Value] = []
        leaves: list[int | Fixed] = []
        written: list[tuple[Value, str]] = []
        for result, spec in pairs:
            value = self.known.get(result) if isinstance(result, self.torch.fx.Node) else result
            mutated = spec.kind.name.endswith("_MUTATION")  # of a buffer, a parameter, an input
            if mutated and isinstance(value, Value):
                written.append((value, spec.target))
            elif isinstance(value, Value):
                leaves.append(len(user))
                user.append(value)
            elif isinstance(value, Complex):
                raise UnsupportedOp(
                    "the module returns a complex tensor, and the chip has real dtypes only",
                    where=_place(result),
                    next_step="return torch.view_as_real(x), or .real and .imag",
                )  # fmt: skip
            elif spec.kind.name == "USER_OUTPUT":
                leaves.append(Fixed(value))
        return user, leaves, written

    def _state(self, written: Sequence[tuple[Value, str]]) -> dict[str, Any]:
        """The module's tensors that a call writes, by the names of their parameters."""
        tensors = ((self.named[t].name, self._tensor(t)) for _, t in written)
        return {name: tensor for name, tensor in tensors if tensor is not None}


def _identity(tensor: Any) -> Any:
    """Equal for two names of one tensor."""
    if not tensor.numel() or tensor.is_meta:
        return id(tensor)
    try:
        return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
    except RuntimeError:
        return id(tensor)


def _result_type(node: Any) -> TensorType:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    if not hasattr(first, "shape"):
        return TensorType((), np.dtype(np.float32))
    return tensor_type(first.real if first.is_complex() else first)


def _used_outputs(node: Any) -> frozenset[int]:
    value = node.meta.get("val")
    if not isinstance(value, list | tuple):
        return frozenset({0})
    getters = (user for user in node.users if getattr(user.target, "__name__", "") == "getitem")
    return frozenset(user.args[1] for user in getters if user.users)


def _place(node: Any) -> Loc | None:
    """The innermost frame of the user's code that made this call."""
    frames = list(FRAME.finditer(node.meta.get("stack_trace") or ""))
    if not frames:
        return None
    last = frames[-1]
    return Loc(last["file"], int(last["line"]), last["function"])


def _module_path(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    entries = list(stack.values())
    return str(entries[-1][0]) if entries else ""


__all__ = [
    "GraphReader", "from_numpy", "import_exported", "import_module", "numpy_dtype",
    "require_torch", "tensor_type", "to_numpy",
]  # fmt: skip
