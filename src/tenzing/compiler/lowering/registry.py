"""Which operation is lowered by which rule, and what every rule needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Array, Node, registering
from tenzing.errors import UnsupportedOp
from tenzing.nki import NkiTensor
from tenzing.nki import language as nl
from tenzing.nki.tensor import new_tensor

Rule = Callable[[Node, list[NkiTensor]], list[NkiTensor]]

RULES: Final[dict[str, Rule]] = {}
IN_PLACE: Final[dict[str, Rule]] = {}  # may write into their first input, which nobody reads again

# Rules of operations that hold graphs: they also get what is known of the inputs without a chip.
Known = Sequence[Array | None]
ControlRule = Callable[[Node, list[NkiTensor], Known], tuple[list[NkiTensor], Known]]
CONTROL: Final[dict[str, ControlRule]] = {}


def lowers(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations: HBM tensors of the inputs in, of the outputs back."""
    return registering(RULES, "lowering", names)


def lowers_in_place(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule that overwrites its first input, for when nobody reads that any more."""
    return registering(IN_PLACE, "lowering in place", names)


def unsupported(node: Node, where: str = "") -> UnsupportedOp:
    """The error for an operation without a lowering."""
    module = f" of module {node.scope}" if node.scope else ""
    return UnsupportedOp(
        f"operation {node.op.name}{module} has no kernel {where}".rstrip(), where=node.loc,
        got=", ".join(str(v) for v in node.inputs),
        next_step="run this part outside the compiled module, or give it a kernel",
    )  # fmt: skip


def device_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype a value has on the chip, which has no 64-bit numbers."""
    narrow = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32}
    return np.dtype(narrow.get(dtype.name, dtype))


def dense(shape: tuple[int, ...], dtype: Any) -> NkiTensor:
    """A new HBM tensor."""
    return nl.ndarray(shape or (1,), dtype=device_dtype(np.dtype(dtype)), buffer=nl.hbm)


def constant(array: Array) -> NkiTensor:
    """HBM that holds ``array`` before the program starts."""
    contents = np.ascontiguousarray(array.reshape(array.shape or (1,)))
    dtype = device_dtype(array.dtype)
    return new_tensor(contents.shape, dtype, nl.hbm, name="constant", origin="constant",
                      contents=contents.astype(dtype))  # fmt: skip


def as_rows(x: NkiTensor) -> NkiTensor:
    """Leading dims joined: [rows, last dim]."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
