"""TensorFlow models to graphs: Keras models, functions and SavedModels through StableHLO."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tenzing.compiler.frontends.hlo import read_module
from tenzing.compiler.frontends.interface import Imported, folder_of
from tenzing.compiler.frontends.tensorflow_interface import (
    TensorflowInterface,
    paths,
    require_tensorflow,
)
from tenzing.compiler.graph import Alias, Array, Graph, Value
from tenzing.compiler.verify import verify
from tenzing.errors import TenzingError, UnsupportedOp, UsageError

KERAS: Final = frozenset({"keras.src.layers.layer.Layer", "keras.src.models.model.Model"})
MODULE: Final = "tensorflow.python.module.module.Module"
FUNCTIONS: Final = frozenset({
    "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function",
    "tensorflow.python.eager.polymorphic_function.concrete_function.ConcreteFunction",
})  # fmt: skip
LOADED: Final = "tensorflow.python.trackable.autotrackable.AutoTrackable"
SAVED: Final = "saved_model.pb"
NOT_LOWERED: Final = "Detected unsupported operations"  # how XLA says so
SIGNATURE: Final = "serving_default"


def accepts(model: Any) -> bool:
    """Whether a model is TensorFlow's: a function, module or Keras model, or a SavedModel."""
    if isinstance(model, str | Path):
        folder = folder_of(model)
        return folder is not None and (folder / SAVED).is_file()
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    if kinds & KERAS:
        return bool(sys.modules["keras"].backend.backend() == "tensorflow")
    return bool(kinds & {*FUNCTIONS, MODULE, LOADED})


@dataclass(frozen=True)
class Target:
    """A function of nested tensors, and the name and example inputs that its model gives it."""

    name: str
    function: Callable[..., Any]
    example: tuple[tuple[Any, ...], dict[str, Any]] | None = None


def import_model(
    model: Any, inputs: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
) -> Imported:
    """Lower a model with XLA at the shapes of the example inputs.

    Without inputs, those that a SavedModel's signature or a Keras model declares are taken. What
    the model's variables are given by a call is aliased state. Raises UsageError or UnsupportedOp.
    """
    tf = require_tensorflow()
    target = _target(tf, model, bool(inputs or keywords))
    example = (tuple(inputs), dict(keywords or {}))
    if not (inputs or keywords) and target.example is not None:
        example = target.example
    lowered = _Lowering(tf, target, example)
    imported = lowered.read()
    return imported._replace(example=lowered.zeros() if example is target.example else None)


# -- what the model is ---------------------------------------------------------------------------


def _target(tf: Any, model: Any, has_inputs: bool) -> Target:
    if isinstance(model, str | Path):
        return _loaded(tf, _load(tf, model), Path(model).name, has_inputs)
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    if kinds & KERAS:
        return _keras(tf, model, has_inputs)
    if kinds & FUNCTIONS:
        return _function(tf, model, has_inputs)
    return _loaded(tf, model, type(model).__name__, has_inputs)


def _load(tf: Any, folder: str | Path) -> Any:
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UsageError("this SavedModel cannot be loaded", got=f"{folder}: {_first(error)}",
                         next_step="save it again with tf.saved_model.save") from None  # fmt: skip


def _loaded(tf: Any, module: Any, name: str, has_inputs: bool) -> Target:
    """The serving signature of a SavedModel, else the module as a function."""
    signatures = getattr(module, "signatures", {})
    if SIGNATURE in signatures:
        found = _function(tf, signatures[SIGNATURE], has_inputs, name)
        # the signature alone does not keep its variables alive
        return replace(found, function=lambda *a, _kept=module, **k: found.function(*a, **k))
    if not callable(module):
        raise UsageError(
            "this module has neither a serving signature nor a __call__", got=name,
            next_step="compile one of its functions: tenzing.compile(module.function, inputs)",
        )  # fmt: skip
    return Target(name, module)


def _function(tf: Any, function: Any, has_inputs: bool, name: str = "") -> Target:
    """A tf.function or ConcreteFunction; the latter knows the shapes of its inputs."""
    title = name or getattr(function, "__name__", "") or "function"
    signature = getattr(function, "structured_input_signature", None)
    if signature is None and getattr(function, "input_signature", None) is not None:
        signature = (tuple(function.input_signature), {})
    if signature is None or has_inputs:
        return Target(title, function)
    specs = [s for s in tf.nest.flatten(signature) if isinstance(s, tf.TensorSpec)]
    _check_static(specs)
    return Target(title, function, (tuple(signature[0]), dict(signature[1])))


