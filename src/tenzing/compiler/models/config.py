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
from tenzing.compiler.models.decoder import DecoderShape, Experts, RopeScaling
from tenzing.errors import UnsupportedOp, UsageError

FAMILIES: Final = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
NEEDED: Final = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                 "vocab_size")  # fmt: skip
LENGTH_BYTES: Final = 8  # a safetensors file starts with the length of its header
HEADER_LIMIT_BYTES: Final = 100_000_000  # what the format allows
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": BF16, "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}  # fmt: skip


def decoder_shape(source: str | Path | Mapping[str, Any]) -> DecoderShape:
    """The shape of a model by name, by the path of a config.json or its folder, or by its content.

    Raises FactsError for an unknown name, UsageError for a file that cannot be read, UnsupportedOp
    for a family without a builder.
    """
    return shape_of_config(read_config(source))


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


def shape_of_config(config: Mapping[str, Any]) -> DecoderShape:
    """The shape behind Hugging Face's keys; wrong or missing ones are named."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedOp(
            "no builder for this model family", got=family, allowed=", ".join(FAMILIES),
            next_step="compile the PyTorch module instead, on the meta device to save memory",
        )  # fmt: skip
    for key in NEEDED:
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"config: {key}", got=value, allowed="a whole number above 0")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or hidden // heads
    if heads % kv_heads or width % 2:
        raise UsageError("config: heads", got=f"{heads} heads, {kv_heads} key heads of {width}",
                         allowed="key heads that divide the heads, an even width")  # fmt: skip
    rope = config.get("rope_parameters") or config
    return DecoderShape(
        config["num_hidden_layers"], hidden, heads, kv_heads, width, config["intermediate_size"],
        config["vocab_size"], config.get("rms_norm_eps", 1e-6),
        float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
        qkv_bias=bool(config.get("attention_bias", family == "qwen2")),
        qk_norm=str(family).startswith("qwen3"), tied=bool(config.get("tie_word_embeddings")),
        window=config.get("sliding_window") if config.get("use_sliding_window", True) else None,
        experts=_experts(config), rope_scaling=_rope_scaling(config), dtype=_dtype(config),
    )  # fmt: skip


def _experts(config: Mapping[str, Any]) -> Experts | None:
    count = config.get("num_local_experts") or config.get("num_experts")
    if not count:
        return None
    width = config.get("moe_intermediate_size") or config["intermediate_size"]
    # Mixtral scales the chosen probabilities always, Qwen when told to
    normalised = config.get("norm_topk_prob", config["model_type"] == "mixtral")
    return Experts(count, config.get("num_experts_per_tok", 2), width, bool(normalised))


def _rope_scaling(config: Mapping[str, Any]) -> RopeScaling | None:
    """How rotary rates are stretched; another way than ours would give other values silently."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedOp("no builder for this rotary scaling", got=kind, allowed="llama3",
                            next_step="compile the PyTorch module instead")  # fmt: skip
    keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    for key in keys:
        value = rope.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise UsageError(f"config: rope_scaling.{key}", got=value, allowed="a number above 0")
    factor, low, high, original = (rope[key] for key in keys)
    if low >= high:
        raise UsageError("config: rope_scaling", got=f"{low} and {high}",
                         allowed="low_freq_factor below high_freq_factor")  # fmt: skip
    return RopeScaling(factor, low, high, original)


def _dtype(config: Mapping[str, Any]) -> np.dtype[Any]:
    name = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    return np.dtype(getattr(ml_dtypes, name.removeprefix("torch."), name.removeprefix("torch.")))


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


__all__ = ["checkpoint_types", "decoder_shape", "read_config", "shape_of_config"]
