"""MiniLM in pure JAX: the same weights and sentences as demo.py, through the JAX door.

    python examples/minilm/jax_model.py [--target trn2] [--numerics instruction]

Compiles the encoder, runs four sentences on the simulated chip and compares with JAX.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import jax.numpy as jnp
import numpy as np
from sentences import SENTENCES
from tokenizer import WordPiece
from weights import package_directory, read_safetensors

import tenzing

HEADS, EPSILON, LENGTH = 12, 1e-12, 32
UNUSED = ("embeddings.position_ids", "pooler.")
Parameters = dict[str, Any]


def load(directory: Path | None = None) -> Parameters:
    """Nested dictionaries of arrays by the parts of the checkpoint's names."""
    arrays = read_safetensors((directory or package_directory()) / "model.safetensors")
    nested: Parameters = {}
    for name, array in arrays.items():
        if not name.startswith(UNUSED):
            *path, last = name.split(".")
            place = nested
            for part in path:
                place = place.setdefault(part, {})
            place[last] = jnp.asarray(array)
    return nested


def linear(p: Parameters, x: jax.Array) -> jax.Array:
    """x W + b, with W as the checkpoint stores it: [out, in]."""
    return x @ p["weight"].T + p["bias"]


def layer_norm(p: Parameters, x: jax.Array) -> jax.Array:
    """Rows less their mean over their deviation, scaled and shifted."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * p["weight"] + p["bias"]


def attention(p: Parameters, x: jax.Array, mask: jax.Array) -> jax.Array:
    """Multi-head attention of a sequence to itself; mask [batch, length], 1 attends."""
    batch, length, width = x.shape
    query, key, value = (
        linear(p["self"][name], x).reshape(batch, length, HEADS, -1)
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(width // HEADS)
    scores = jnp.where(mask[:, None, None, :] > 0, scores, -jnp.inf)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
    dense = linear(p["output"]["dense"], mixed.reshape(batch, length, width))
    return layer_norm(p["output"]["LayerNorm"], dense + x)


def encode(params: Parameters, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Unit sentence vectors [batch, width] of token ids and mask [batch, length]."""
    tables = params["embeddings"]
    x = tables["word_embeddings"]["weight"][tokens]
    x = x + tables["position_embeddings"]["weight"][: tokens.shape[1]]
    x = layer_norm(tables["LayerNorm"], x + tables["token_type_embeddings"]["weight"][0])
    layers = params["encoder"]["layer"]
    for number in sorted(layers, key=int):
        p = layers[number]
        x = attention(p["attention"], x, mask)
        grown = jax.nn.gelu(linear(p["intermediate"]["dense"], x), approximate=False)
        x = layer_norm(p["output"]["LayerNorm"], linear(p["output"]["dense"], grown) + x)
    weight = mask[:, :, None].astype(x.dtype)
    mean = (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1e-9)
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)


def main() -> None:
    """Compile, run and compare."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--target", default="trn2")
    options.add_argument("--numerics", default="instruction")
    given = options.parse_args()
    pieces = WordPiece(package_directory() / "vocab.txt")
    tokens, mask = (np.asarray(a, np.int32) for a in pieces.encode(SENTENCES[:4], LENGTH))
    model = partial(encode, load())  # what partial binds are weights
    compiled = tenzing.compile(model, (tokens, mask), target=given.target, numerics=given.numerics)
    found = compiled(tokens, mask)
    worst = float(jnp.abs(found - model(tokens, mask)).max())
    print(f"4 sentences of up to {LENGTH} tokens on {given.target}: {compiled.latency_us:.1f} us")
    print(f"largest difference from JAX: {worst:.1e}")
    print(f"similarity of the first two: {float(found[0] @ found[1]):.3f}")


if __name__ == "__main__":
    main()
