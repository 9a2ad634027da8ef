"""Torch tensors and arrays: dtypes, types, content in both directions."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing.compiler.frontends.interface import needs
from tenzing.compiler.graph import Array, TensorType
from tenzing.errors import UnsupportedOp, UsageError

RANDOM_STATE: Final = "random_state"  # the name of a graph's own state of random numbers


def drawn_state(torch: Any) -> Any:
    """A random state, i32[1], from PyTorch's default generator, which moves on."""
    limits = torch.iinfo(torch.int32)
    return torch.randint(limits.min, limits.max, (1,), dtype=torch.int32)


def require_torch() -> Any:
    """The torch package; UsageError names what to install when it is missing."""
    with needs("compiling a PyTorch model", "PyTorch", "torch"):
        import torch
    return torch


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """NumPy's (or ml_dtypes') dtype for a torch dtype."""
    name = str(dtype).removeprefix("torch.")
    try:
        found = np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        found = None
    if found is None or found.kind == "c":
        raise UnsupportedOp(
            "this dtype has no place in a graph", got=name,
            next_step="the chip computes in real numbers: keep real and imaginary parts apart"
            if name.startswith("complex") else "convert to a dtype that the chip has",
        )  # fmt: skip
    return found


def is_fake(tensor: Any) -> bool:
    """Whether a tensor has a shape but no values."""
    fake = require_torch()._subclasses.fake_tensor.FakeTensor
    return bool(tensor.is_meta or isinstance(tensor, fake))


def to_numpy(tensor: Any) -> Array:
    """The content of a torch tensor, sharing memory where NumPy knows the dtype."""
    dtype = numpy_dtype(tensor.dtype)
    if tensor.is_meta:
        raise UsageError("a tensor on the meta device has no values", got=tuple(tensor.shape),
                         next_step="time the model, or load its weights and inputs to run it",
                         )  # fmt: skip
    plain = tensor.detach().cpu().contiguous()
    if dtype.name not in ml_dtypes.__all__:
        return np.asarray(plain.numpy())
    torch = require_torch()
    bits = torch.int16 if dtype.itemsize > 1 else torch.uint8
    return np.asarray(plain.view(bits).numpy().view(dtype))


def from_numpy(array: Array) -> Any:
    """A torch tensor with a copy of the array, bf16 and fp8 included."""
    torch = require_torch()
    content = np.array(array)
    if content.dtype.kind in "fiub":
        return torch.from_numpy(content)
    bits = np.int16 if content.dtype.itemsize > 1 else np.uint8
    return torch.from_numpy(content.view(bits)).view(getattr(torch, content.dtype.name))


def tensor_type(tensor: Any) -> TensorType:
    """Shape and dtype of a (fake) tensor; UsageError when the shape is not static."""
    if not all(isinstance(size, int) for size in tensor.shape):
        bucket = [int(getattr(getattr(n, "node", None), "hint", None) or n)
                  if _has_hint(n) else str(n) for n in tensor.shape]  # fmt: skip
        raise UsageError(
            "a dynamic shape: the chip runs programs of static shapes",
            got=list(tensor.shape),
            next_step=f"export without dynamic_shapes, once per bucket of sizes that you serve: "
            f"{bucket} is the example's bucket, and smaller inputs are padded up to it",
        )
    return TensorType(tuple(tensor.shape), numpy_dtype(tensor.dtype))


def _has_hint(size: Any) -> bool:
    return isinstance(size, int) or getattr(getattr(size, "node", None), "hint", None) is not None


__all__ = ["from_numpy", "numpy_dtype", "require_torch", "tensor_type", "to_numpy"]
