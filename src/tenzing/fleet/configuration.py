"""A model's sizes from the keys of its config.json: parameters, cache and attention, by family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Config = Mapping[str, Any]
NEEDED: Final = frozenset({"num_hidden_layers", "hidden_size", "num_attention_heads"})
# Keys that mean the same in the configurations of other families.
_SPELLINGS: Final = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "encoder_layers"),
    "hidden_size": ("n_embd", "d_model", "dim"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "intermediate_size": ("ffn_dim", "n_inner", "d_ff", "hidden_dim", "encoder_ffn_dim"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "max_position_embeddings": ("n_positions", "max_seq_len"),
}  # fmt: skip
ENCODERS: Final = ("bert", "roberta", "xlm-roberta", "electra", "camembert", "mpnet", "distilbert")
VISION: Final = ("vit", "deit", "dinov2", "clip_vision_model", "siglip_vision_model")
_TWO_SIDED: Final = ("t5", "mt5", "umt5", "bart", "mbart", "marian", "pegasus", "whisper")
_PLAIN: Final = ("opt", "gpt2", "gpt_neox", "bloom", "falcon", *ENCODERS, *VISION, *_TWO_SIDED)
_GATED: Final = (
    "llama", "llama4", "llama4_text", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3",
    "qwen3_moe", "gemma", "gemma2", "gemma3", "gemma3_text", "phi3", "gpt_oss", "olmo", "olmo2",
    "olmoe", "deepseek_v2", "deepseek_v3",
)  # fmt: skip
FAMILIES: Final = frozenset((*_PLAIN, *_GATED))
# Families that share input and output embeddings where their configuration does not say.
_TIED: Final = frozenset((
    *ENCODERS, *_TWO_SIDED, "gpt2", "opt", "bloom", "falcon", "gemma", "gemma2", "gemma3",
    "gemma3_text",
))  # fmt: skip
_LEARNED_POSITIONS: Final = frozenset((*ENCODERS, "gpt2", "opt", "bart", "mbart", "whisper"))
# Windowed layers where a config does not list them, as the families' published code alternates.
_WINDOWED: Final = {"gemma2": 1 / 2, "gpt_oss": 1 / 2, "gemma3": 5 / 6, "gemma3_text": 5 / 6}
_VOCAB: Final = 32000
_CHANNELS: Final = 3
_SPEECH_TOKENS: Final = 1500  # of 30 seconds, as Whisper's encoder has them
_IMAGE: Final = 224
_PATCH: Final = 16


@dataclass(frozen=True)
class Sizes:
    """What a configuration comes to; ``active`` parameters take part in one token.

    ``kv_heads`` and ``head_dim`` are those of the cache: latent attention keeps one head.
    """

    kind: str
    total: float
    active: float
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    experts: int
    top_k: int
    window: float
    windowed: float
    extra: tuple[tuple[str, Any], ...]
    known: bool


def spelled(config: Config) -> dict[str, Any]:
    """The configuration with every size under its common name as well."""
    found = dict(config)
    for key, others in _SPELLINGS.items():
        for other in others:
            if not found.get(key) and found.get(other):
                found[key] = found[other]
    return found


def sizes_of(config: Config) -> Sizes:
    """Sizes behind Hugging Face's keys; an unknown family is counted as a gated decoder.

    Raises ValueError, TypeError or ArithmeticError for keys that make no sense.
    """
    c = spelled(config)
    family = str(c.get("model_type"))
    layers, hidden = int(c["num_hidden_layers"]), int(c["hidden_size"])
    heads, kv, dim = _heads(c, family)
    ffn = int(c.get("intermediate_size") or 4 * hidden)
    experts, top_k = int(c.get("num_experts") or 0), int(c.get("num_experts_per_tok") or 0)
    vocab = int(c.get("vocab_size") or _VOCAB)
    if min(layers, hidden, heads, kv, dim, ffn, vocab) <= 0:
        raise ValueError("its sizes must be above zero")
    mixed = _mixed_layers(c, layers) if experts else 0
    total = _body(c, family, layers, mixed, experts) + _embeddings(c, family)
    active = _body(c, family, layers, mixed, max(top_k, 1)) + vocab * hidden
    if not experts:
        active = total if family in (*ENCODERS, *VISION, *_TWO_SIDED) else active
    kind, extra = _kind(c, family, experts)
    layers += _decoder_layers(c, family, kind)
    return Sizes(
        kind, total, min(active, total), layers, hidden, ffn, heads, kv, dim, vocab,
        experts, top_k, float(c.get("sliding_window") or 0), _windowed(c, family),
        extra, family in FAMILIES,
    )  # fmt: skip


def _heads(c: Config, family: str) -> tuple[int, int, int]:
    """Query heads, heads of the cache, and the values of one of them."""
    heads = int(c["num_attention_heads"])
    if c.get("kv_lora_rank"):  # one latent vector and one rotary key for all heads
        return heads, 1, (int(c["kv_lora_rank"]) + int(c["qk_rope_head_dim"])) // 2
    kv = int(c.get("num_key_value_heads") or heads)
    if family == "falcon" and not c.get("new_decoder_architecture"):
        kv = 1 if c.get("multi_query", True) else heads
    return heads, kv, int(c.get("head_dim") or c.get("d_kv") or int(c["hidden_size"]) // heads)


def _attention(c: Config, family: str) -> float:
    heads, kv, dim = _heads(c, family)
    hidden = int(c["hidden_size"])
    if not c.get("kv_lora_rank"):
        return hidden * dim * (2 * heads + 2 * kv)
    latent, rope = int(c["kv_lora_rank"]), int(c["qk_rope_head_dim"])
    plain, value = int(c["qk_nope_head_dim"]), int(c["v_head_dim"])
    rank = int(c.get("q_lora_rank") or 0)
    query = (hidden * rank + rank * heads * (plain + rope)) if rank else (
        hidden * heads * (plain + rope))  # fmt: skip
    keys = hidden * (latent + rope) + latent * heads * (plain + value)
    return query + keys + heads * value * hidden


def _matrices(c: Config, family: str) -> int:
    gated = family not in _PLAIN or str(c.get("feed_forward_proj", "")).startswith("gated")
    return 3 if gated or c.get("is_gated_act") else 2


def _mixed_layers(c: Config, layers: int) -> int:
    """Layers that hold experts; the others are dense."""
    every = int(c.get("interleave_moe_layer_step") or c.get("decoder_sparse_step") or 1)
    return (layers - int(c.get("first_k_dense_replace") or 0)) // every


def _body(c: Config, family: str, layers: int, mixed: int, experts: int) -> float:
    """All layers, with ``experts`` of them counted in each layer that has any."""
    hidden, matrices = int(c["hidden_size"]), _matrices(c, family)
    ffn = int(c.get("intermediate_size") or 4 * hidden)
    attention = _attention(c, family)
    wide = int(c.get("intermediate_size_mlp") or ffn)
    dense = matrices * hidden * (wide if mixed else ffn)
    expert = int(c.get("moe_intermediate_size") or ffn)
    shared = int(c.get("n_shared_experts") or 0) * expert
    shared += int(c.get("shared_expert_intermediate_size") or 0)
    shared += expert if family.startswith("llama4") else 0
    router = hidden * int(c.get("num_experts") or 0)
    total = layers * attention + (layers - mixed) * dense
    total += mixed * (matrices * hidden * (experts * expert + shared) + router)
    if family in _TWO_SIDED:  # a decoder layer attends twice
        total += int(_decoders(c)) * (2 * attention + dense)
    return float(total)


def _embeddings(c: Config, family: str) -> float:
    hidden = int(c["hidden_size"])
    if family in VISION:
        patch = int(c.get("patch_size") or _PATCH)
        return float(hidden * (_CHANNELS * patch**2 + _image_tokens(c)))
    vocab = int(c.get("vocab_size") or _VOCAB)
    width = int(c.get("word_embed_proj_dim") or hidden)
    tied = c.get("tie_word_embeddings", family in _TIED) or family in ENCODERS
    count = vocab * width * (1 if tied else 2) + (2 * width * hidden if width != hidden else 0)
    if family in _LEARNED_POSITIONS:
        count += hidden * int(c.get("max_position_embeddings") or 0)
    return float(count)


def _decoders(c: Config) -> int:
    return int(c.get("num_decoder_layers") or c.get("decoder_layers") or c["num_hidden_layers"])


def _decoder_layers(c: Config, family: str, kind: str) -> int:
    """Layers of a decoder that stand beside the encoder's in ``layers``."""
    return _decoders(c) if family in _TWO_SIDED and kind == "encoder-decoder" else 0


def _image_tokens(c: Config) -> int:
    size = c.get("image_size") or _IMAGE
    side = int(size[0] if isinstance(size, list) else size) // int(c.get("patch_size") or _PATCH)
    return side**2 + 1


def _kind(c: Config, family: str, experts: int) -> tuple[str, tuple[tuple[str, Any], ...]]:
    if family in VISION:
        return "vision-transformer", (("tokens", _image_tokens(c)),)
    if family == "whisper":
        return "speech", (("tokens", _SPEECH_TOKENS), ("decoder_layers", _decoders(c)))
    if family in _TWO_SIDED:
        return "encoder-decoder", ()
    return ("moe" if experts else "encoder" if family in ENCODERS else "decoder"), ()


def _windowed(c: Config, family: str) -> float:
    """Share of layers that look back on a window: as listed, or as the family's code has it."""
    if not c.get("sliding_window") or c.get("use_sliding_window") is False:
        return 0.0
    kinds = c.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return sum("sliding" in str(kind) for kind in kinds) / len(kinds)
    return _WINDOWED.get(family, 0.0)


__all__ = ["FAMILIES", "NEEDED", "Sizes", "sizes_of", "spelled"]
