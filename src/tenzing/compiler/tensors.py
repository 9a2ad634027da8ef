"""Arrays by name as the bytes of a safetensors file, and back."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tenzing.compiler.graph import Array, TensorType
from tenzing.compiler.models.config import DTYPES, LENGTH_BYTES

NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
RAW: Final = "U8"  # dtypes without a name of their own are stored as bytes, one more dim
ALIGNMENT: Final = 8  # of the first tensor, by spaces behind the header


def to_bytes(arrays: Mapping[str, Array]) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {}
    parts, at = [], 0
    for name, array in arrays.items():
        dense = np.ascontiguousarray(array).reshape(array.shape)
        shape = list(dense.shape)
        kind = NAMES.get(dense.dtype, RAW)
        if kind == RAW and dense.dtype != np.uint8:
            shape.append(dense.dtype.itemsize)
        end = at + dense.nbytes
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        parts.append(dense.tobytes())
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def from_bytes(data: memoryview) -> dict[str, tuple[str, tuple[int, ...], memoryview]]:
    """Dtype name, shape and bytes of every tensor; ValueError unless the bytes are there once."""
    if len(data) < LENGTH_BYTES:
        raise ValueError("no safetensors header")
    (size,) = struct.unpack_from("<Q", data)
    if size > len(data) - LENGTH_BYTES:
        raise ValueError(f"a safetensors header of {size} bytes")
    header = json.loads(bytes(data[LENGTH_BYTES : LENGTH_BYTES + size]))
    body, at = data[LENGTH_BYTES + size :], 0
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if type(start) is not int or type(end) is not int or start != at or not at <= end:
            raise ValueError(f"tensor {name} is not where it should be")
        found[name] = entry["dtype"], tuple(entry["shape"]), body[start:end]
        at = end
    if at != len(body):
        raise ValueError("tensors do not fill their file")
    return found


def as_array(entry: tuple[str, tuple[int, ...], memoryview], kind: TensorType) -> Array:
    """A stored tensor as an array of the type it must have; ValueError when it has another."""
    name, shape, content = entry
    wanted = NAMES.get(kind.dtype, RAW)
    expected = kind.shape
    if wanted == RAW and kind.dtype != np.uint8:
        expected = (*kind.shape, kind.dtype.itemsize)
    if name != wanted or shape != expected or len(content) != kind.size_bytes:
        raise ValueError(f"a tensor {name}{list(shape)} in place of {kind}")
    return np.frombuffer(content, kind.dtype).reshape(kind.shape)


__all__ = ["as_array", "from_bytes", "to_bytes"]
