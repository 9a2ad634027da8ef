"""A transformer as a composition of blocks, and its graphs: prompt, decode step, encoder.

Parameters have the names and layouts of Hugging Face's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, Alias, Graph, Value
from tenzing.compiler.models.attention import Heads, Latent
from tenzing.compiler.models.author import INDEX, Author
from tenzing.compiler.models.blocks import Mlp, Norm
from tenzing.compiler.models.experts import Experts
from tenzing.compiler.models.positions import Rope, Scaling
from tenzing.errors import UsageError

BEFORE: Final = "before"  # norms ahead of attention and MLP, and perhaps behind them too
AFTER: Final = "after"  # norms of the sums, as BERT has them
PARALLEL: Final = "parallel"  # attention and MLP read the same input


@dataclass(frozen=True)
class Layer:
    """Attention and an MLP around the residual stream.

    ``names`` of the norms before and after attention, before and after the MLP; empty for none. A
    parallel MLP without a norm of its own reads attention's.
    """

    attention: Heads | Latent
    mlp: Mlp | Experts
    norm: Norm
    names: tuple[str, str, str, str] = ("input_layernorm", "", "post_attention_layernorm", "")
    order: str = BEFORE

    def write(self, author: Author, x: Value) -> Value:
        """The residual stream behind this layer."""
        normal = self._normed(author, x, 0)
        mixed = self.attention.write(author, normal)
        if self.order == PARALLEL:
            ahead = self._normed(author, x, 2) if self.names[2] else normal
            both = author.add(ops.Add(), self.mlp.write(author, ahead), mixed)
            return author.add(ops.Add(), both, x)
        x = self._joined(author, x, mixed, 1)
        return self._joined(author, x, self.mlp.write(author, self._normed(author, x, 2)), 3)

    def _joined(self, author: Author, x: Value, new: Value, name: int) -> Value:
        if self.order == AFTER:
            return self._normed(author, author.add(ops.Add(), new, x), name)
        return author.add(ops.Add(), x, self._normed(author, new, name))

    def _normed(self, author: Author, x: Value, name: int) -> Value:
        return self.norm.write(author, x, self.names[name]) if self.names[name] else x


@dataclass(frozen=True)
class Tokens:
    """Embeddings of token ids, times ``scale``, with learned places and a norm where named.

    ``offset``: the row of the first place. ``width``: of a table narrower than the stream, which
    ``project`` widens and ``narrow`` undoes ahead of the head.
    """

    name: str = "model.embed_tokens"
    scale: float = 1.0
    places: str = ""
    rows: int = 0
    offset: int = 0
    types: str = ""
    type_rows: int = 0
    norm: Norm | None = None
    norm_name: str = ""
    width: int = 0
    project: str = ""
    narrow: str = ""

    def input(self, author: Author, batch: int, tokens: int) -> Value:
        """Token numbers [batch, tokens]."""
        return author.builder.input("input_ids", (batch, tokens), INDEX)

    def write(self, author: Author, ids: Value, model: Transformer) -> Value:
        """[batch, tokens, hidden]."""
        table = self.table(author, model)
        x = author.scaled(author.add(ops.Gather(), table, ids), self.scale)
        if self.project:
            x = author.linear(x, self.project, model.hidden)
        if self.types:
            kinds = author.weight(f"{self.types}.weight", self.type_rows, model.hidden)
            row = author.add(ops.Reshape((model.hidden,)), author.part(kinds, 0, 0, 1))
            x = author.add(ops.Add(), x, author.along(x.shape, (2,), row))
        if self.places:
            x = author.add(ops.Add(), x, self._placed(author, x))
        return x if self.norm is None else self.norm.write(author, x, self.norm_name)

    def table(self, author: Author, model: Transformer) -> Value:
        """The weight [vocabulary, width]."""
        return author.weight(f"{self.name}.weight", model.vocabulary, self.width or model.hidden)

    def _placed(self, author: Author, x: Value) -> Value:
        tokens, hidden = x.shape[1:]
        if author.length + self.offset > self.rows:
            raise UsageError("longer than the table of positions", got=author.length,
                             allowed=f"up to {self.rows - self.offset}")  # fmt: skip
        table = author.weight(f"{self.places}.weight", self.rows, hidden)
        if author.position is None:
            rows = author.part(table, 0, self.offset, self.offset + tokens)
        else:
            place = author.position
            if self.offset:
                place = author.add(ops.Add(), place, author.splat(self.offset, place))
            rows = author.add(ops.Gather(), table, place)
        return author.along(x.shape, (1, 2), rows)


@dataclass(frozen=True)
class Patches:
    """A picture cut into squares, one token each, behind a learned first token, with places."""

    channels: int
    image: int
    patch: int
    projection: str
    bias: bool
    first: tuple[str, tuple[int, ...]]  # name and shape of the first token
    places: tuple[str, tuple[int, ...]]
    norm: Norm | None = None
    norm_name: str = ""

    @property
    def tokens(self) -> int:
        """Patches and the first token."""
        return (self.image // self.patch) ** 2 + 1

    def input(self, author: Author, batch: int, tokens: int) -> Value:
        """Pixels [batch, channels, image, image]."""
        shape = (batch, self.channels, self.image, self.image)
        return author.builder.input("pixel_values", shape, author.dtype)

    def write(self, author: Author, pixels: Value, model: Transformer) -> Value:
        """[batch, patches + 1, hidden]."""
        hidden, size = model.hidden, (self.patch, self.patch)
        window = ops.Window.of(size, (0, 0))
        parts = [author.weight(f"{self.projection}.weight", hidden, self.channels, *size)]
        if self.bias:
            parts.append(author.weight(f"{self.projection}.bias", hidden))
        x = author.add(ops.Convolution(window), pixels, *parts)
        batch = x.shape[0]
        x = author.add(ops.Reshape((batch, hidden, self.tokens - 1)), x)
        x = author.add(ops.Transpose((0, 2, 1)), x)
        name, shape = self.first
        first = author.add(ops.Reshape((hidden,)), author.weight(name, *shape))
        first = author.along((batch, 1, hidden), (2,), first)
        x = author.add(ops.Concatenate(1), first, x)
        name, shape = self.places
        places = author.add(ops.Reshape((self.tokens, hidden)), author.weight(name, *shape))
        x = author.add(ops.Add(), x, author.along(x.shape, (1, 2), places))
        return x if self.norm is None else self.norm.write(author, x, self.norm_name)


@dataclass(frozen=True)
class Transformer:
    """Embeddings, layers, a last norm and, for a language model, a head over the vocabulary.

    ``stack`` is the path of the layers. Without ``head`` the last stream is the result.
    """

    hidden: int
    vocabulary: int
    layers: tuple[Layer, ...]
    embedding: Tokens | Patches
    norm: Norm | None = None
    norm_name: str = ""
    stack: str = "model.layers"
    head: str = "lm_head"
    tied: bool = False
    soft_cap: float = 0.0
    dtype: np.dtype[Any] = BF16

    @property
    def heads(self) -> int:
        """Query heads of the first layer."""
        return self.layers[0].attention.heads

    @property
    def kv_heads(self) -> int:
        """Key heads that the first layer's cache holds."""
        return self.layers[0].attention.kv_heads

    @property
    def parameters(self) -> int:
        """Number of weights that one pass reads."""
        graph = prefill_graph(self, 1, 1) if self.head else encode_graph(self, 1, 1)
        return sum(v.type.elements for v in graph.parameters)

    def write(self, author: Author, given: Value) -> Value:
        """The stream behind the last layer, of the last token only where there is a head."""
        x = self.embedding.write(author, given, self)
        for number, layer in enumerate(self.layers):
            author.builder.scope = f"{self.stack}.{number}"
            x = layer.write(author, x)
        author.builder.scope = ""
        if self.head:
            x = author.part(x, 1, x.shape[1] - 1, x.shape[1])
        return x if self.norm is None else self.norm.write(author, x, self.norm_name)

    def logits(self, author: Author, x: Value) -> Value:
        """[batch, tokens, vocabulary]."""
        assert isinstance(self.embedding, Tokens)
        if self.embedding.narrow:
            x = author.linear(x, self.embedding.narrow, self.embedding.width)
        if self.tied:
            x = author.add(ops.Linear(), x, self.embedding.table(author, self))
        else:
            x = author.linear(x, self.head, self.vocabulary)
        if not self.soft_cap:
            return x
        bent = author.add(ops.Tanh(), author.scaled(x, 1 / self.soft_cap))
        return author.scaled(bent, self.soft_cap)


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, head_width: int, mlp_width: int,
    vocabulary: int, *, theta: float = 10000.0, scaling: Scaling | None = None,
    epsilon: float = 1e-6, tied: bool = False, window: int = 0, experts: Experts | None = None,
    qkv_bias: bool = False, qk_norm: bool = False, dtype: np.dtype[Any] = BF16,
) -> Transformer:  # fmt: skip
    """A decoder with rotary positions, RMS norms and gated MLPs or ``experts``, by its sizes."""
    norm = Norm("rms", epsilon)
    attention = Heads(
        heads, kv_heads, head_width, head_width**-0.5, window=window,
        biases=(qkv_bias,) * 3 + (False,), norm=norm if qk_norm else None,
        rope=Rope(head_width, theta, scaling),
    )  # fmt: skip
    layer = Layer(attention, experts or Mlp(mlp_width), norm)
    return Transformer(hidden, vocabulary, (layer,) * layers, Tokens(), norm, "model.norm",
                       tied=tied, dtype=dtype)  # fmt: skip


