"""Hugging Face models by folder, config.json or name: weights through transformers, or shapes only.

A folder with weights becomes a PyTorch module. A configuration alone, or the name of a model whose
shape is known, becomes a graph without values, which can be timed but not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing import facts
from tenzing.compiler.frontends import torch as torch_frontend
from tenzing.compiler.frontends.interface import ArrayInterface, Imported, folder_of
from tenzing.compiler.frontends.torch_values import require_torch
from tenzing.compiler.models import build, builds, read_config
from tenzing.errors import UsageError

WEIGHTS: Final = ("*.safetensors", "pytorch_model*.bin")
LENGTH: Final = 128  # tokens of the example where nobody says how many
SAMPLES: Final = 16000  # of the example of a model that hears, one second
REASON: Final = 200  # characters of transformers' own words
SIZES: Final = ("batch", "length", "cached")


def accepts(model: Any) -> bool:
    """A model folder, a config.json, its content, or the name of a known model."""
    if isinstance(model, Mapping):
        return "model_type" in model
    if not isinstance(model, str | Path):
        return False
    folder = folder_of(model)
    if folder is not None:
        return (folder / "config.json").is_file()
    return Path(model).suffix == ".json" or facts.knows_model(str(model))


def read(model: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Imported:
    """The model's graph for its example inputs, or for sizes in their place.

    Sizes are ``batch`` and ``length`` (tokens), or for a decode step of a model without weights
    ``cached`` (positions in its KV cache). Without either: one sequence of 128 tokens.
    """
    config, sizes = read_config(model), _sizes(inputs, keywords)
    folder = None if isinstance(model, Mapping) else Path(model)
    if folder is not None and folder.is_dir() and any(any(folder.glob(w)) for w in WEIGHTS):
        module = make_module(config, folder)
    elif builds(config) and sizes is not None:
        return _shapes_only(config, sizes)
    else:
        module = make_module(config, None)
    if sizes is not None:
        inputs, keywords = (), example_inputs(module, sizes)
    imported = torch_frontend.import_module(module, inputs, keywords)
    return imported._replace(example=(tuple(inputs), dict(keywords)))


def _sizes(inputs: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, int] | None:
    """Sizes given instead of example inputs; None when inputs were given."""
    if inputs or not set(keywords) <= set(SIZES):
        return None
    for name, size in keywords.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"size {name}", got=size, allowed="a whole number above 0")
    if "length" in keywords and "cached" in keywords:
        raise UsageError("length and cached exclude each other", got=dict(keywords),
                         allowed="length for a prompt, cached for one decode step")  # fmt: skip
    return dict(keywords)


def _shapes_only(config: Mapping[str, Any], sizes: Mapping[str, int]) -> Imported:
    batch, cached = sizes.get("batch", 1), sizes.get("cached")
    if cached is not None:
        graph = build(config, "decode", batch, cached)
    else:
        graph = build(config, None, batch, sizes.get("length", LENGTH))
    seen = len(graph.outputs) - len(graph.aliases)
    names = tuple(value.name for value in graph.outputs[:seen])
    return Imported(graph, {}, ArrayInterface(graph.inputs, names))


def make_module(
    config: Mapping[str, Any], folder: Path | None, *, device: Any = "meta", dtype: Any = None
) -> Any:
    """The module of a configuration with the weights of ``folder``; without one, with random
    weights of ``dtype`` on ``device``, or none on the meta device.
    """
    torch = require_torch()
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            "a Hugging Face model needs transformers, which is not installed",
            next_step='pip install "tenzing[hf]"',
        ) from error
    names = config.get("architectures") or [_usual_class(config)]
    kind = getattr(transformers, names[0], None) or transformers.AutoModel
    try:
        if folder is not None:
            module = kind.from_pretrained(folder, local_files_only=True)
        else:
            plain = {k: v for k, v in config.items() if k != "model_type"}
            known = transformers.AutoConfig.for_model(config["model_type"], **plain)
            maker = kind._from_config if hasattr(kind, "_from_config") else kind.from_config
            with torch.device(device):
                module = maker(known) if dtype is None else maker(known, dtype=dtype)
    except Exception as error:  # its own, safetensors' and the file system's
        what = folder or config.get("model_type")
        raise UsageError(
            f"transformers cannot load {what}", got=str(error).splitlines()[0][:REASON],
            next_step="check the folder with transformers itself",
        ) from None  # fmt: skip
    for part in module.modules():
        if getattr(getattr(part, "config", None), "use_cache", False):
            part.config.use_cache = False  # one forward pass: nothing reads a cache after it
    return module.eval()


def _usual_class(config: Mapping[str, Any]) -> str:
    """What transformers makes of a configuration that does not say: a decoder has its head."""
    return "AutoModelForCausalLM" if builds(config) else "AutoModel"


def example_inputs(module: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Inputs of the kinds a transformers model takes, drawn once with a fixed seed."""
    torch, config = require_torch(), module.config
    if "cached" in sizes:
        raise UsageError("a decode step of this model has no builder", got="cached",
                         allowed="batch and length, or example inputs")  # fmt: skip
    batch, length = sizes.get("batch", 1), sizes.get("length", LENGTH)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32)).to(module.dtype)

    def tokens() -> Any:
        text = getattr(config, "text_config", None) or config
        return torch.from_numpy(random.integers(0, text.vocab_size, (batch, length)))

    found: dict[str, Any] = {}
    vision = getattr(config, "vision_config", None)
    wanted = {module.main_input_name, *(("pixel_values",) if vision else ())}
    for name in sorted(wanted):
        if name == "pixel_values":
            eye = vision or config
            size = getattr(eye, "image_size", 224)
            high, wide = size if isinstance(size, list | tuple) else (size, size)
            found[name] = normal(batch, getattr(eye, "num_channels", 3), high, wide)
        elif name == "input_features":
            frames = 2 * config.max_source_positions
            found[name] = normal(batch, config.num_mel_bins, frames)
        elif name == "input_values":
            found[name] = normal(batch, sizes.get("length", SAMPLES))
        else:
            found[name] = tokens()
            found["attention_mask"] = torch.ones(batch, length, dtype=torch.long)
    if getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = tokens()
    return {name: value.to(module.device) for name, value in found.items()}


__all__ = ["accepts", "example_inputs", "make_module", "read"]
