"""Decoders built from shapes alone mean what Hugging Face's models compute."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenzing import facts
from tenzing.compiler.graph import F32
from tenzing.compiler.models import decode_graph, decoder_shape, prefill_graph
from tenzing.compiler.models.config import checkpoint_types
from tenzing.compiler.models.decoder import DecoderShape
from tenzing.compiler.reference import run
from tenzing.errors import FactsError, TenzingError, UnsupportedOp, UsageError

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "dtype": "float32",
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "llama3": {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "qwen2": {}, "qwen3": {}, "mistral": {"sliding_window": 5},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
                  "norm_topk_prob": True},
}  # fmt: skip
CLASSES = {"llama": "Llama", "llama3": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3",
           "mistral": "Mistral", "mixtral": "Mixtral", "qwen3_moe": "Qwen3Moe"}  # fmt: skip


def hugging_face(family: str) -> tuple[Any, dict[str, Any]]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = {**SIZES, **FAMILIES[family]}
    values.pop("dtype")
    config = getattr(transformers, f"{CLASSES[family]}Config")(**values)
    torch.manual_seed(0)
    model = getattr(transformers, f"{CLASSES[family]}ForCausalLM")(config).eval()
    if family in ("mixtral", "qwen3_moe"):
        model.set_experts_implementation("batched_mm")
    return model, {**model.config.to_dict(), "dtype": "float32"}


@pytest.mark.torch
@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode_equal_the_model(family: str) -> None:
    torch = pytest.importorskip("torch")
    model, config = hugging_face(family)
    shape = decoder_shape(config)
    weights = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    ids = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids).logits.numpy()
    graph = prefill_graph(shape, 2, 8)
    assert {p.name for p in graph.parameters} <= set(weights)
    first, *state = run(graph, [ids[:, :8].numpy().astype(np.int32)], weights)
    assert relative(first[:, 0], expected[:, 7]) < 1e-4
    caches = []
    for part in state:
        cache = np.zeros((2, 2, 12, 16), np.float32)
        cache[:, :, :8] = part
        caches.append(cache)
    step = decode_graph(shape, 2, 12)
    inputs = [ids[:, 8:].numpy().astype(np.int32), np.array([8], np.int32), *caches]
    logits, *after = run(step, inputs, weights)
    assert relative(logits[:, 0], expected[:, 8]) < 1e-4
    assert np.abs(after[0][:, :, 8]).max() > 0
    np.testing.assert_array_equal(after[0][:, :, 9:], 0)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("name", facts.models())
def test_published_shapes_build(name: str) -> None:
    shape = decoder_shape(name)
    assert shape.heads % shape.kv_heads == 0
    billions = {"llama-3.1-8b": 8.03, "llama-3.1-70b": 70.6, "llama-3.1-405b": 405.9,
                "mixtral-8x22b": 141, "qwen3-235b-a22b": 235}.get(name)  # fmt: skip
    if billions:
        assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_unknown_names_and_families_say_what_is_known() -> None:
    with pytest.raises(FactsError, match=r"llama-3\.1-8b"):
        decoder_shape("llama-9")
    with pytest.raises(UnsupportedOp, match="got bert") as caught:
        decoder_shape({**SIZES, "model_type": "bert"})
    assert "meta device" in caught.value.render()
    with pytest.raises(UnsupportedOp, match="got yarn"):
        decoder_shape({**SIZES, "model_type": "llama", "rope_scaling": {"type": "yarn"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_key_value_heads": 3}, "heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor"),
    ],
)
def test_wrong_configurations_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decoder_shape({**SIZES, "model_type": "llama", **change})


def test_configuration_files(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(UsageError, match="not a file"):
        decoder_shape(tmp_path)
    file.write_text("{not json")
    with pytest.raises(UsageError, match="not a configuration"):
        decoder_shape(file)
    file.write_text(json.dumps({**SIZES, "model_type": "llama"}))
    assert decoder_shape(tmp_path) == decoder_shape(file)
    assert decoder_shape(tmp_path).dtype == F32
    assert isinstance(decoder_shape(tmp_path), DecoderShape)


def checkpoint(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def test_checkpoint_headers(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    entry = {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    file.write_bytes(checkpoint(header) + bytes(24))
    (kind,) = checkpoint_types(tmp_path).values()
    assert str(kind) == "bf16[3,4]"


@pytest.mark.parametrize("content", [
    b"", b"\x01", b"\xff" * 16, checkpoint(b"[]"), checkpoint(b'{"w": 3}'),
    checkpoint(b'{"w": {"dtype": "X", "shape": [1]}}'), checkpoint(b"{")[:-1],
])  # fmt: skip
def test_broken_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(TenzingError, match="safetensors"):
        checkpoint_types(file)
