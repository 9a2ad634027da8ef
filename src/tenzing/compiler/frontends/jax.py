"""JAX functions to graphs: lowered to StableHLO, read by our rules.

Arguments that ``functools.partial`` binds are weights; what a function closes over is, too, when it
is large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.hlo import read_module, read_parsed, read_sharded
from tenzing.compiler.frontends.hlo.collective import whole
from tenzing.compiler.frontends.interface import Imported
from tenzing.compiler.frontends.jax_interface import (
    Held,
    JaxInterface,
    is_abstract,
    is_key,
    plain_array,
    require_jax,
)
from tenzing.compiler.frontends.jax_kernel import compiling
from tenzing.compiler.frontends.stablehlo import with_weights
from tenzing.compiler.graph import Graph, Value
from tenzing.compiler.verify import verify
from tenzing.errors import UsageError

EXPORTED: Final = "Exported"
STAGES: Final = ("Lowered", "Traced")
JITTED: Final = "PjitFunction"
FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, partial)
SYMBOLS: Final = re.compile(r"\W+")


def accepts(model: Any) -> bool:
    """Whether a model is JAX's: a jitted, lowered or exported function, or a plain one."""
    kind = type(model)
    root = kind.__module__.partition(".")[0]
    if root in ("jax", "jaxlib"):
        return kind.__name__ in (EXPORTED, JITTED, *STAGES)
    return isinstance(model, FUNCTIONS) or (root == "flax" and callable(model))


def import_function(
    function: Any, inputs: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
) -> Imported:
    """Trace and lower a function at the shapes of the example inputs.

    Inputs may be ``jax.ShapeDtypeStruct``: times need no values. Raises UsageError when JAX cannot
    trace the function, UnsupportedOp for an operation without a rule.
    """
    _check_inputs((*inputs, *(keywords or {}).values()))
    require_jax()
    name = type(function).__name__
    if name == EXPORTED:
        return _read_exported(function)
    if name in STAGES:
        return _read_lowered(function if name == "Lowered" else function.lower())
    return _Traced.of(function, inputs, keywords or {}).read()


def _check_inputs(inputs: Sequence[Any]) -> None:
    for leaf in inputs:
        root = type(leaf).__module__.partition(".")[0]
        if root in ("torch", "tensorflow"):
            raise UsageError(
                "a plain function is compiled as a JAX function, but an input is a tensor of "
                f"{root}", got=type(leaf).__name__, allowed="jax or NumPy arrays",
                next_step="a function of PyTorch tensors goes into the forward of a "
                "torch.nn.Module, one of TensorFlow's into a tf.function",
            )  # fmt: skip


@dataclass(frozen=True)
class _Leaf:
    """One leaf of the arguments: its path, content, and whether it is traced and is a weight."""

    name: str
    content: Any
    traced: bool
    weight: bool


