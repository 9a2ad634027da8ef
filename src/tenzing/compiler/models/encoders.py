"""Encoder families as compositions of blocks: sentences and pictures to hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tenzing.compiler.models.attention import Heads
from tenzing.compiler.models.blocks import Mlp, Norm
from tenzing.compiler.models.positions import Buckets
from tenzing.compiler.models.settings import Settings
from tenzing.compiler.models.transformer import AFTER, Layer, Patches, Tokens, Transformer

BERT_EPSILON: Final = 1e-12
CLIP_EPSILON: Final = 1e-5
T5_EPSILON: Final = 1e-6
ALL: Final = (True, True, True, True)  # projections with a bias
BUCKETS, REACH = 32, 128  # of T5's relative positions
PICTURE, COLOURS = 224, 3


def bert(c: Settings) -> Transformer:
    """BERT; RoBERTa's places start behind its padding token's number."""
    hidden, heads = c.count("hidden_size"), c.count("num_attention_heads")
    norm = Norm("layer", c.number("layer_norm_eps", BERT_EPSILON))
    width, roberta = hidden // heads, "roberta" in c.text("model_type", "bert")
    names = (*(f"attention.self.{n}" for n in ("query", "key", "value")), "attention.output.dense")
    attention = Heads(heads, heads, width, width**-0.5, names, biases=ALL, causal=False)
    mlp = Mlp(c.count("intermediate_size"), c.text("hidden_act", "gelu"),
              ("intermediate.dense", "output.dense"), bias=True)  # fmt: skip
    layer = Layer(attention, mlp, norm, ("", "attention.output.LayerNorm", "", "output.LayerNorm"),
                  AFTER)  # fmt: skip
    padding = int(c.values.get("pad_token_id") or 0)
    embedding = Tokens(
        "embeddings.word_embeddings", places="embeddings.position_embeddings",
        rows=c.count("max_position_embeddings", default=512),
        offset=(padding if "pad_token_id" in c else 1) + 1 if roberta else 0,
        types="embeddings.token_type_embeddings",
        type_rows=c.count("type_vocab_size", default=2), norm=norm,
        norm_name="embeddings.LayerNorm",
    )  # fmt: skip
    return Transformer(hidden, c.count("vocab_size"), (layer,) * c.count("num_hidden_layers"),
                       embedding, stack="encoder.layer", head="", dtype=c.dtype)  # fmt: skip


def distilbert(c: Settings) -> Transformer:
    """DistilBERT: BERT without sentence kinds, under other names."""
    hidden, heads = c.count("dim", "hidden_size"), c.count("n_heads", "num_attention_heads")
    norm, width = Norm("layer", BERT_EPSILON), hidden // heads
    names = tuple(f"attention.{n}_lin" for n in ("q", "k", "v", "out"))
    attention = Heads(heads, heads, width, width**-0.5, names, biases=ALL, causal=False)
    mlp = Mlp(c.count("hidden_dim"), c.text("activation", "gelu"), ("ffn.lin1", "ffn.lin2"),
              bias=True)  # fmt: skip
    layer = Layer(attention, mlp, norm, ("", "sa_layer_norm", "", "output_layer_norm"), AFTER)
    embedding = Tokens(
        "embeddings.word_embeddings", places="embeddings.position_embeddings",
        rows=c.count("max_position_embeddings", default=512), norm=norm,
        norm_name="embeddings.LayerNorm",
    )  # fmt: skip
    layers = (layer,) * c.count("n_layers", "num_hidden_layers")
    return Transformer(hidden, c.count("vocab_size"), layers, embedding,
                       stack="transformer.layer", head="", dtype=c.dtype)  # fmt: skip


def t5(c: Settings) -> Transformer:
    """The encoder of T5: unscaled scores with a learned bias for distance."""
    hidden, heads = c.count("d_model"), c.count("num_heads")
    norm = Norm("rms", c.number("layer_norm_epsilon", T5_EPSILON))
    bias = Buckets("encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
                   c.count("relative_attention_num_buckets", default=BUCKETS),
                   c.count("relative_attention_max_distance", default=REACH))  # fmt: skip
    names = tuple(f"layer.0.SelfAttention.{n}" for n in "qkvo")
    width = c.count("d_kv")
    attention = Heads(heads, heads, width, 1.0, names, bias=bias, causal=False)
    kind = c.text("feed_forward_proj", "relu")
    gated = kind.startswith("gated-")
    act = kind.removeprefix("gated-")
    inner = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
    mlp = Mlp(c.count("d_ff"), "gelu_new" if gated and act == "gelu" else act,
              tuple(f"layer.1.DenseReluDense.{n}" for n in inner))  # fmt: skip
    layer = Layer(attention, mlp, norm, ("layer.0.layer_norm", "", "layer.1.layer_norm", ""))
    return Transformer(hidden, c.count("vocab_size"), (layer,) * c.count("num_layers"),
                       Tokens("shared"), norm, "encoder.final_layer_norm", "encoder.block",
                       head="", dtype=c.dtype)  # fmt: skip


def vit(c: Settings) -> Transformer:
    """ViT: patches and a class token, norms ahead."""
    hidden = c.count("hidden_size")
    norm = Norm("layer", c.number("layer_norm_eps", BERT_EPSILON))
    names = tuple(f"attention.{n}_proj" for n in "qkvo")
    layer = _ahead(c, norm, names, ("layernorm_before", "", "layernorm_after", ""), "mlp.",
                   bias=c.flag("qkv_bias", default=True))  # fmt: skip
    image, patch = c.count("image_size", default=PICTURE), c.count("patch_size", default=16)
    tokens = (image // patch) ** 2 + 1
    embedding = Patches(
        c.count("num_channels", default=COLOURS), image, patch,
        "embeddings.patch_embeddings.projection", True,
        ("embeddings.cls_token", (1, 1, hidden)),
        ("embeddings.position_embeddings", (1, tokens, hidden)),
    )  # fmt: skip
    return Transformer(hidden, 1, (layer,) * c.count("num_hidden_layers"), embedding, norm,
                       "layernorm", "layers", head="", dtype=c.dtype)  # fmt: skip


def clip_vision(c: Settings) -> Transformer:
    """The picture tower of CLIP, without its pooling."""
    hidden = c.count("hidden_size")
    norm = Norm("layer", c.number("layer_norm_eps", CLIP_EPSILON))
    image, patch = c.count("image_size", default=PICTURE), c.count("patch_size", default=32)
    tokens = (image // patch) ** 2 + 1
    embedding = Patches(
        c.count("num_channels", default=COLOURS), image, patch,
        "embeddings.patch_embedding", False, ("embeddings.class_embedding", (hidden,)),
        ("embeddings.position_embedding.weight", (tokens, hidden)), norm, "pre_layrnorm",
    )  # fmt: skip
    layer = _clip_layer(c, norm)
    return Transformer(hidden, 1, (layer,) * c.count("num_hidden_layers"), embedding,
                       stack="encoder.layers", head="", dtype=c.dtype)  # fmt: skip


def _clip_layer(c: Settings, norm: Norm) -> Layer:
    names = tuple(f"self_attn.{n}_proj" for n in ("q", "k", "v", "out"))
    return _ahead(c, norm, names, ("layer_norm1", "", "layer_norm2", ""), "mlp.",
                  activation="quick_gelu")  # fmt: skip


def _ahead(
    c: Settings, norm: Norm, names: tuple[str, ...], norms: tuple[str, str, str, str], mlp: str,
    *, activation: str = "gelu", bias: bool = True,
) -> Layer:  # fmt: skip
    """A layer with norms ahead, over all positions."""
    heads = c.count("num_attention_heads")
    width = c.count("hidden_size") // heads
    attention = Heads(heads, heads, width, width**-0.5, names, biases=(bias, bias, bias, True),
                      causal=False)  # fmt: skip
    inner = Mlp(c.count("intermediate_size"), c.text("hidden_act", activation),
                (f"{mlp}fc1", f"{mlp}fc2"), bias=True)  # fmt: skip
    return Layer(attention, inner, norm, norms)


@dataclass(frozen=True)
class Encoder:
    """A builder, and the architectures of transformers whose hidden states it gives."""

    build: Callable[[Settings], Transformer]
    architectures: tuple[str, ...]


ENCODERS: Final[Mapping[str, Encoder]] = {
    "bert": Encoder(bert, ("BertModel",)),
    "roberta": Encoder(bert, ("RobertaModel",)),
    "xlm-roberta": Encoder(bert, ("XLMRobertaModel",)),
    "distilbert": Encoder(distilbert, ("DistilBertModel",)),
    "t5": Encoder(t5, ("T5EncoderModel",)),
    "vit": Encoder(vit, ("ViTModel",)),
    "clip_vision_model": Encoder(clip_vision, ("CLIPVisionModel",)),
}
__all__ = ["ENCODERS", "Encoder"]
