"""Decoders built from shapes alone mean what Hugging Face's models compute."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenzing import facts
from tenzing.compiler.graph import F32
from tenzing.compiler.models import Transformer, build, transformer_of
from tenzing.compiler.models.config import checkpoint_types
from tenzing.compiler.reference import run
from tenzing.compiler.timing import time_graph
from tenzing.errors import FactsError, TenzingError, UnsupportedOp, UsageError

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
NO_WIDTH = {k: v for k, v in SIZES.items() if k != "head_dim"}
PLAIN = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "beta_fast": 4.0,
        "beta_slow": 1.0, "original_max_position_embeddings": 16}  # fmt: skip
LATENT = {
    **SIZES, "head_dim": 8, "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 8,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
    "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
LONG = {"rope_type": "longrope", "rope_theta": 100.0, "long_factor": [2.0] * 8,
        "short_factor": [1 + k / 10 for k in range(8)]}  # fmt: skip
FALCON = {"hidden_size": 64, "vocab_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
OPT = {**PLAIN, "ffn_dim": 96, "max_position_embeddings": 64}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SIZES),
    "llama3": ("Llama", {**SIZES, "rope_parameters": LLAMA3}),
    "llama_biased": ("Llama", {**SIZES, "attention_bias": True, "mlp_bias": True,
                               "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0,
                                                   "factor": 2.0}}),
    "mistral": ("Mistral", {**SIZES, "sliding_window": 5}),
    "mixtral": ("Mixtral", {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 5,
                        "max_window_layers": 1}),
    "qwen2_moe": ("Qwen2Moe", {**NO_WIDTH, **MIXTURE, "shared_expert_intermediate_size": 48}),
    "qwen3": ("Qwen3", SIZES),
    "qwen3_moe": ("Qwen3Moe", {**SIZES, **MIXTURE, "norm_topk_prob": True}),
    "gemma": ("Gemma", SIZES),
    "gemma2": ("Gemma2", {**SIZES, "sliding_window": 5, "query_pre_attn_scalar": 24}),
    "gemma3": ("Gemma3Text", {**SIZES, "sliding_window": 5, "query_pre_attn_scalar": 24,
                              "layer_types": ["sliding_attention", "full_attention"]}),
    "phi3": ("Phi3", {**NO_WIDTH, "sliding_window": 5, "pad_token_id": 0}),
    "phi3_long": ("Phi3", {**NO_WIDTH, "pad_token_id": 0, "rope_parameters": LONG,
                           "original_max_position_embeddings": 32}),
    "gpt_oss": ("GptOss", {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2,
                           "sliding_window": 5, "rope_parameters": YARN}),
    "deepseek_v2": ("DeepseekV2", {**LATENT, "topk_method": "group_limited_greedy"}),
    "deepseek_v3": ("DeepseekV3", {**LATENT, "rope_parameters": {**YARN, "mscale": 1.0,
                                                                 "mscale_all_dim": 1.0}}),
    "gpt2": ("GPT2", {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4,
                      "n_positions": 64}),
    "gpt_neox": ("GPTNeoX", {**PLAIN, "intermediate_size": 96, "rotary_pct": 0.5}),
    "falcon": ("Falcon", FALCON),
    "falcon_new": ("Falcon", {**FALCON, "num_kv_heads": 2, "bias": True,
                              "new_decoder_architecture": True}),
    "falcon_rw": ("Falcon", {**FALCON, "multi_query": False, "parallel_attn": False,
                             "alibi": True, "bias": True}),
    "bloom": ("Bloom", {"vocab_size": 96, "hidden_size": 96, "n_layer": 2, "n_head": 6}),
    "opt": ("OPT", {**OPT, "word_embed_proj_dim": 64}),
    "opt_narrow": ("OPT", {**OPT, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
}  # fmt: skip
LANGUAGE = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}
TEXT = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4}  # fmt: skip
T5 = {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
EYE = {**{k: v for k, v in TEXT.items() if k != "vocab_size"}, "image_size": 32, "patch_size": 8}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", TEXT),
    "roberta": ("RobertaConfig", "RobertaModel", {**TEXT, "pad_token_id": 1}),
    "distilbert": ("DistilBertConfig", "DistilBertModel", {
        "vocab_size": 96, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4}),
    "t5": ("T5Config", "T5EncoderModel", T5),
    "t5_gated": ("T5Config", "T5EncoderModel", {**T5, "feed_forward_proj": "gated-gelu"}),
    "vit": ("ViTConfig", "ViTModel", EYE),
    "clip": ("CLIPVisionConfig", "CLIPVisionModel", EYE),
}  # fmt: skip
# the builder cuts to the last token ahead of the last norm, and shares positions over the batch
AHEAD = ("bloom", "roberta")  # roberta: transformers counts positions as it runs
FAST = ("llama", "gpt2", "falcon")
TIME_SHARE = 0.05  # how far a builder's time may be from the PyTorch door's


def _settled(model: Any) -> Any:
    """Weights and buffers away from the ones and zeros they start as."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for name, values in (*model.named_parameters(), *model.named_buffers()):
            if isinstance(values, torch.nn.Parameter) or "correction" in name:
                values.add_(torch.randn_like(values) * 0.05)
    return model.eval()


@functools.cache
def decoder(case: str) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kind, values = CASES[case]
    config = getattr(transformers, f"{kind}Config")(**values)
    torch.manual_seed(0)
    model = getattr(transformers, LANGUAGE.get(kind, f"{kind}ForCausalLM"))(config)
    if any(word in case for word in ("mixtral", "moe", "gpt_oss", "deepseek")):
        model.set_experts_implementation("batched_mm")
    return _settled(model)


