"""Shapes of the zoo: parameters counted from them are those that their publishers state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenzing import facts, fleet
from tenzing.errors import UsageError
from tenzing.facts.catalogue import Entry, catalogue

WITHIN = 0.02


@pytest.mark.parametrize("name", facts.models())
def test_parameters_of_a_configuration_are_the_published_count(name: str) -> None:
    published = facts.model_entry(name)["params_m"] * 1e6
    assert fleet.shape_of(name).params == pytest.approx(published, rel=WITHIN)


def counted(entry: Entry) -> float:
    """Layers and embeddings of an entry, by hand."""
    v = entry.values
    heads, hidden = v["heads"], v["hidden"]
    dim = v.get("head_dim", hidden // heads)
    attention = hidden * dim * 2 * (heads + v.get("kv_heads", heads))
    gated = v.get("gated", entry.name in GATED)
    both = 1.5 if v["kind"] == "encoder-decoder" else 1  # half of the layers attend twice
    tied = v.get("tied", entry.name in TIED)
    layer = both * attention + (3 if gated else 2) * hidden * v["ffn"]
    return float(v["layers"] * layer + v["vocab"] * hidden * (1 if tied else 2))


GATED = {"phi-3-mini", "phi-3-medium", "phi-4-mini", "phi-4", "zephyr", "mistral-large",
         "mistral-nemo"}  # fmt: skip
TIED = {"biogpt-large", "biogpt", "ctrl", "git-base", "phi-4-mini", "santacoder", "starcoder",
        "t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b", "bart-large", "gpt2", "gpt2-medium",
        "gpt2-large", "gpt2-xl", "distilgpt2",
        *(f"gpt-3-{n}" for n in ("125m", "350m", "760m", "1.3b", "2.7b", "6.7b", "13b",
                                 "175b"))}  # fmt: skip
WHOLE = {"layers", "hidden", "ffn", "heads", "vocab"}
ROUGH = {"gpt-3-760m", "git-base", "marian"}


@pytest.mark.parametrize(
    "entry",
    [e for e in catalogue() if set(e.values) >= WHOLE and e.name not in ROUGH
     and e.values["kind"] in ("decoder", "encoder-decoder")],
    ids=lambda e: e.name,
)  # fmt: skip
def test_parameters_of_an_entry_follow_from_its_layers(entry: Entry) -> None:
    assert counted(entry) == pytest.approx(entry.values["params_m"] * 1e6, rel=WITHIN)


FAMILIES = {
    "llama": ["llama-7b", "llama-2-70b", "llama-3-8b", "llama-3.3-70b", "Llama-4-Scout-17B-16E",
              "meta-llama/Llama-4-Maverick-17B-128E"],
    "qwen": ["qwen1.5-7b", "qwen2-57b-a14b", "qwen2.5-72b", "qwen3-235b-a22b", "Qwen3-Next-80B-A3B",
             "qwen1.5-moe-a2.7b"],
    "mistral": ["mistral-7b", "mixtral-8x22b", "mistral-large", "mistral-small-24b"],
    "gemma": ["gemma-7b", "gemma-2-27b", "gemma-3-4b", "gemma-3-270m"],
    "gpt": ["gpt-oss-120b", "gpt2-xl", "gpt3", "gpt-3-6.7b"],
    "deepseek": ["deepseek-v2", "DeepSeek-V2-Lite", "deepseek-v3", "deepseek-ai/DeepSeek-R1"],
    "phi": ["phi-1", "phi-1_5", "phi-2", "phi-3-mini", "phi-3-medium", "phi-4", "phi-4-mini"],
    "olmo": ["OLMo-1B", "olmo-7b-hf", "OLMo-2-1124-13B", "allenai/OLMo-2-0325-32B"],
    "opt": ["opt-125m", "opt-350m", "opt-66b", "opt-175b"],
    "encoders": ["bert-base-uncased", "roberta-large", "distilbert", "albert-base-v2"],
    "two-sided": ["t5-small", "google/flan-t5-xxl", "whisper-large-v3"],
    "vision": ["vit-base", "openai/clip-vit-large-patch14", "resnet50"],
    "diffusion": ["stable-diffusion-v1-5", "stable-diffusion-2-1", "stable-diffusion-xl-base-1.0",
                  "stable-diffusion-3-medium", "stable-diffusion-3.5-large", "FLUX.1-dev",
                  "FLUX.1-schnell"],
}  # fmt: skip


@pytest.mark.parametrize("name", [n for names in FAMILIES.values() for n in names])
def test_models_that_people_ask_for_are_known_by_name(name: str) -> None:
    shape = fleet.shape_of(name)
    assert not shape.assumed
    assert shape.source
    assert 0 < shape.active <= shape.params


CONFIGS: dict[str, tuple[dict[str, Any], float]] = {
    "gpt2": ({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12,
              "n_positions": 1024, "vocab_size": 50257}, 124.4),
    "t5-small": ({"model_type": "t5", "num_layers": 6, "num_decoder_layers": 6, "d_model": 512,
                  "d_ff": 2048, "d_kv": 64, "num_heads": 8, "vocab_size": 32128}, 60.5),
    "flan-t5-small": ({"model_type": "t5", "num_layers": 8, "num_decoder_layers": 8,
                       "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_heads": 6,
                       "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
                       "tie_word_embeddings": False}, 77.0),
    "whisper-small": ({"model_type": "whisper", "d_model": 768, "encoder_layers": 12,
                       "decoder_layers": 12, "encoder_attention_heads": 12,
                       "encoder_ffn_dim": 3072, "vocab_size": 51865}, 241.7),
    "vit-base": ({"model_type": "vit", "num_hidden_layers": 12, "hidden_size": 768,
                  "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 224,
                  "patch_size": 16}, 86.4),
    "llama-4-scout": ({"model_type": "llama4_text", "num_hidden_layers": 48, "hidden_size": 5120,
                       "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
                       "intermediate_size": 8192, "intermediate_size_mlp": 16384,
                       "num_local_experts": 16, "num_experts_per_tok": 1, "vocab_size": 202048,
                       "interleave_moe_layer_step": 1}, 107800),
    "llama-4-maverick": ({"model_type": "llama4_text", "num_hidden_layers": 48,
                          "hidden_size": 5120, "num_attention_heads": 40,
                          "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192,
                          "intermediate_size_mlp": 16384, "num_local_experts": 128,
                          "num_experts_per_tok": 1, "vocab_size": 202048,
                          "interleave_moe_layer_step": 2}, 400700),
    "olmoe": ({"model_type": "olmoe", "num_hidden_layers": 16, "hidden_size": 2048,
               "num_attention_heads": 16, "intermediate_size": 1024, "num_experts": 64,
               "num_experts_per_tok": 8, "vocab_size": 50304}, 6919),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_json_of_any_family_is_a_model(name: str, tmp_path: Path) -> None:
    config, millions = CONFIGS[name]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    shape = fleet.shape_of(str(file))
    assert shape.params == pytest.approx(millions * 1e6, rel=WITHIN)
    assert not shape.assumed


def test_latent_attention_keeps_one_vector_a_token() -> None:
    """DeepSeek-V3: 512 latent and 64 rotary values a layer; 37 of 671 billion are active."""
    shape = fleet.shape_of("deepseek-v3")
    assert shape.kv_values == 61 * (512 + 64)
    assert shape.active == pytest.approx(37e9, rel=WITHIN)


def test_a_config_without_sizes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "gpt2", "n_layer": 12}))
    with pytest.raises(UsageError, match="lacks hidden_size, num_attention_heads"):
        fleet.shape_of(str(file))
