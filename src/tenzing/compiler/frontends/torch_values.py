"""Torch tensors in and out: nested arguments to arrays, arrays to nested results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tenzing.compiler.frontends.torch import require_torch, to_numpy
from tenzing.compiler.graph import Array


def flat_tensors(nested: Any) -> list[Any]:
    """The tensors of nested tuples, lists and dicts, in torch's order."""
    torch = require_torch()
    leaves, _ = torch.utils._pytree.tree_flatten(nested)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def from_numpy(array: Array) -> Any:
    """A torch tensor with a copy of the array, bf16 and fp8 included."""
    torch = require_torch()
    content = np.array(array)
    if content.dtype.kind in "fiub":
        return torch.from_numpy(content)
    bits = np.int16 if content.dtype.itemsize > 1 else np.uint8
    return torch.from_numpy(content.view(bits)).view(getattr(torch, content.dtype.name))


def rebuilder(output_tree: Any) -> Callable[[Sequence[Array]], Any]:
    """A function that nests output arrays, as tensors, the way the module does."""

    def rebuild(arrays: Sequence[Array]) -> Any:
        torch = require_torch()
        tensors = [from_numpy(a) for a in arrays]
        if output_tree is None:
            return tensors[0] if len(tensors) == 1 else tuple(tensors)
        return torch.utils._pytree.tree_unflatten(tensors[: output_tree.num_leaves], output_tree)

    return rebuild


def run_eager(module: Any, inputs: Sequence[Any]) -> list[Any]:
    """The module's own outputs, flat."""
    torch = require_torch()
    with torch.no_grad():
        return flat_tensors(module(*inputs))


__all__ = ["flat_tensors", "from_numpy", "rebuilder", "run_eager", "to_numpy"]
