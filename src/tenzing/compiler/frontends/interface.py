"""What every frontend hands over: a graph, its weights, and how the model is called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from tenzing.compiler.graph import Array, Graph, Value
from tenzing.compiler.nesting import Nesting
from tenzing.compiler.passes.sharding import Sharded
from tenzing.errors import UsageError

INT32: Final = np.iinfo(np.int32)
UINT32: Final = np.iinfo(np.uint32)
NARROWED: Final = {"int64": INT32, "uint64": UINT32}  # integers that the chip holds in 32 bits


class NoFramework(UsageError):
    """There is nothing to compare a program with: no framework stands behind it."""


class Interface(ABC):
    """How a model is called in its framework's own terms: nested values in, nested values out.

    State is what the model itself keeps and a call writes, such as a KV cache among its buffers.
    """

    @abstractmethod
    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """Arrays of the graph's inputs in order; UsageError names the input that does not fit."""

    def leaves(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """As :meth:`arrays` for inputs of any shape, such as those to be padded to a bucket."""
        raise UsageError("this frontend cannot read inputs of other shapes than the compiled ones")

    @abstractmethod
    def outputs(self, arrays: Sequence[Array]) -> Any:
        """What the model returns, made of the graph's outputs."""

    @abstractmethod
    def results(self, outputs: Any) -> list[Array]:
        """The arrays inside what a call returned, the framework's own or ours."""

    @abstractmethod
    def output_names(self) -> list[str]:
        """A name for each of :meth:`results`."""

    @abstractmethod
    def output_places(self) -> list[int]:
        """Which output of the graph each of :meth:`results` is."""

    def eager(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What the framework itself returns; NoFramework when there is none behind it."""
        raise NoFramework("this compiled model has no framework to compare with",
                         next_step="compile the model itself with tenzing.compile")  # fmt: skip

    def intermediates(
        self, names: Set[str], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> dict[str, Array]:
        """The framework's own arrays for values of the imported graph, as far as it has them.

        NoFramework says why a frontend has none at all.
        """
        raise NoFramework("this frontend shows no values inside the framework's own computation, "
                          "so operations are compared with their NumPy meaning alone")  # fmt: skip

    def departure(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """Says so when the framework's translation of the model answers otherwise than the model.

        Empty when it does not, or when there is only one of the two.
        """
        return ""

    def described(self) -> Nesting | None:
        """The nesting of inputs and outputs; None for a flat list of each."""
        return None

    def read_state(self) -> dict[str, Array]:
        """What the model's written state holds now, by parameter name."""
        return {}

    def write(
        self, new: Mapping[str, Array], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """Give state and written inputs of a call their new contents."""
        if new:
            raise UsageError("this frontend cannot write state", got=sorted(new))

    @contextmanager
    def kept(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[None]:
        """Afterwards state and inputs hold what they held before."""
        yield


class Imported(NamedTuple):
    """A graph, the arrays of its parameters by name, and how the model is called.

    A parameter without an array can be timed but not run. ``example`` holds positional and keyword
    inputs to call it with, where the frontend made them itself. ``sharded`` says how arrays are cut
    for a program that was written per rank; ``graph`` is then that of one rank.
    """

    graph: Graph
    weights: dict[str, Array]
    interface: Interface
    example: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    sharded: Sharded | None = None


class ArrayState(Interface):
    """Base of interfaces that keep a program's written state themselves, as NumPy arrays."""

    state: dict[str, Array]

    @abstractmethod
    def _named(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """What a call gives for every input of the graph, by name."""

    def read_state(self) -> dict[str, Array]:
        """See the class."""
        return dict(self.state)

    def write(
        self, new: Mapping[str, Array], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """State is replaced; an input that the model writes is written where it is."""
        given = self._named(arguments, keywords)
        for name, array in new.items():
            if name not in given:
                self.state[name] = array
            elif isinstance(given[name], np.ndarray) and given[name].flags.writeable:
                given[name][...] = array.reshape(given[name].shape)
            else:
                raise UsageError(f"the model writes input {name}, which cannot be written",
                                 got=type(given[name]).__name__,
                                 allowed="a writeable NumPy array")  # fmt: skip

    @contextmanager
    def kept(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[None]:
        """See the class."""
        before = {name: array.copy() for name, array in self.state.items()}
        try:
            yield
        finally:
            self.state.update(before)


@dataclass(frozen=True)
class ArrayInterface(ArrayState):
    """NumPy arrays in, by position or name, and NumPy arrays out: one, or a tuple of several.

    ``reference`` runs the original on arrays and gives one array per output.
    """

    inputs: tuple[Value, ...]
    names: tuple[str, ...]
    reference: Callable[[Sequence[Array]], Sequence[Array]] | None = None
    state: dict[str, Array] = field(default_factory=dict)

    def _given(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
        order = [value.name for value in self.inputs]
        given = dict(zip(order, arguments, strict=False))
        twice = sorted(given.keys() & keywords.keys())
        found = {**given, **keywords}
        if len(arguments) > len(order) or twice or sorted(found) != sorted(order):
            named = ", ".join(sorted(keywords)) or "none"
            raise UsageError(
                "inputs differ from the compiled ones",
                got=f"{len(arguments)} by position, {named} by name",
                allowed=", ".join(str(v) for v in self.inputs) or "no inputs",
            )  # fmt: skip
        return [found[value.name] for value in self.inputs]

    def leaves(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        return [np.asarray(given) for given in self._given(arguments, keywords)]

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        given = self._given(arguments, keywords)
        return [checked_array(g, value) for g, value in zip(given, self.inputs, strict=True)]

    def outputs(self, arrays: Sequence[Array]) -> Any:
        """See the class."""
        seen = tuple(arrays[: len(self.names)])
        return seen[0] if len(seen) == 1 else seen

    def results(self, outputs: Any) -> list[Array]:
        """See the class."""
        several = isinstance(outputs, tuple | list)
        return [np.asarray(a) for a in (outputs if several else (outputs,))]

    def output_names(self) -> list[str]:
        """See the class."""
        return list(self.names)

    def output_places(self) -> list[int]:
        """See the class."""
        return list(range(len(self.names)))

    def eager(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """See the class."""
        if self.reference is None:
            return super().eager(arguments, keywords)
        return tuple(self.reference(self.arrays(arguments, keywords)))

    def _named(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        order = [value.name for value in self.inputs]
        return {**dict(zip(order, arguments, strict=False)), **keywords}


@contextmanager
def needs(what: str, package: str, extra: str) -> Iterator[None]:
    """Around the import of a framework: UsageError names the extra when it is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{what} needs {package}, which is not installed",
            next_step=f'pip install "tenzing[{extra}]"',
        ) from error


def tensor_leaves(
    given: Sequence[Any], expected: Sequence[Any], what: str
) -> list[tuple[Any, Value]]:
    """The leaves of a call that are inputs of the graph; UsageError where another one changed."""
    found = []
    for leaf, known in zip(given, expected, strict=True):
        if isinstance(known, Value):
            found.append((leaf, known))
        elif leaf is not known.content and leaf != known.content:
            raise UsageError(
                f"an input that is no {what} differs from the compiled one", got=leaf,
                allowed=known.content, next_step="compile once for each of its values",
            )  # fmt: skip
    return found


def folder_of(model: str | Path) -> Path | None:
    """The folder that a model is named by; None for files, and for text that is no path."""
    try:
        return Path(model) if Path(model).is_dir() else None
    except (OSError, ValueError):  # a program's text is longer than a name may be
        return None


def checked_array(given: Any, value: Value) -> Array:
    """``given`` as the array of a graph input; Python's numbers and lists take its dtype."""
    if not isinstance(given, np.ndarray | np.generic):
        try:
            given = np.asarray(given, value.dtype)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"input {value.name} is no array", got=type(given).__name__,
                allowed=str(value.type),
            ) from None  # fmt: skip
    array = np.asarray(given)
    check_type(array, value)
    check_integers(f"input {value.name}", array)
    return array


def check_type(array: Array, value: Value) -> None:
    """Raise UsageError unless an array has the shape and dtype of the input it is for."""
    if array.shape != value.shape or array.dtype != value.dtype:
        raise UsageError(
            f"input {value.name} has another shape or dtype than it was compiled for",
            got=f"{array.dtype.name}{list(array.shape)}", allowed=str(value.type),
            next_step="pad to the compiled shape (a bucket) or compile for this one",
        )  # fmt: skip


def check_integers(name: str, array: Array) -> None:
    """Raise UsageError when a 64-bit integer does not fit the 32 bits that the chip gives it."""
    limits = NARROWED.get(array.dtype.name)
    if limits is None or not array.size:
        return
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise UsageError(
            f"{name} holds {array.dtype.name} values that do not fit the chip's 32-bit integers",
            got=f"{low} to {high}", allowed=f"{limits.min} to {limits.max}",
            next_step="keep such numbers outside the compiled module",
        )  # fmt: skip


__all__ = [
    "ArrayInterface", "ArrayState", "Imported", "Interface", "NoFramework", "check_integers",
    "check_type", "checked_array", "folder_of", "needs", "tensor_leaves",
]  # fmt: skip