@dataclass
class _Traced:
    """A function with all its arguments, bound ones too, as one list of leaves."""

    function: Callable[..., Any]
    tree: Any  # of (bound arguments, bound keywords, arguments, keywords)
    leaves: list[_Leaf]
    call_tree: Any  # of (arguments, keywords)
    name: str

    @staticmethod
    def of(function: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> _Traced:
        """Take apart what ``functools.partial`` bound."""
        jax = require_jax()
        core: Any = function
        bound: tuple[Any, ...] = ()
        named: dict[str, Any] = {}
        while isinstance(core, partial):
            bound, named = (*core.args, *bound), {**core.keywords, **named}
            core = core.func
        given = (tuple(inputs), dict(keywords))
        paths, tree = jax.tree_util.tree_flatten_with_path((bound, named, *given))
        leaves = [
            _Leaf(
                _leaf_name(core, len(bound), path), leaf, _is_array(leaf), path[0].idx < len(given)
            )
            for path, leaf in paths
        ]
        name = getattr(core, "__name__", type(core).__name__)
        return _Traced(core, tree, leaves, jax.tree.structure(given), name)

    def read(self) -> Imported:
        """The graph, its weights and how it is called."""
        jax = require_jax()
        lowered = self._lowered(jax)
        title = SYMBOLS.sub("_", self.name).strip("_")
        names = _unique(leaf.name for leaf in self.leaves if leaf.traced)
        module = lowered.compiler_ir("stablehlo")
        sharded = read_sharded(module, title, names)
        graph = sharded.graph if sharded else read_parsed(module, title, names)
        by_leaf = dict(zip((k for k, leaf in enumerate(self.leaves) if leaf.traced), graph.inputs,
                           strict=True))  # fmt: skip
        own = {k: v for k, v in by_leaf.items() if self.leaves[k].weight}
        graph = _as_parameters(graph, list(own.values()))
        weights = {v.name: plain_array(self.leaves[k].content) for k, v in own.items()
                   if not is_abstract(self.leaves[k].content)}  # fmt: skip
        graph, constants = with_weights(graph)
        bound = sum(leaf.weight for leaf in self.leaves)
        called = tuple(
            whole(by_leaf[k], sharded) if leaf.traced else Held(leaf.content)
            for k, leaf in enumerate(self.leaves) if k >= bound
        )  # fmt: skip
        interface = JaxInterface(
            self.call_tree, called, lowered.out_tree, _keys(lowered.out_info), self._eager
        )  # fmt: skip
        if sharded:
            sharded = replace(sharded, graph=graph)
        return Imported(graph, {**weights, **constants}, interface, None, sharded)

    def _lowered(self, jax: Any) -> Any:
        """The program of the traced leaves alone."""
        traced = [leaf.content for leaf in self.leaves if leaf.traced]

        def flat(*arrays: Any) -> Any:
            return self._call(self._filled(arrays))

        flat.__name__ = self.name
        try:
            with compiling():
                return jax.jit(flat, keep_unused=True).lower(*map(_shape_of, traced))
        except Exception as error:
            numbers = [leaf.traced and isinstance(leaf.content, int) for leaf in self.leaves]
            if any(numbers):  # a static argument: not traced after all
                self.leaves = [
                    replace(leaf, traced=leaf.traced and not number)
                    for leaf, number in zip(self.leaves, numbers, strict=True)
                ]
                return self._lowered(jax)
            raise _refused(error) from error

    def _filled(self, arrays: Sequence[Any]) -> list[Any]:
        following = iter(arrays)
        return [next(following) if leaf.traced else leaf.content for leaf in self.leaves]

    def _call(self, leaves: Sequence[Any]) -> Any:
        bound, named, arguments, keywords = require_jax().tree.unflatten(self.tree, leaves)
        return self.function(*bound, *arguments, **named, **keywords)

    def _eager(self, *arguments: Any, **keywords: Any) -> Any:
        jax = require_jax()
        given = jax.tree.leaves((arguments, keywords))
        bound = [leaf.content for leaf in self.leaves[: len(self.leaves) - len(given)]]
        return self._call([*bound, *given])


def _read_exported(exported: Any) -> Imported:
    """An exported function, whose program is a versioned artifact."""
    jax = require_jax()
    source = bytes(exported.mlir_module_serialized)
    name = SYMBOLS.sub("_", exported.fun_name).strip("_") or "exported"
    kept = [exported.in_avals[k] for k in exported.module_kept_var_idx]
    graph = read_module(source, name, [f"arg{k}" for k in exported.module_kept_var_idx],
                        what=name)  # fmt: skip
    return _positional(graph, exported.in_tree, len(exported.in_avals),
                       exported.module_kept_var_idx, kept, exported.out_tree,
                       exported.out_avals, jax.jit(exported.call))  # fmt: skip


def _read_lowered(lowered: Any) -> Imported:
    """A lowered function; arguments that it does not use may be missing from its program."""
    jax = require_jax()
    avals = jax.tree.leaves(lowered.in_avals)
    kept = sorted(lowered._lowering.compile_args.get("kept_var_idx", range(len(avals))))
    module = lowered.compiler_ir("stablehlo")
    graph = read_parsed(module, "lowered", [f"arg{k}" for k in kept])
    outputs = jax.tree.leaves(lowered.out_info)
    return _positional(graph, lowered.in_tree, len(avals), kept, [avals[k] for k in kept],
                       lowered.out_tree, outputs, lambda *a, **k: lowered.compile()(*a, **k),
                       )  # fmt: skip


def _positional(
    graph: Graph, input_tree: Any, count: int, kept: Sequence[int], avals: Sequence[Any],
    output_tree: Any, outputs: Sequence[Any], function: Callable[..., Any],
) -> Imported:  # fmt: skip
    """A program whose arguments are known by number."""
    jax = require_jax()
    graph, weights = with_weights(graph)
    by_place = dict(zip(kept, graph.inputs, strict=True))
    leaves = tuple(by_place.get(k, _Unused()) for k in range(count))
    interface = JaxInterface(input_tree, leaves, output_tree, _keys(outputs), function)
    shapes = {k: jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in zip(kept, avals, strict=True)}
    filled = [shapes.get(k) for k in range(count)]
    arguments, keywords = jax.tree.unflatten(input_tree, filled)
    return Imported(graph, weights, interface, (tuple(arguments), dict(keywords)))


class _Unused(Held):
    """An argument that the program does not read: anything fits."""

    def __init__(self) -> None:
        super().__init__(_Anything())


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def _is_array(leaf: Any) -> bool:
    """Whether JAX would trace a leaf."""
    if isinstance(leaf, bool | str) or leaf is None:
        return False
    number = isinstance(leaf, int | float | np.generic | np.ndarray)
    return number or is_abstract(leaf) or hasattr(leaf, "aval")


def _shape_of(leaf: Any) -> Any:
    """What stands for a leaf while tracing; Python's numbers keep their weak types."""
    if isinstance(leaf, int | float):
        return leaf
    jax = require_jax()
    if is_key(leaf):
        return leaf
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jax.ShapeDtypeStruct(leaf.shape, dtype, weak_type=getattr(leaf, "weak_type", False))


def _as_parameters(graph: Graph, chosen: Sequence[Value]) -> Graph:
    weights = set(chosen)
    inputs = tuple(value for value in graph.inputs if value not in weights)
    return verify(replace(graph, inputs=inputs, parameters=(*chosen, *graph.parameters)))


def _keys(outputs: Any) -> dict[int, str]:
    """Which outputs are typed random keys, and of which kind."""
    leaves = require_jax().tree.leaves(outputs)
    return {k: str(leaf.dtype._impl.name) for k, leaf in enumerate(leaves) if is_key(leaf)}


def _leaf_name(function: Any, bound: int, path: Sequence[Any]) -> str:
    """A name such as ``params.layer_0.kernel``: the parameter of the function, then the path."""
    group, first, *rest = path
    if hasattr(first, "key"):  # of a keyword
        top = str(first.key)
    else:
        place = first.idx + (bound if group.idx > 1 else 0)
        top = _parameter_name(function, place)
    parts = [top, *(_part(entry) for entry in rest)]
    return ".".join(SYMBOLS.sub("_", part).strip("_") or "x" for part in parts)


def _part(entry: Any) -> str:
    return str(next(getattr(entry, n) for n in ("key", "idx", "name") if hasattr(entry, n)))


def _parameter_name(function: Any, place: int) -> str:
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    skipped = int(isinstance(function, MethodType))
    if code is None or place + skipped >= code.co_argcount:
        return f"arg{place}"
    return str(code.co_varnames[place + skipped])


def _unique(names: Any) -> list[str]:
    taken: dict[str, int] = {}
    found = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        found.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return found


def _refused(error: Exception) -> UsageError:
    """JAX's own words for what it cannot trace, without its traceback."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return UsageError(
        f"JAX cannot trace this function: {said[0][:200]}", got=type(error).__name__,
        next_step="make it work under jax.jit first",
    )  # fmt: skip


__all__ = ["accepts", "import_function"]
