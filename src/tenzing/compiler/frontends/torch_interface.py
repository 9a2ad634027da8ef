"""The calling convention of a compiled module: nested tensors in, nested tensors out, and state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tenzing.compiler.frontends.interface import (
    Interface,
    check_integers,
    check_type,
    tensor_leaves,
)
from tenzing.compiler.frontends.torch_fidelity import departure, said
from tenzing.compiler.frontends.torch_traced import Traced
from tenzing.compiler.frontends.torch_values import from_numpy, require_torch, to_numpy
from tenzing.compiler.graph import Array, Value
from tenzing.compiler.nesting import Fixed, Nest, Nesting, Slot
from tenzing.errors import UsageError


@dataclass(frozen=True)
class TorchInterface(Interface):
    """How a module is called.

    ``input_leaves`` and ``output_leaves`` follow the leaves of ``input_tree`` (arguments, keywords)
    and ``output_tree``: a graph input, the number of a graph output, or a fixed value. ``state``
    holds the module's own buffers that a call writes, by parameter name. ``module`` is what
    PyTorch runs, ``traced`` the calls of it that the graph was made of.
    """

    input_tree: Any
    input_leaves: tuple[Value | Fixed, ...]
    output_tree: Any
    output_leaves: tuple[int | Fixed, ...]
    state: Mapping[str, Any] = field(default_factory=dict)
    module: Any = field(default=None, repr=False, compare=False)
    traced: Traced | None = field(default=None, repr=False, compare=False)

    def flat(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
        """The leaves of a call in order; UsageError when it is nested in another way."""
        torch = require_torch()
        arguments_spec, keywords_spec = self.input_tree.children()
        names = list(keywords_spec.context)
        if sorted(names) != sorted(keywords):
            raise UsageError(
                "keyword inputs differ from the compiled ones", got=sorted(keywords) or "none",
                allowed=sorted(names) or "none", next_step="give the same ones as when compiling",
            )  # fmt: skip
        ordered = (tuple(arguments), {name: keywords[name] for name in names})
        leaves, tree = torch.utils._pytree.tree_flatten(ordered)
        expected = arguments_spec.num_children
        if len(arguments) != expected:
            raise UsageError(
                "number of inputs differs from the compiled ones", got=len(arguments),
                allowed=expected,
            )  # fmt: skip
        if tree != self.input_tree:
            raise UsageError(
                "inputs are nested in another way than the compiled ones", got=tree,
                allowed=self.input_tree, next_step="give the same lists, tuples and dicts",
            )  # fmt: skip
        return list(leaves)

    def arrays(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """Arrays of the graph's inputs; UsageError names the input that has another type."""
        pairs = self._tensors(arguments, keywords)
        return [_checked(leaf, value) for leaf, value in pairs]

    def leaves(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
        """See the class."""
        pairs = self._tensors(arguments, keywords)
        return [to_numpy(_tensor(leaf, value)) for leaf, value in pairs]

    def _tensors(
        self, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> list[tuple[Any, Value]]:
        """What stands for every graph input; UsageError when another leaf is not as compiled."""
        return tensor_leaves(self.flat(arguments, keywords), self.input_leaves, "tensor")

    def outputs(self, arrays: Sequence[Array]) -> Any:
        """The module's nested outputs as tensors."""
        torch = require_torch()
        leaves = [
            leaf.content if isinstance(leaf, Fixed) else from_numpy(arrays[leaf])
            for leaf in self.output_leaves
        ]
        return torch.utils._pytree.tree_unflatten(leaves, self.output_tree)

    def results(self, outputs: Any) -> list[Array]:
        """Arrays of the nested outputs that are tensors of the graph."""
        leaves, _ = require_torch().utils._pytree.tree_flatten(outputs)
        pairs = zip(leaves, self.output_leaves, strict=True)
        return [to_numpy(leaf) for leaf, place in pairs if not isinstance(place, Fixed)]

    def output_places(self) -> list[int]:
        """Which output of the graph each of the results is."""
        return [place for place in self.output_leaves if isinstance(place, int)]

    def eager(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What PyTorch itself returns."""
        if self.module is None:
            return super().eager(arguments, keywords)
        with require_torch().no_grad():
            return self.module(*arguments, **keywords)

    def intermediates(
        self, names: Set[str], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> dict[str, Array]:
        """See the class: the exported program is interpreted by PyTorch, call by call."""
        if self.traced is None:
            return super().intermediates(names, arguments, keywords)
        return self.traced.values(names, self.flat(arguments, keywords))

    def departure(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        """See the class: the exported program beside the module."""
        if self.traced is None or self.module is None:
            return ""
        apart = departure(self.traced.program, self.module, arguments, keywords)
        return said(self.module, apart) if apart else ""

    def output_names(self) -> list[str]:
        """A name for each output tensor: its path through the nested outputs."""
        torch = require_torch()
        tree = torch.utils._pytree.tree_unflatten(range(len(self.output_leaves)), self.output_tree)
        paths = torch.utils._pytree.tree_flatten_with_path(tree)[0]
        names = [torch.utils._pytree.keystr(path) or "output" for path, _ in paths]
        return [
            name for name, place in zip(names, self.output_leaves, strict=True)
            if not isinstance(place, Fixed)
        ]  # fmt: skip

    def described(self) -> Nesting:
        """See the class."""
        places = iter(range(len(self.input_leaves)))
        inputs = [Slot(next(places)) if isinstance(leaf, Value) else leaf
                  for leaf in self.input_leaves]  # fmt: skip
        arguments, keywords = _nest(self.input_tree, iter(inputs))
        outputs = [Slot(leaf) if isinstance(leaf, int) else leaf for leaf in self.output_leaves]
        return Nesting(arguments, keywords, _nest(self.output_tree, iter(outputs)))

    def read_state(self) -> dict[str, Array]:
        """What the module's written buffers hold now."""
        return {name: to_numpy(tensor) for name, tensor in self.state.items()}

    @contextmanager
    def kept(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[None]:
        """Afterwards buffers and inputs hold what they held before."""
        torch = require_torch()
        tensors = [*self.state.values(), *flat_tensors((arguments, keywords))]
        before = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, content in zip(tensors, before, strict=True):
                    tensor.copy_(content)

    def write(
        self,
        new: Mapping[str, Array],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> None:
        """Give buffers of the module and inputs of the call their new contents, as PyTorch does."""
        torch = require_torch()
        places = dict(self.state)
        leaves = self.flat(arguments, keywords)
        for leaf, value in zip(leaves, self.input_leaves, strict=True):
            if isinstance(value, Value) and value.name in new:
                places[value.name] = leaf
        with torch.no_grad():
            for name, array in new.items():
                places[name].copy_(from_numpy(array).reshape(places[name].shape))


def _nest(tree: Any, leaves: Iterator[Nest]) -> Any:
    """A pytree as tuples, lists and dicts; its own kinds of nodes by the names they give."""
    if tree.is_leaf():
        return next(leaves)
    parts = [_nest(child, leaves) for child in tree.children()]
    names = tree.context
    if isinstance(names, list) and len(names) == len(parts) and parts:
        return dict(zip(map(str, names), parts, strict=True))
    if tree.type is dict:
        return {}
    return parts if tree.type is list else tuple(parts)


def _tensor(leaf: Any, value: Value) -> Any:
    if not isinstance(leaf, require_torch().Tensor):
        raise UsageError(
            f"input {value.name} is no tensor", got=type(leaf).__name__, allowed=str(value.type)
        )
    return leaf


def _checked(leaf: Any, value: Value) -> Array:
    array = to_numpy(_tensor(leaf, value))
    check_type(array, value)
    check_integers(f"input {value.name}", array)
    return array


def flat_tensors(nested: Any) -> list[Any]:
    """The tensors of nested tuples, lists and dicts, in torch's order."""
    torch = require_torch()
    leaves, _ = torch.utils._pytree.tree_flatten(nested)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def runnable(module: Any) -> Any:
    """The module itself, or the one inside an exported program."""
    exported = isinstance(module, require_torch().export.ExportedProgram)
    return module.module() if exported else module


__all__ = ["Fixed", "TorchInterface", "flat_tensors", "runnable"]
