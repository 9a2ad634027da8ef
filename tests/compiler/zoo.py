"""Tiny random-weight models of Hugging Face architectures, for tests of the whole compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DECODER = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MOE = {"moe_intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2}
SSM = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "vocab_size": 96}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ENCODER = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
LENGTH = 16


def _config(name: str, values: Mapping[str, Any]) -> Any:
    import transformers

    return getattr(transformers, name)(**values)


def model_of(name: str, config: Any) -> Any:
    """A model of this class with random weights, ready to be called."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    model.config.return_dict = True
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model.eval()


def tokens(length: int = LENGTH, batch: int = 2) -> Any:
    """Reproducible token numbers."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, 96, (batch, length), generator=generator)


def pixels(size: int = 32, batch: int = 2, channels: int = 3) -> Any:
    """Reproducible images."""
    import torch

    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, channels, size, size, generator=generator)


def _causal(
    kind: str, values: Mapping[str, Any], *, experts: bool = False
) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    def make() -> tuple[Any, tuple[Any, ...]]:
        model = model_of(f"{kind}ForCausalLM", _config(f"{kind}Config", values))
        if experts:
            model.set_experts_implementation("batched_mm")
        return model, (tokens(),)

    return make


def _encoder(kind: str, values: Mapping[str, Any]) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    return lambda: (
        model_of(f"{kind}ForMaskedLM", _config(f"{kind}Config", values)),
        (tokens(),),
    )


def _image(
    kind: str, values: Mapping[str, Any], head: str = "ForImageClassification", size: int = 32
) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    return lambda: (
        model_of(kind + head, _config(f"{kind}Config", values)),
        (pixels(size),),
    )


def _t5() -> tuple[Any, tuple[Any, ...]]:
    values = {
        "vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    model = model_of("T5ForConditionalGeneration", _config("T5Config", values))
    return by_name(model, ("input_ids", "decoder_input_ids"), use_cache=False), (
        tokens(),
        tokens(8),
    )


def _whisper() -> tuple[Any, tuple[Any, ...]]:
    import torch

    values = {
        "vocab_size": 96, "num_mel_bins": 20, "d_model": 64, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_source_positions": 32,
        "max_target_positions": 32, "decoder_start_token_id": 1, **ENDS,
    }  # fmt: skip
    model = model_of("WhisperForConditionalGeneration", _config("WhisperConfig", values))
    sound = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(3))
    return by_name(model, ("input_features", "decoder_input_ids"), use_cache=False), (
        sound,
        tokens(8),
    )


def _clip() -> tuple[Any, tuple[Any, ...]]:
    text = {**ENCODER, **ENDS}
    vision = dict(VISION)
    config = _config(
        "CLIPConfig", {"text_config": text, "vision_config": vision, "projection_dim": 32}
    )
    model = model_of("CLIPModel", config)
    return by_name(model, ("input_ids", "pixel_values")), (tokens(), pixels())


def by_name(model: Any, names: tuple[str, ...], **fixed: Any) -> Any:
    """``model`` called with positional tensors under these keyword names."""
    import torch

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return self.model(**dict(zip(names, tensors, strict=True)), **fixed)

    return Named().eval()


HF_20: Mapping[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "llama": _causal("Llama", DECODER),
    "qwen2": _causal("Qwen2", DECODER),
    "qwen3": _causal("Qwen3", {**DECODER, "head_dim": 16}),
    "mistral": _causal("Mistral", {**DECODER, "sliding_window": 8, "head_dim": 16}),
    "mixtral": _causal(
        "Mixtral", {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}, experts=True
    ),
    "qwen3moe": _causal("Qwen3Moe", {**DECODER, **MOE, "head_dim": 16}, experts=True),
    "gemma3": lambda: (
        model_of(
            "Gemma3ForCausalLM",
            _config("Gemma3TextConfig", {**DECODER, "head_dim": 16, "sliding_window": 8}),
        ),
        (tokens(),),
    ),
    "gpt2": lambda: (
        model_of(
            "GPT2LMHeadModel",
            _config(
                "GPT2Config",
                {
                    "vocab_size": 96,
                    "n_embd": 64,
                    "n_layer": 2,
                    "n_head": 4,
                    "n_positions": 64,
                    **ENDS,
                },
            ),
        ),
        (tokens(),),
    ),
    "phi3": _causal("Phi3", DECODER),
    "bert": _encoder("Bert", ENCODER),
    "distilbert": _encoder(
        "DistilBert",
        {
            "vocab_size": 96,
            "dim": 64,
            "hidden_dim": 96,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 64,
        },
    ),
    "t5": _t5,
    "vit": _image("ViT", VISION),
    "whisper": _whisper,
    "mamba": _causal("Mamba", {**SSM, "time_step_rank": 4, **ENDS}),
    "mamba2": _causal(
        "Mamba2",
        {**SSM, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8, **ENDS},
    ),
    "resnet": _image(
        "ResNet",
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
    ),
    "convnext": _image("ConvNext", {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}),
    "clip": _clip,
    "segformer": _image(
        "Segformer",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "hidden_sizes": [16, 32],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 32,
        },
        head="ForSemanticSegmentation",
    ),
}


# Sizes under the names that configurations give them; each takes those it knows.
SIZES = {
    **DECODER, **MOE, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 96,
    "d_model": 64, "n_heads": 4, "n_layers": 2, "dim": 64, "hidden_dim": 96, "d_ff": 96,
    "d_kv": 16, "d_head": 16, "d_inner": 96, "head_dim": 16, "num_layers": 2, "num_heads": 4,
    "ffn_dim": 96, "word_embed_proj_dim": 64, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96, "ffn_hidden_size": 96, "num_local_experts": 4, "n_routed_experts": 4,
    "n_shared_experts": 1, "shared_expert_intermediate_size": 48, "rotary_dim": 8,
    "embedding_size": 32, "max_seq_len": 64, "sliding_window": 8, "state_size": 8,
    "time_step_rank": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16, "v_head_dim": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "moe_num_experts": 4, "moe_k": 2, "attention_hidden_size": 64,
    "window_size": 8, "block_size": 4, "num_random_blocks": 1, "decoder_start_token_id": 1,
    "mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_chunk_size": 8,
    "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
    "expert_layer_offset": 1, "num_hidden_groups": 1, "local_attention": 8, "embedding_dim": 64,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "partial_rotary_factor": 0.5, "layer_types": None,
    "attn_layer_indices": [1], "context_length": 64, "emb_dim": 64, "block_sizes": [1, 1],
    "conv_L_cache": 3, "chunk_size": 8,
}  # fmt: skip
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "deepseek_v2": {"head_dim": 8, "num_key_value_heads": 4},
    "deepseek_v3": {"head_dim": 8, "num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "squeezebert": {"embedding_size": 64},
    "switch_transformers": {"num_sparse_encoder_layers": 1},
    "youtu": {"head_dim": 8, "num_key_value_heads": 4},
}


def _settable(known: type, renamed: Mapping[str, str], name: str) -> bool:
    member = getattr(known, renamed.get(name, name), None)
    return not isinstance(member, property) or member.fset is not None


def auto(kind: str, head: str) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    """A tiny model of an architecture by its model type, with random weights."""

    def make() -> tuple[Any, tuple[Any, ...]]:
        import torch
        import transformers

        known = type(transformers.AutoConfig.for_model(kind))
        renamed = getattr(known, "attribute_map", {})
        fields = {name for name in {*vars(known()), *renamed} if _settable(known, renamed, name)}
        values = {**{k: v for k, v in SIZES.items() if k in fields}, **SPECIAL.get(kind, {})}
        config = known(**values)
        torch.manual_seed(0)
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()
        model.config.return_dict = True
        for part in (model.config, model.config.get_text_config()):
            part.use_cache = False
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("batched_mm")
        if head != "Seq2SeqLM":
            return model, (tokens(),)
        named = by_name(model, ("input_ids", "decoder_input_ids"), use_cache=False)
        return named, (tokens(), tokens(8))

    return make


DECODERS = (
    "apertus", "arcee", "bamba", "biogpt", "bitnet", "bloom", "codegen", "cohere", "cohere2",
    "ctrl", "deepseek_v2", "deepseek_v3", "diffllama", "doge", "dots1", "ernie4_5",
    "ernie4_5_moe", "exaone4", "exaone_moe", "falcon", "falcon_mamba", "flex_olmo", "gemma",
    "gemma2", "glm", "glm4", "glm4_moe", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss",
    "gptj", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "helium",
    "hunyuan_v1_dense", "hunyuan_v1_moe", "jamba", "kimi_linear", "lfm2", "llama4_text",
    "minimax", "minimax_m2", "ministral", "modernbert-decoder", "mpt", "nanochat", "nemotron",
    "olmo", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "openai-gpt", "opt", "persimmon", "phi",
    "phimoe", "qwen2_moe", "qwen3_5_text", "qwen3_next", "recurrent_gemma", "rwkv", "seed_oss",
    "smollm3", "stablelm", "starcoder2", "vaultgemma", "xglm", "xlm", "xlnet", "xlstm",
)  # fmt: skip
ENCODERS = (
    "albert", "big_bird", "camembert", "convbert", "deberta", "deberta-v2", "electra", "esm",
    "flaubert", "fnet", "funnel", "ibert", "luke", "mobilebert", "modernbert", "mpnet",
    "nomic_bert", "nystromformer", "rembert", "roberta", "roformer", "squeezebert",
)  # fmt: skip
ENCODER_DECODERS = (
    "bart", "bigbird_pegasus", "blenderbot", "m2m_100", "marian", "mbart", "mt5", "mvp",
    "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "umt5",
)  # fmt: skip
OTHERS_TEXT: Mapping[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    **{kind: auto(kind, "CausalLM") for kind in DECODERS},
    **{kind: auto(kind, "MaskedLM") for kind in ENCODERS},
    **{kind: auto(kind, "Seq2SeqLM") for kind in ENCODER_DECODERS},
}
