"""Decoder families as compositions of blocks: what each configuration means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tenzing.compiler.models.attention import GROUPED, JOINED, Heads, Latent
from tenzing.compiler.models.blocks import Mlp, Norm
from tenzing.compiler.models.experts import Experts, Router
from tenzing.compiler.models.positions import LinearBias
from tenzing.compiler.models.scalings import THETA, rope_of, rope_settings, yarn_gain
from tenzing.compiler.models.settings import Settings
from tenzing.compiler.models.transformer import (
    AFTER,
    BEFORE,
    PARALLEL,
    Layer,
    Tokens,
    Transformer,
)
from tenzing.errors import UnsupportedOp, UsageError

LAYER_EPSILON: Final = 1e-5
WIDER: Final = 4  # an MLP over its stream, where nothing says more
FULL, SLIDING = "full_attention", "sliding_attention"
SANDWICH: Final = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                   "post_feedforward_layernorm")  # fmt: skip
MIXTURES: Final = ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss")
QUICK: Final = 1.702  # the slope of GPT-OSS's gate
LIMIT: Final = 7.0  # where GPT-OSS clamps it
GEMMA_HEAD: Final = 256


@dataclass(frozen=True)
class Traits:
    """What sets a family of rotary decoders apart from Llama, and its defaults.

    ``every``: one layer in so many sees everything, the others a window; 0 for a window in all.
    ``gemma``: weights of norms stored minus one, embeddings scaled, tied. ``scalar``: the query
    width that scores are scaled for.
    """

    bias: bool = False  # of q, k, v
    out_bias: bool = False
    qk_norm: bool = False
    windowed: bool = True
    every: int = 0
    gemma: bool = False
    sandwich: bool = False
    joined: bool = False
    sinks: bool = False
    head: int = 0
    scalar: int = 0
    theta: float = THETA
    epsilon: float = 1e-6
    activation: str = "silu"


LLAMA: Final = Traits()
QWEN3: Final = replace(LLAMA, qk_norm=True, windowed=False)
GEMMA: Final = replace(LLAMA, gemma=True, head=GEMMA_HEAD, activation="gelu_pytorch_tanh")
GEMMA2: Final = replace(GEMMA, sandwich=True, every=2, scalar=GEMMA_HEAD)
TRAITS: Final[Mapping[str, Traits]] = {
    "llama": replace(LLAMA, windowed=False), "mistral": LLAMA,
    "mixtral": replace(LLAMA, epsilon=1e-5, theta=1e6),
    "qwen2": replace(LLAMA, bias=True, windowed=False),
    "qwen2_moe": replace(LLAMA, bias=True, windowed=False),
    "qwen3": QWEN3, "qwen3_moe": QWEN3,
    "gemma": replace(GEMMA, windowed=False), "gemma2": GEMMA2,
    "gemma3_text": replace(GEMMA2, qk_norm=True, every=6, theta=1e6),
    "phi3": replace(LLAMA, joined=True, epsilon=1e-5),
    "gpt_oss": replace(LLAMA, bias=True, out_bias=True, every=2, sinks=True, theta=150000.0,
                       epsilon=1e-5),
}  # fmt: skip


def rotary_decoder(c: Settings) -> Transformer:
    """Llama and its relatives: RMS norms, rotary positions, gated MLPs or experts."""
    family = c.text("model_type", "")
    t = TRAITS[family]
    hidden, count = c.count("hidden_size"), c.count("num_hidden_layers")
    norm = Norm("rms", c.number("rms_norm_eps", t.epsilon), t.gemma)
    mlp = _mixture(c, family) if family in MIXTURES else _gated(c, t)
    names = SANDWICH if t.sandwich else ("input_layernorm", "", "post_attention_layernorm", "")
    by_kind = {
        kind: Layer(_heads(c, t, norm, kind), mlp, norm, names)
        for kind in dict.fromkeys(kinds_of(c, t, count))
    }
    layers = tuple(by_kind[kind] for kind in kinds_of(c, t, count))
    cap = c.number("final_logit_softcapping") if "final_logit_softcapping" in c else 0.0
    return Transformer(
        hidden, c.count("vocab_size"), layers, Tokens(scale=hidden**0.5 if t.gemma else 1.0), norm,
        "model.norm", tied=c.flag("tie_word_embeddings", default=t.gemma), soft_cap=cap,
        dtype=c.dtype,
    )  # fmt: skip


def kinds_of(c: Settings, t: Traits, count: int) -> tuple[str, ...]:
    """Full or sliding attention, layer by layer."""
    given = c.values.get("layer_types")
    if given is not None:
        if not isinstance(given, list | tuple) or len(given) != count:
            raise UsageError("config: layer_types", got=given, allowed=f"{count} kinds")
        other = next((kind for kind in given if kind not in (FULL, SLIDING)), None)
        if other is not None:
            raise UnsupportedOp("no builder for this kind of layer", got=other,
                                allowed=f"{FULL}, {SLIDING}")  # fmt: skip
        return tuple(given)
    if "sliding_window" not in c or not c.flag("use_sliding_window", default=t.windowed):
        return (FULL,) * count
    if "max_window_layers" in c and not t.windowed:  # Qwen: the first layers see everything
        first = int(c.values["max_window_layers"])
        return tuple(FULL if k < first else SLIDING for k in range(count))
    every = c.count("sliding_window_pattern", default=t.every or count + 1)
    return tuple(SLIDING if (k + 1) % every else FULL for k in range(count))


def head_sizes(c: Settings, default: int = 0) -> tuple[int, int, int]:
    """Query heads, key heads and their width."""
    heads, hidden = c.count("num_attention_heads"), c.count("hidden_size")
    kv_heads = c.count("num_key_value_heads", default=heads)
    width = c.count("head_dim", default=default or hidden // heads)
    if heads % kv_heads or width % 2:
        raise UsageError("config: heads", got=f"{heads} heads, {kv_heads} key heads of {width}",
                         allowed="key heads that divide the heads, an even width")  # fmt: skip
    return heads, kv_heads, width


def _heads(c: Settings, t: Traits, norm: Norm, kind: str) -> Heads:
    heads, kv_heads, width = head_sizes(c, t.head)
    scalar = c.number("query_pre_attn_scalar", t.scalar or width)
    bias = c.flag("attention_bias", default=t.bias)
    # Llama with attention_bias gives the output one too, Qwen never
    out_bias = bias and (t.out_bias or not t.bias)
    cap = c.number("attn_logit_softcapping") if "attn_logit_softcapping" in c else 0.0
    common = Heads(
        heads, kv_heads, width, scalar**-0.5, biases=(bias, bias, bias, out_bias),
        norm=norm if t.qk_norm else None, rope=rope_of(c, width, kind=kind, theta=t.theta),
        window=c.count("sliding_window") if kind == SLIDING else 0, soft_cap=cap,
        sinks="self_attn.sinks" if t.sinks else "",
    )  # fmt: skip
    if not t.joined:
        return common
    return replace(common, layout=JOINED, names=("self_attn.qkv_proj", "self_attn.o_proj"),
                   biases=(bias, bias))  # fmt: skip


def _gated(c: Settings, t: Traits) -> Mlp:
    act = c.text("hidden_activation", c.text("hidden_act", t.activation))
    if t.gemma:
        act = c.text("hidden_activation", t.activation)  # older files name one that is not meant
    mlp = Mlp(c.count("intermediate_size"), act, bias=c.flag("mlp_bias"))
    if not t.joined:
        return mlp
    return replace(mlp, joined=True, names=("mlp.gate_up_proj", "mlp.down_proj"))


def _mixture(c: Settings, family: str) -> Experts:
    """Experts in every layer."""
    if c.count("decoder_sparse_step", default=1) != 1 or c.values.get("mlp_only_layers"):
        raise UnsupportedOp("no builder for experts in some layers only",
                            next_step="compile the PyTorch module instead")  # fmt: skip
    c.count("intermediate_size", "moe_intermediate_size")
    width = c.count("moe_intermediate_size", "intermediate_size")
    count = c.count("num_local_experts", "num_experts")
    chosen = c.count("num_experts_per_tok", "experts_per_token", default=2)
    if family == "gpt_oss":
        router = Router(count, chosen, "mlp.router", "chosen", bias=True)
        return Experts(router, width, turned=True, bias=True, alpha=c.number("swiglu_alpha", QUICK),
                       limit=c.number("swiglu_limit", LIMIT))  # fmt: skip
    # Mixtral scales the chosen probabilities always, Qwen when told to
    normalised = c.flag("norm_topk_prob", default=family == "mixtral")
    experts = Experts(Router(count, chosen, normalised=normalised), width)
    if family != "qwen2_moe":
        return experts
    names = tuple(f"mlp.shared_expert.{n}_proj" for n in ("gate", "up", "down"))
    shared = Mlp(c.count("shared_expert_intermediate_size"), names=names)
    return replace(experts, shared=shared, shared_gate="mlp.shared_expert_gate")


def latent_decoder(c: Settings) -> Transformer:
    """DeepSeek-V2 and V3: latent attention, experts with shared ones behind the first layers."""
    hidden, count = c.count("hidden_size"), c.count("num_hidden_layers")
    norm = Norm("rms", c.number("rms_norm_eps", 1e-6))
    plain, turning = c.count("qk_nope_head_dim"), c.count("qk_rope_head_dim")
    table, _ = rope_settings(c, FULL, THETA)
    scale = (plain + turning) ** -0.5
    if table.text("rope_type", table.text("type", "default")) != "default":
        stretch = table.values.get("mscale_all_dim") or 0
        scale *= yarn_gain(table.number("factor"), stretch) ** 2 if stretch else 1.0
    attention = Latent(
        c.count("num_attention_heads"), c.count("q_lora_rank") if "q_lora_rank" in c else 0,
        c.count("kv_lora_rank"), plain, c.count("v_head_dim"),
        rope_of(c, turning, neighbours=c.flag("rope_interleave", default=True)), scale,
        Norm("rms"), c.flag("attention_bias"),
    )  # fmt: skip
    dense = Layer(attention, Mlp(c.count("intermediate_size")), norm)
    mixed = Layer(attention, _shared_mixture(c), norm)
    first = min(int(c.values.get("first_k_dense_replace") or 0), count)
    layers = (dense,) * first + (mixed,) * (count - first)
    return Transformer(hidden, c.count("vocab_size"), layers, Tokens(), norm, "model.norm",
                       tied=c.flag("tie_word_embeddings"), dtype=c.dtype)  # fmt: skip


def _shared_mixture(c: Settings) -> Experts:
    third = c.text("model_type", "") == "deepseek_v3"
    limited = third or c.text("topk_method", "greedy") == "group_limited_greedy"
    router = Router(
        c.count("n_routed_experts", "num_local_experts"), c.count("num_experts_per_tok"),
        score="sigmoid" if third else "softmax",
        normalised=third and c.flag("norm_topk_prob", default=True),
        scale=c.number("routed_scaling_factor", 1.0), corrected=third,
        groups=c.count("n_group", default=1) if limited else 1,
        kept=c.count("topk_group", default=1),
    )  # fmt: skip
    width = c.count("moe_intermediate_size")
    names = tuple(f"mlp.shared_experts.{n}_proj" for n in ("gate", "up", "down"))
    shared = Mlp(width * c.count("n_shared_experts", default=1), names=names)
    return Experts(router, width, shared=shared)


def gpt2(c: Settings) -> Transformer:
    """GPT-2: learned places, layer norms, weights the other way round."""
    hidden, heads = c.count("n_embd", "hidden_size"), c.count("n_head", "num_attention_heads")
    norm = Norm("layer", c.number("layer_norm_epsilon", LAYER_EPSILON))
    width = hidden // heads
    attention = Heads(heads, heads, width, width**-0.5, ("attn.c_attn", "attn.c_proj"), JOINED,
                      (True, True), turned=True)  # fmt: skip
    mlp = Mlp(c.count("n_inner", default=WIDER * hidden),
              c.text("activation_function", "gelu_new"), ("mlp.c_fc", "mlp.c_proj"), bias=True,
              turned=True)  # fmt: skip
    rows = c.count("n_positions", "max_position_embeddings")
    return Transformer(
        hidden, c.count("vocab_size"),
        (Layer(attention, mlp, norm, ("ln_1", "", "ln_2", "")),) * c.count("n_layer"),
        Tokens("transformer.wte", places="transformer.wpe", rows=rows), norm, "transformer.ln_f",
        "transformer.h", tied=c.flag("tie_word_embeddings", default=True), dtype=c.dtype,
    )  # fmt: skip


def gpt_neox(c: Settings) -> Transformer:
    """GPT-NeoX and Pythia: rotary in part of a head, attention and MLP side by side."""
    heads, _, width = head_sizes(c)
    norm = Norm("layer", c.number("layer_norm_eps", LAYER_EPSILON))
    bias = c.flag("attention_bias", default=True)
    rope = rope_of(c, width, theta=c.number("rotary_emb_base", THETA),
                   share=c.number("rotary_pct", 0.25))  # fmt: skip
    attention = Heads(heads, heads, width, width**-0.5,
                      ("attention.query_key_value", "attention.dense"), GROUPED, (bias, bias),
                      rope=rope)  # fmt: skip
    mlp = Mlp(c.count("intermediate_size"), c.text("hidden_act", "gelu"),
              ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), bias=True)  # fmt: skip
    order = PARALLEL if c.flag("use_parallel_residual", default=True) else BEFORE
    return Transformer(
        c.count("hidden_size"), c.count("vocab_size"),
        (Layer(attention, mlp, norm, order=order),) * c.count("num_hidden_layers"),
        Tokens("gpt_neox.embed_in"), norm, "gpt_neox.final_layer_norm", "gpt_neox.layers",
        tied=c.flag("tie_word_embeddings"), dtype=c.dtype,
    )  # fmt: skip


def falcon(c: Settings) -> Transformer:
    """Falcon: one or few key heads, attention and MLP side by side behind one norm or two."""
    heads, hidden = c.count("num_attention_heads", "n_head"), c.count("hidden_size")
    width, newer = hidden // heads, c.flag("new_decoder_architecture")
    one = c.flag("multi_query", default=True)
    kv_heads = c.count("num_kv_heads", default=heads) if newer else 1 if one else heads
    bias, linear = c.flag("bias"), c.flag("alibi")
    attention = Heads(
        heads, kv_heads, width, width**-0.5,
        ("self_attention.query_key_value", "self_attention.dense"), GROUPED, (bias, bias),
        rope=None if linear else rope_of(c, width),
        bias=LinearBias(width**-0.5) if linear else None,
    )  # fmt: skip
    mlp = Mlp(c.count("ffn_hidden_size", default=WIDER * hidden), c.text("activation", "gelu"),
              ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), bias=bias)  # fmt: skip
    norm = Norm("layer", c.number("layer_norm_epsilon", LAYER_EPSILON))
    layer = Layer(attention, mlp, norm)
    if newer or c.flag("parallel_attn", default=True):
        two = newer and c.count("num_ln_in_parallel_attn", default=2) > 1
        names = ("ln_attn", "", "ln_mlp", "") if two else ("input_layernorm", "", "", "")
        layer = replace(layer, names=names, order=PARALLEL)
    return Transformer(
        hidden, c.count("vocab_size"), (layer,) * c.count("num_hidden_layers", "n_layer"),
        Tokens("transformer.word_embeddings"), norm, "transformer.ln_f", "transformer.h",
        tied=c.flag("tie_word_embeddings", default=True), dtype=c.dtype,
    )  # fmt: skip


def bloom(c: Settings) -> Transformer:
    """BLOOM: linear biases in place of positions, a norm of the embeddings."""
    if c.flag("apply_residual_connection_post_layernorm"):
        raise UnsupportedOp("no builder for residuals behind the norm",
                            next_step="compile the PyTorch module instead")  # fmt: skip
    hidden, heads = c.count("hidden_size", "n_embed"), c.count("n_head", "num_attention_heads")
    width = hidden // heads
    norm = Norm("layer", c.number("layer_norm_epsilon", LAYER_EPSILON))
    attention = Heads(heads, heads, width, width**-0.5,
                      ("self_attention.query_key_value", "self_attention.dense"), GROUPED,
                      (True, True), bias=LinearBias())  # fmt: skip
    mlp = Mlp(WIDER * hidden, "gelu_new", ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), bias=True)
    embedding = Tokens("transformer.word_embeddings", norm=norm,
                       norm_name="transformer.word_embeddings_layernorm")  # fmt: skip
    return Transformer(
        hidden, c.count("vocab_size"),
        (Layer(attention, mlp, norm),) * c.count("n_layer", "num_hidden_layers"), embedding, norm,
        "transformer.ln_f", "transformer.h", tied=c.flag("tie_word_embeddings", default=True),
        dtype=c.dtype,
    )  # fmt: skip


def opt(c: Settings) -> Transformer:
    """OPT: learned places, ReLU, and in one size a table narrower than the stream."""
    heads, _, width = head_sizes(c)
    hidden, bias = c.count("hidden_size"), c.flag("enable_bias", default=True)
    norm = Norm("layer", LAYER_EPSILON)
    names = tuple(f"self_attn.{n}_proj" for n in ("q", "k", "v", "out"))
    attention = Heads(heads, heads, width, width**-0.5, names, biases=(bias,) * 4)
    mlp = Mlp(c.count("ffn_dim"), c.text("activation_function", "relu"), ("fc1", "fc2"), bias=bias)
    before = c.flag("do_layer_norm_before", default=True)
    norms = ("self_attn_layer_norm", "", "final_layer_norm", "")
    layer = Layer(attention, mlp, norm, norms)
    if not before:
        layer = replace(layer, names=("", norms[0], "", norms[2]), order=AFTER)
    narrow = c.count("word_embed_proj_dim", default=hidden)
    embedding = Tokens(
        "model.decoder.embed_tokens", places="model.decoder.embed_positions", offset=2,
        rows=c.count("max_position_embeddings") + 2, width=narrow,
        project="model.decoder.project_in" if narrow != hidden else "",
        narrow="model.decoder.project_out" if narrow != hidden else "",
    )  # fmt: skip
    return Transformer(
        hidden, c.count("vocab_size"), (layer,) * c.count("num_hidden_layers"), embedding,
        norm if before else None, "model.decoder.final_layer_norm", "model.decoder.layers",
        tied=c.flag("tie_word_embeddings", default=True), dtype=c.dtype,
    )  # fmt: skip


DECODERS: Final[Mapping[str, Callable[[Settings], Transformer]]] = {
    **dict.fromkeys(TRAITS, rotary_decoder), "deepseek_v2": latent_decoder,
    "deepseek_v3": latent_decoder, "gpt2": gpt2, "gpt_neox": gpt_neox, "falcon": falcon,
    "bloom": bloom, "opt": opt,
}  # fmt: skip
__all__ = ["DECODERS"]
