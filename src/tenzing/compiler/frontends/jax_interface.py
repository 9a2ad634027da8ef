"""The calling convention of a compiled JAX function: pytrees of arrays in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import numpy as np

from tenzing.compiler.frontends.interface import (
    Interface,
    check_integers,
    check_type,
    needs,
    tensor_leaves,
)
from tenzing.compiler.graph import Array, Value
from tenzing.errors import UsageError

ABSTRACT: Final = "ShapeDtypeStruct"


def require_jax() -> Any:
    """The jax module; UsageError names the extra when it is absent."""
    with needs("compiling JAX functions", "jax", "jax"):
        return import_module("jax")


@dataclass(frozen=True)
class Held:
    """A leaf of the arguments that is no array, or is a weight: it stays as it was."""

    content: Any


@dataclass(frozen=True)
class JaxInterface(Interface):
    """How a function is called.

    ``expected`` follows the leaves of ``input_tree``, which holds (arguments, keywords): a graph
    input or a held value. ``key_outputs`` are the outputs that are typed random keys, with their
    kind. ``function`` is what JAX runs.
    """

    input_tree: Any
    expected: tuple[Value | Held, ...]
    output_tree: Any
    key_outputs: Mapping[int, str] = field(default_factory=dict)
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """Arrays of the graph's inputs; UsageError names the input that has another type."""
        found = []
        for leaf, value in self._given(arguments, keywords):
            found.append(_array(leaf, value))
            check_type(found[-1], value)
        return found

    def leaves(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        return [_array(leaf, value) for leaf, value in self._given(arguments, keywords)]

    def _given(
        self, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> list[tuple[Any, Value]]:
        """What a call gives for each input of the graph."""
        given, tree = require_jax().tree.flatten((tuple(arguments), dict(keywords)))
        if tree != self.input_tree:
            raise UsageError(
                "inputs are nested in another way than the compiled ones", got=tree,
                allowed=self.input_tree, next_step="give the same tuples, lists and dicts",
            )  # fmt: skip
        return tensor_leaves(given, self.expected, "array")

    def outputs(self, arrays: Sequence[Array]) -> Any:
        """The function's nested outputs as JAX arrays."""
        jax = require_jax()
        leaves = [jax.numpy.asarray(np.ascontiguousarray(a)).reshape(a.shape) for a in arrays]
        for place, kind in self.key_outputs.items():
            leaves[place] = jax.random.wrap_key_data(leaves[place], impl=kind)
        return jax.tree.unflatten(self.output_tree, leaves)

    def results(self, outputs: Any) -> list[Array]:
        """See the class."""
        return [plain_array(leaf) for leaf in require_jax().tree.leaves(outputs)]

    def output_names(self) -> list[str]:
        """The path of each output, such as ``['loss']``."""
        jax = require_jax()
        numbered = jax.tree.unflatten(self.output_tree, range(self.output_tree.num_leaves))
        paths, _ = jax.tree_util.tree_flatten_with_path(numbered)
        return [jax.tree_util.keystr(path) or "output" for path, _ in paths]

    def output_places(self) -> list[int]:
        """See the class."""
        return list(range(self.output_tree.num_leaves))

    def eager(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What JAX itself returns."""
        if self.function is None:
            return super().eager(arguments, keywords)
        return self.function(*arguments, **keywords)


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed random keys."""
    jax = require_jax()
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def plain_array(leaf: Any) -> Array:
    """A leaf as a NumPy array; of random keys their bits."""
    return np.asarray(require_jax().random.key_data(leaf) if is_key(leaf) else leaf)


def is_abstract(leaf: Any) -> bool:
    """Whether a leaf says only shape and dtype."""
    return type(leaf).__name__ == ABSTRACT


def _array(leaf: Any, value: Value) -> Array:
    if is_abstract(leaf):
        raise UsageError(
            f"input {value.name} has a shape but no values, so it can be timed but not run",
            got=leaf, next_step="give an array",
        )  # fmt: skip
    if isinstance(leaf, bool | int | float):
        return np.asarray(leaf, value.dtype).reshape(value.shape)
    array = plain_array(leaf)
    narrow = require_jax().dtypes.canonicalize_dtype(array.dtype)
    if narrow != array.dtype:  # what JAX does with 64-bit numbers
        check_integers(f"input {value.name}", array)
        array = array.astype(narrow)
    return array


__all__ = ["Held", "JaxInterface", "is_abstract", "is_key", "plain_array", "require_jax"]