def _keras(tf: Any, model: Any, has_inputs: bool) -> Target:
    """A Keras layer or model in inference mode; a functional one by the names of its inputs."""
    declared = list(getattr(model, "inputs", None) or [])
    names = [getattr(tensor, "name", "") for tensor in declared]

    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords and sorted(keywords) == sorted(names):
            return model(dict(keywords), training=False)
        if len(arguments) > 1 and len(arguments) == len(declared):
            return model(list(arguments), training=False)
        return model(*arguments, training=False, **keywords)

    if has_inputs or not declared:
        return Target(model.name, call)
    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in declared]
    _check_static(specs)
    return Target(model.name, call, (tuple(specs), {}))


def _check_static(specs: Sequence[Any]) -> None:
    open_ones = [s for s in specs if not s.shape.is_fully_defined()]
    if open_ones:
        raise UsageError(
            f"input {open_ones[0].name} has a dynamic shape: the chip runs programs of static "
            "shapes", got=open_ones[0].shape,
            next_step="give example inputs of the size to compile for, once per bucket",
        )  # fmt: skip


# -- lowering ------------------------------------------------------------------------------------


class _Lowering:
    """One function at given shapes: its module, its variables in order, its nested results."""

    def __init__(self, tf: Any, target: Target, example: tuple[tuple[Any, ...], dict[str, Any]]):
        self.tf, self.target = tf, target
        self.example = example
        leaves = zip(_names(example), tf.nest.flatten(example), strict=True)
        self.specs = [_spec(tf, name, leaf) for name, leaf in leaves]
        self.tensors = [spec for spec in self.specs if isinstance(spec, tf.TensorSpec)]
        _check_static(self.tensors)
        self.resources: list[Any] = []
        self.traced = tf.function(self._call, jit_compile=True, autograph=False)

    def zeros(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Inputs of these shapes."""
        leaves = [
            self.tf.zeros(s.shape, s.dtype) if isinstance(s, self.tf.TensorSpec) else s
            for s in self.specs
        ]
        arguments, keywords = self.tf.nest.pack_sequence_as(self.example, leaves)
        return tuple(arguments), dict(keywords)

    def _call(self, *tensors: Any) -> Any:
        """The results, then what every variable holds afterwards: XLA's own order is not told."""
        given = iter(tensors)
        leaves = [
            next(given) if isinstance(spec, self.tf.TensorSpec) else spec for spec in self.specs
        ]
        arguments, keywords = self.tf.nest.pack_sequence_as(self.example, leaves)
        results = self.target.function(*arguments, **keywords)
        graph = self.tf.compat.v1.get_default_graph()
        pairs = [pair for pair in graph.captures if pair[0].dtype == self.tf.resource]
        self.resources = [outer for outer, _ in pairs]
        state = [
            self.tf.raw_ops.ReadVariableOp(resource=inner, dtype=_dtype(self.tf, outer))
            for outer, inner in pairs
        ]
        return results, state

    def read(self) -> Imported:
        """The graph, the values of its parameters, and how the function is called."""
        concrete, text = self._lowered()
        variables = {id(v.handle): v for v in concrete.graph.variables}
        captured = [_Captured(self.tf, t, variables) for t in concrete.captured_inputs]
        input_names = [spec.name for spec in self.tensors]
        names = _unique([*input_names, *(c.name for c in captured)])
        graph = read_module(text, self.target.name, names, "what XLA made of the model")
        count = len(self.tensors)
        graph = replace(graph, inputs=graph.inputs[:count], parameters=graph.inputs[count:])
        values = dict(zip((p.name for p in graph.parameters), captured, strict=True))
        results = concrete.structured_outputs[0]
        user = len([t for t in self.tf.nest.flatten(results) if t is not None])
        graph = self._with_state(graph, user, captured)
        weights = {name: one.read() for name, one in values.items()}
        state = {alias.target: values[alias.target] for alias in graph.aliases}
        leaves = tuple(self._leaves(graph))
        interface = TensorflowInterface(
            self.example, leaves, self.tf.nest.map_structure(_mark, results), state,
            self.target.function,
        )  # fmt: skip
        return Imported(graph, weights, interface)

    def _leaves(self, graph: Graph) -> list[Any]:
        values = iter(graph.inputs)
        return [next(values) if isinstance(s, self.tf.TensorSpec) else s for s in self.specs]

    def _lowered(self) -> tuple[Any, str]:
        try:
            concrete = self.traced.get_concrete_function(*self.tensors)
            lower = self.traced.experimental_get_compiler_ir(*self.tensors)
            return concrete, lower(stage="stablehlo")
        except TenzingError:
            raise
        except Exception as error:
            if isinstance(error, self.tf.errors.OpError) or NOT_LOWERED in str(error):
                raise UnsupportedOp(
                    "XLA cannot lower this model", got=_first(error),
                    next_step="keep strings, files and results of data-dependent size outside",
                ) from None  # fmt: skip
            singleton = "singleton tf.Variable" in str(error)
            kind = type(error).__name__
            raise UsageError(
                "TensorFlow cannot trace this model", got=f"{kind}: {_first(error)}",
                next_step="make its variables first: call it once, or optimizer.build(variables)"
                if singleton else "call it in eager mode with the same inputs to see the cause",
            ) from error  # fmt: skip

    def _with_state(self, graph: Graph, user: int, captured: Sequence[_Captured]) -> Graph:
        """The user's results, then the variables that change; XLA's own updates are dropped."""
        place = {id(one.tensor): k for k, one in enumerate(captured)}
        outputs: list[Value] = list(graph.outputs[:user])
        aliases = []
        for number, resource in enumerate(self.resources):
            parameter = graph.parameters[place[id(resource)]]
            after = graph.outputs[user + number]
            if after is not parameter:
                aliases.append(Alias(len(outputs), parameter.name))
                outputs.append(after)
        return verify(replace(graph, outputs=tuple(outputs), aliases=tuple(aliases)))


@dataclass(frozen=True)
class _Captured:
    """A variable or constant tensor that a function reads from around it."""

    tf: Any
    tensor: Any
    variables: Mapping[int, Any]

    @property
    def variable(self) -> Any:
        return self.variables.get(id(self.tensor))

    @property
    def name(self) -> str:
        if self.variable is None:
            return "captured"
        return str(self.variable.name).partition(":")[0].replace("/", ".")

    def read(self) -> Array:
        """What it holds now."""
        if self.tensor.dtype != self.tf.resource:
            return self.tensor.numpy()
        return self.tf.raw_ops.ReadVariableOp(
            resource=self.tensor, dtype=_dtype(self.tf, self.tensor)
        ).numpy()

    def write(self, array: Array) -> None:
        """Give the variable a new content."""
        self.tf.raw_ops.AssignVariableOp(
            resource=self.tensor, value=self.tf.constant(array, _dtype(self.tf, self.tensor))
        )


def _dtype(tf: Any, handle: Any) -> Any:
    data = getattr(handle, "_handle_data", None)
    if data is None or not data.is_set or not data.shape_and_type:
        raise UnsupportedOp("the model captures a resource that is no variable", got=handle.name,
                            next_step="keep tables and iterators outside the function")  # fmt: skip
    return tf.dtypes.as_dtype(data.shape_and_type[0].dtype)


def _spec(tf: Any, name: str, leaf: Any) -> Any:
    """The type of a tensor among the inputs; other leaves as they are."""
    if isinstance(leaf, tf.TensorSpec):
        return tf.TensorSpec(leaf.shape, leaf.dtype, leaf.name or name)
    if isinstance(leaf, tf.Tensor | tf.Variable) or hasattr(leaf, "__array_interface__"):
        return tf.TensorSpec(leaf.shape, getattr(leaf.dtype, "name", leaf.dtype), name)
    return leaf


def _names(example: tuple[tuple[Any, ...], dict[str, Any]]) -> list[str]:
    """A name for each input: its keyword, or its place."""
    words = (re.findall(r"\w+", path) for path, _ in paths(example))
    return [f"input{word[1]}" if word[0] == "0" else word[1] for word in words]


def _mark(leaf: Any) -> bool:
    return leaf is not None


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        found.append(f"{name}_{seen[name]}" if seen[name] else name)
    return found


def _first(error: Exception) -> str:
    """The first line of TensorFlow's message, from where it names the operation on."""
    text = str(error)
    lines = [line.strip() for line in text[max(text.find(NOT_LOWERED), 0) :].splitlines()]
    return next(filter(None, lines), "no message")


__all__ = ["accepts", "import_model"]