def prefill_graph(model: Transformer, batch: int, tokens: int, *, caches: bool = True) -> Graph:
    """Logits of the last token of prompts [batch, tokens], and what the caches hold of all.

    With ``caches`` False only the logits are outputs.
    """
    author = Author(f"prefill_{batch}x{tokens}", model.dtype, tokens)
    given = _language(model).input(author, batch, tokens)
    logits = model.logits(author, model.write(author, given))
    return author.builder.build([logits, *(author.state if caches else ())])


def decode_graph(model: Transformer, batch: int, length: int) -> Graph:
    """One token for each of ``batch`` sequences against caches of ``length`` positions.

    Inputs: ids [batch, 1], the position of the new token [1], and for each layer its caches
    [batch, kv_heads, length, width]: keys and values, or latents; they are updated in place. Caches
    of attention with sinks start with one row of zeros.
    """
    author = Author(f"decode_{batch}x{length}", model.dtype, length)
    builder = author.builder
    ids = _language(model).input(author, batch, 1)
    author.position = builder.input("position", (1,), INDEX)
    for number, layer in enumerate(model.layers):
        types = layer.attention.cache_types
        names = ("keys", "values") if len(types) > 1 else ("latents",)
        for name, (heads, first, width) in zip(names, types, strict=True):
            shape = (batch, heads, first + length, width)
            author.caches.append(builder.input(f"{name}.{number}", shape, model.dtype))
    logits = model.logits(author, model.write(author, ids))
    aliases = [Alias(1 + k, value.name) for k, value in enumerate(author.caches)]
    return builder.build([logits, *author.state], aliases)


def encode_graph(model: Transformer, batch: int, tokens: int) -> Graph:
    """The last stream [batch, tokens, hidden] of sentences, or of pictures of the model's size."""
    if isinstance(model.embedding, Patches):
        tokens = model.embedding.tokens
    author = Author(f"encode_{batch}x{tokens}", model.dtype, tokens)
    given = model.embedding.input(author, batch, tokens)
    return author.builder.build([model.write(author, given)])


def _language(model: Transformer) -> Tokens:
    if not model.head or not isinstance(model.embedding, Tokens):
        raise UsageError("the model has no head over a vocabulary", next_step="encode with it")
    return model.embedding


__all__ = ["AFTER", "BEFORE", "PARALLEL", "Layer", "Patches", "Tokens", "Transformer",
           "decode_graph", "encode_graph", "llama", "prefill_graph"]  # fmt: skip
