"""The same sentence encoder built from Keras layers, with the same trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from model import Config, package_directory, read_safetensors


class Embeddings(layers.Layer):
    """Sum of word, position and token-type vectors."""

    def __init__(self, config: Config, **settings: Any) -> None:
        super().__init__(**settings)
        self.words = layers.Embedding(config.vocabulary, config.width)
        self.positions = layers.Embedding(config.positions, config.width)
        self.types = layers.Embedding(config.token_types, config.width)

    def call(self, tokens: Any) -> Any:
        """Vectors [batch, length, width] of token ids [batch, length], all of type 0."""
        place = ops.arange(tokens.shape[1])
        return self.words(tokens) + self.positions(place) + self.types(ops.zeros_like(tokens))


class Pooled(layers.Layer):
    """The mean of the tokens' vectors, of length one."""

    def call(self, hidden: Any, mask: Any) -> Any:
        """Vectors [batch, length, width] and mask [batch, length] to [batch, width]."""
        weight = ops.cast(mask, hidden.dtype)[:, :, None]
        mean = ops.sum(hidden * weight, 1) / ops.maximum(ops.sum(weight, 1), 1e-9)
        return mean / ops.maximum(ops.sqrt(ops.sum(mean * mean, -1, keepdims=True)), 1e-12)


MINILM = Config()


def build(length: int, config: Config = MINILM) -> keras.Model:
    """The encoder of ``length`` tokens: ids and mask (1 is a token) to unit vectors."""
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    mask = keras.Input((length,), dtype="int32", name="mask")
    attended = ops.cast(mask, "bool")[:, None, :]
    hidden = layers.LayerNormalization(epsilon=config.epsilon, name="norm")(
        Embeddings(config, name="embeddings")(tokens)
    )
    for k in range(config.layers):
        mixed = layers.MultiHeadAttention(
            config.heads, config.width // config.heads, name=f"attention{k}"
        )(hidden, hidden, attention_mask=attended)
        norm = layers.LayerNormalization(epsilon=config.epsilon, name=f"attention_norm{k}")
        hidden = norm(layers.add([mixed, hidden]))
        grown = layers.Dense(config.inner, name=f"inner{k}")(hidden)
        grown = layers.Activation(lambda x: ops.gelu(x, approximate=False))(grown)
        grown = layers.Dense(config.width, name=f"output{k}")(grown)
        norm = layers.LayerNormalization(epsilon=config.epsilon, name=f"output_norm{k}")
        hidden = norm(layers.add([grown, hidden]))
    return keras.Model([tokens, mask], Pooled(name="pooled")(hidden, mask))


def load(length: int, directory: Path | None = None) -> keras.Model:
    """The encoder with its trained weights."""
    config = Config()
    arrays = read_safetensors((directory or package_directory()) / "model.safetensors")
    model = build(length, config)
    heads = (config.heads, config.width // config.heads)

    def norm(name: str) -> list[np.ndarray]:
        return [arrays[f"{name}.weight"], arrays[f"{name}.bias"]]

    def dense(name: str) -> list[np.ndarray]:
        return [arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]]

    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    model.get_layer("embeddings").set_weights([arrays[f"embeddings.{t}.weight"] for t in tables])
    model.get_layer("norm").set_weights(norm("embeddings.LayerNorm"))
    for k in range(config.layers):
        layer = f"encoder.layer.{k}"
        weights = []
        for part in ("query", "key", "value"):
            kernel, bias = dense(f"{layer}.attention.self.{part}")
            weights += [kernel.reshape(config.width, *heads), bias.reshape(heads)]
        kernel, bias = dense(f"{layer}.attention.output.dense")
        weights += [kernel.reshape(*heads, config.width), bias]
        model.get_layer(f"attention{k}").set_weights(weights)
        model.get_layer(f"attention_norm{k}").set_weights(
            norm(f"{layer}.attention.output.LayerNorm")
        )
        model.get_layer(f"inner{k}").set_weights(dense(f"{layer}.intermediate.dense"))
        model.get_layer(f"output{k}").set_weights(dense(f"{layer}.output.dense"))
        model.get_layer(f"output_norm{k}").set_weights(norm(f"{layer}.output.LayerNorm"))
    return model
