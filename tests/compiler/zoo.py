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


def _model(name: str, config: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, name)(config)
    model.config.return_dict = True
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model.eval()


def _tokens(length: int = LENGTH, batch: int = 2) -> Any:
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, 96, (batch, length), generator=generator)


def _pixels(size: int = 32, batch: int = 2, channels: int = 3) -> Any:
    import torch

    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, channels, size, size, generator=generator)


def _causal(
    kind: str, values: Mapping[str, Any], *, experts: bool = False
) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    def make() -> tuple[Any, tuple[Any, ...]]:
        model = _model(f"{kind}ForCausalLM", _config(f"{kind}Config", values))
        if experts:
            model.set_experts_implementation("batched_mm")
        return model, (_tokens(),)

    return make


def _encoder(kind: str, values: Mapping[str, Any]) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    return lambda: (
        _model(f"{kind}ForMaskedLM", _config(f"{kind}Config", values)),
        (_tokens(),),
    )


def _image(
    kind: str, values: Mapping[str, Any], head: str = "ForImageClassification", size: int = 32
) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    return lambda: (
        _model(kind + head, _config(f"{kind}Config", values)),
        (_pixels(size),),
    )


def _t5() -> tuple[Any, tuple[Any, ...]]:
    values = {
        "vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    model = _model("T5ForConditionalGeneration", _config("T5Config", values))
    return by_name(model, ("input_ids", "decoder_input_ids"), use_cache=False), (
        _tokens(),
        _tokens(8),
    )


def _whisper() -> tuple[Any, tuple[Any, ...]]:
    import torch

    values = {
        "vocab_size": 96, "num_mel_bins": 20, "d_model": 64, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_source_positions": 32,
        "max_target_positions": 32, "decoder_start_token_id": 1, **ENDS,
    }  # fmt: skip
    model = _model("WhisperForConditionalGeneration", _config("WhisperConfig", values))
    sound = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(3))
    return by_name(model, ("input_features", "decoder_input_ids"), use_cache=False), (
        sound,
        _tokens(8),
    )


def _clip() -> tuple[Any, tuple[Any, ...]]:
    text = {**ENCODER, **ENDS}
    vision = dict(VISION)
    config = _config(
        "CLIPConfig", {"text_config": text, "vision_config": vision, "projection_dim": 32}
    )
    model = _model("CLIPModel", config)
    return by_name(model, ("input_ids", "pixel_values")), (_tokens(), _pixels())


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
        _model(
            "Gemma3ForCausalLM",
            _config("Gemma3TextConfig", {**DECODER, "head_dim": 16, "sliding_window": 8}),
        ),
        (_tokens(),),
    ),
    "gpt2": lambda: (
        _model(
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
        (_tokens(),),
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
