"""Model shapes from names, Hugging Face ``config.json`` files and checkpoint headers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np

from tenzing import facts
from tenzing.compiler.graph import BF16, TensorType
from tenzing.compiler.models.encoders import ENCODERS
from tenzing.compiler.models.families import DECODERS
from tenzing.compiler.models.settings import Settings
from tenzing.compiler.models.transformer import Transformer
from tenzing.errors import UnsupportedOp, UsageError

FAMILIES: Final = (*DECODERS, *ENCODERS)
CAUSAL: Final = ("ForCausalLM", "LMHeadModel")
SEEING: Final = {"gemma3": "gemma3_text"}  # models of pictures and text, and their text decoder
LENGTH_BYTES: Final = 8  # a safetensors file starts with the length of its header
HEADER_LIMIT_BYTES: Final = 100_000_000  # what the format allows
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": BF16, "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip


def transformer_of(source: str | Path | Mapping[str, Any]) -> Transformer:
    """The shape of a model by name, by the path of a config.json or its folder, or by its content.

    Raises FactsError for an unknown name, UsageError for a file that cannot be read, UnsupportedOp
    for a family without a builder.
    """
    return model_of_config(read_config(source))


def read_config(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration a name, path or mapping stands for."""
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        if file.suffix == ".json" or path.is_dir():
            raise UsageError(f"{file} is not a file", next_step="give a model's config.json")
        return facts.model(str(source))
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not a configuration", got=str(error)) from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} is not a configuration", got=type(found).__name__)
    return found


def model_of_config(config: Mapping[str, Any]) -> Transformer:
    """The composition behind Hugging Face's keys; wrong or missing ones are named."""
    settings = _language(Settings(config))
    family = settings.text("model_type", "")
    if family in DECODERS:
        return DECODERS[family](settings)
    if family in ENCODERS:
        return ENCODERS[family].build(settings)
    raise UnsupportedOp(
        "no builder for this model family", got=family or None, allowed=", ".join(FAMILIES),
        next_step="compile the PyTorch module instead, on the meta device to save memory",
    )  # fmt: skip


def _language(settings: Settings) -> Settings:
    """The text decoder's settings of a model that also sees."""
    inner = settings.inner("text_config")
    if settings.text("model_type", "") not in SEEING or inner is None:
        return settings
    return Settings({"model_type": SEEING[settings.text("model_type", "")], **inner.values})


def builds(config: Mapping[str, Any]) -> bool:
    """Whether a builder gives what transformers makes of this configuration.

    A decoder's builder ends in its language model head, an encoder's in hidden states.
    """
    family = str(config.get("model_type"))
    names = config.get("architectures") or [None]
    if family in ENCODERS:
        return names[0] in ENCODERS[family].architectures
    return family in DECODERS and str(names[0] or "ForCausalLM").endswith(CAUSAL)


def checkpoint_types(path: str | Path) -> dict[str, TensorType]:
    """Names, shapes and dtypes of a safetensors file, or of all in a folder, without their data.

    Raises UsageError for a file that is no such checkpoint.
    """
    root = Path(path)
    files = sorted(root.glob("*.safetensors")) if root.is_dir() else [root]
    if not files:
        raise UsageError(f"{root} holds no .safetensors file")
    return {name: kind for file in files for name, kind in _header(file).items()}


def _header(file: Path) -> dict[str, TensorType]:
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(LENGTH_BYTES))
            if size > min(HEADER_LIMIT_BYTES, file.stat().st_size):
                raise ValueError(f"a header of {size} bytes")
            entries = json.loads(stream.read(size))
        return {
            name: TensorType(tuple(map(int, entry["shape"])), DTYPES[entry["dtype"]])
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UsageError(f"{file} is not a safetensors checkpoint", got=str(error)) from None


__all__ = [
    "FAMILIES",
    "builds",
    "checkpoint_types",
    "transformer_of",
    "model_of_config",
    "read_config",
]