def settings_of(model: Any) -> dict[str, Any]:
    return {**model.config.to_dict(), "dtype": "float32"}


def arrays_of(model: Any) -> dict[str, np.ndarray]:
    return {name: values.detach().numpy() for name, values in model.state_dict().items()}


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
def test_prefill_and_decode_equal_the_model(case: str) -> None:
    torch = pytest.importorskip("torch")
    model = decoder(case)
    shape = transformer_of(settings_of(model))
    weights = arrays_of(model)
    ids = torch.randint(3, 96, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids).logits.numpy()
    graph = build(shape, "prefill", 2, 8)
    assert {p.name: p.shape for p in graph.parameters}.items() <= {
        name: array.shape for name, array in weights.items()
    }.items()
    first, *state = run(graph, [ids[:, :8].numpy().astype(np.int32)], weights)
    assert relative(first[:, 0], expected[:, 7]) <= 1e-5
    step = build(shape, "decode", 2, 12)
    caches = [
        np.pad(part, [(0, 0), (0, 0), (0, value.shape[2] - part.shape[2]), (0, 0)])
        for part, value in zip(state, step.inputs[2:], strict=True)
    ]
    inputs = [ids[:, 8:].numpy().astype(np.int32), np.array([8], np.int32), *caches]
    logits, *after = run(step, inputs, weights)
    assert relative(logits[:, 0], expected[:, 8]) <= 1e-5
    ahead = state[0].shape[2] - 8  # rows that caches start with
    assert np.abs(after[0][:, :, ahead + 8]).max() > 0
    np.testing.assert_array_equal(after[0][:, :, ahead + 9 :], 0)


@pytest.mark.torch
@pytest.mark.parametrize("case", ENCODERS)
def test_encoders_equal_the_model(case: str) -> None:
    torch = pytest.importorskip("torch")
    model, given = encoder(case)
    with torch.no_grad():
        expected = model(given).last_hidden_state.numpy()
    graph = build(settings_of(model), None, 2, 16)
    array = given.numpy().astype(np.float32 if given.is_floating_point() else np.int32)
    (found,) = run(graph, [array], arrays_of(model))
    assert relative(found, expected) <= 1e-5


def encoder(case: str) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, kind, values = ENCODERS[case]
    torch.manual_seed(0)
    model = _settled(getattr(transformers, kind)(getattr(transformers, config)(**values)))
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        return model, torch.randn(2, 3, 32, 32, generator=generator)
    return model, torch.randint(3, 96, (2, 16), generator=generator)


@pytest.mark.torch
@pytest.mark.parametrize("case", [
    pytest.param(case, marks=() if case in FAST else pytest.mark.slow)
    for case in (*CASES, *ENCODERS)
])  # fmt: skip
def test_a_builder_takes_the_time_of_the_pytorch_model(case: str) -> None:
    torch = pytest.importorskip("torch")
    if case in ENCODERS:
        model, given = encoder(case)
    else:
        model, given = decoder(case), torch.ones(2, 16, dtype=torch.long)

    class Answer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: Any) -> Any:
            if case in ENCODERS:
                return self.model(given).last_hidden_state
            return self.model(given, use_cache=False, logits_to_keep=1).logits[:, -1:]

    from tenzing.compiler.frontends.torch import import_module

    theirs = time_graph(import_module(Answer().eval(), (given,)).graph).total_ps
    graph = build(settings_of(model), None, 2, 16, caches=False)
    mine = time_graph(graph).total_ps
    assert mine < theirs if case in AHEAD else mine == pytest.approx(theirs, rel=TIME_SHARE)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("name", facts.models())
def test_published_shapes_build(name: str) -> None:
    shape = transformer_of(name)
    assert shape.heads % shape.kv_heads == 0
    billions = {
        "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.6, "llama-3.1-405b": 405.9, "mixtral-8x22b": 141,
        "qwen3-235b-a22b": 235, "deepseek-v3": 671, "gpt-oss-120b": 116.8, "gpt-oss-20b": 20.9,
        "gemma-2-27b": 27.2, "falcon-40b": 41.8, "gpt-neox-20b": 20.6, "bloom-176b": 176,
        "bert-base": 0.109, "opt-66b": 65.7, "pythia-12b": 11.8,
    }.get(name)  # fmt: skip
    if billions:
        assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.02)


def test_unknown_names_and_families_say_what_is_known() -> None:
    with pytest.raises(FactsError, match=r"llama-3\.1-8b"):
        transformer_of("llama-9")
    with pytest.raises(UnsupportedOp, match="got tapas") as caught:
        transformer_of({**SIZES, "model_type": "tapas"})
    assert "meta device" in caught.value.render()
    with pytest.raises(UnsupportedOp, match="got dynamic"):
        transformer_of({**SIZES, "model_type": "llama", "rope_scaling": {"type": "dynamic"}})


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
        transformer_of({**SIZES, "model_type": "llama", **change})


def test_configuration_files(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(UsageError, match="not a file"):
        transformer_of(tmp_path)
    file.write_text("{not json")
    with pytest.raises(UsageError, match="not a configuration"):
        transformer_of(file)
    file.write_text(json.dumps({**SIZES, "model_type": "llama", "dtype": "float32"}))
    assert transformer_of(tmp_path) == transformer_of(file)
    assert transformer_of(tmp_path).dtype == F32
    assert isinstance(transformer_of(tmp_path), Transformer)


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
