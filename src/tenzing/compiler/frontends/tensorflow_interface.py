"""How a TensorFlow function is called: nested tensors in, nested tensors out, and variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tenzing.compiler.frontends.interface import Interface, checked_array, needs
from tenzing.compiler.graph import Array, Value
from tenzing.errors import UsageError


def require_tensorflow() -> Any:
    """The tensorflow package; UsageError names what to install when it is missing."""
    with needs("compiling a TensorFlow model", "TensorFlow", "tensorflow"):
        import tensorflow
    return tensorflow


@dataclass(frozen=True)
class TensorflowInterface(Interface):
    """How a function is called.

    ``example``: positional and keyword inputs it was lowered for, whose leaves are
    ``input_leaves``: a graph input, or a fixed number or flag. ``outputs_like``: the results, with
    False for None. ``state``: what reads and writes each variable that a call changes.
    """

    example: tuple[tuple[Any, ...], dict[str, Any]]
    input_leaves: tuple[Any, ...]
    outputs_like: Any
    state: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the base class."""
        tf, given = require_tensorflow(), (tuple(arguments), dict(keywords))
        try:
            tf.nest.assert_same_structure(self.example, given)
        except (TypeError, ValueError):
            raise UsageError(
                "inputs are nested in another way than the compiled ones", got=_shown(given),
                allowed=_shown(self.example), next_step="give the same lists, tuples and names",
            ) from None  # fmt: skip
        found = []
        for leaf, expected in zip(tf.nest.flatten(given), self.input_leaves, strict=True):
            if isinstance(expected, Value):
                found.append(checked_array(_array(leaf), expected))
            elif leaf is not expected and leaf != expected:
                raise UsageError(
                    "an input that is no tensor differs from the compiled one", got=leaf,
                    allowed=expected, next_step="compile once for each of its values",
                )  # fmt: skip
        return found

    def outputs(self, arrays: Sequence[Array]) -> Any:
        """See the base class."""
        tf, rest = require_tensorflow(), iter(arrays)
        leaves = [
            tf.constant(next(rest)) if there else None
            for there in tf.nest.flatten(self.outputs_like)
        ]
        return tf.nest.pack_sequence_as(self.outputs_like, leaves)

    def results(self, outputs: Any) -> list[Array]:
        """See the base class."""
        leaves = require_tensorflow().nest.flatten(outputs)
        return [np.asarray(leaf) for leaf in leaves if leaf is not None]

    def output_names(self) -> list[str]:
        """The path of each tensor through the nested outputs."""
        return [name or "output" for name, there in paths(self.outputs_like) if there]

    def output_places(self) -> list[int]:
        """See the base class."""
        return list(range(len(self.output_names())))

    def eager(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What TensorFlow itself returns."""
        if self.function is None:
            return super().eager(arguments, keywords)
        tf = require_tensorflow()
        leaves = [
            tf.constant(_array(leaf)) if isinstance(expected, Value) else leaf
            for leaf, expected in zip(
                tf.nest.flatten((tuple(arguments), dict(keywords))), self.input_leaves, strict=True
            )
        ]
        given, named = tf.nest.pack_sequence_as(self.example, leaves)
        return self.function(*given, **named)

    def read_state(self) -> dict[str, Array]:
        """What the written variables hold now."""
        return {name: variable.read() for name, variable in self.state.items()}

    def write(
        self, new: Mapping[str, Array], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """Assign to the variables, as the function itself does."""
        for name, array in new.items():
            self.state[name].write(array)

    @contextmanager
    def kept(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[None]:
        """Afterwards variables hold what they held before."""
        before = {name: array.copy() for name, array in self.read_state().items()}
        try:
            yield
        finally:
            self.write(before, arguments, keywords)


def _array(leaf: Any) -> Any:
    return leaf.numpy() if hasattr(leaf, "numpy") else leaf


def paths(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and leaves in the order of tf.nest, which sorts the keys of mappings."""
    if isinstance(nested, Mapping):
        for key in sorted(nested):
            yield from paths(nested[key], f"{prefix}[{key!r}]")
    elif hasattr(nested, "_fields"):
        for name in nested._fields:
            yield from paths(getattr(nested, name), f"{prefix}.{name}")
    elif isinstance(nested, list | tuple):
        for place, item in enumerate(nested):
            yield from paths(item, f"{prefix}[{place}]")
    else:
        yield prefix, nested


def _shown(nested: Any) -> str:
    names = [name for name, _ in paths(nested)]
    return ", ".join(names) or "no inputs"


__all__ = ["TensorflowInterface", "paths", "require_tensorflow"]
