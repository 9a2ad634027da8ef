"""Decoder-only transformers as graphs: prefill of a prompt, and one decode step with a cache.

Parameters have the names and layouts of Hugging Face's checkpoints of these families.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Alias, Array, Graph, GraphBuilder, Value

INDEX: Final = np.dtype(np.int32)
HEADS_FIRST: Final = (0, 2, 1, 3)


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: ``chosen`` of ``count`` for every token."""

    count: int
    chosen: int
    width: int
    normalised: bool = True  # chosen probabilities are scaled to sum to one
    block: str = "mlp"  # what checkpoints call the module


@dataclass(frozen=True)
class RopeScaling:
    """Rotary rates of a context stretched by ``factor``, as Llama 3 does it.

    Waves longer than ``original / low`` positions are slowed by ``factor``, those shorter than
    ``original / high`` stay, and between them the rate is blended.
    """

    factor: float
    low: float
    high: float
    original: int

    def rates(self, rates: Array) -> Array:
        """The scaled rates, in radians per position."""
        turns = self.original * rates / (2 * math.pi)  # of a wave within the original context
        kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return np.asarray(rates * (kept + (1 - kept) / self.factor))


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a decoder-only transformer with rotary positions, RMS norms and gated MLPs."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    vocabulary: int
    epsilon: float = 1e-6
    rope_theta: float = 10000.0
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    window: int | None = None
    experts: Experts | None = None
    rope_scaling: RopeScaling | None = None
    dtype: np.dtype[Any] = BF16

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(v.type.elements for v in prefill_graph(self, 1, 1).parameters)


def prefill_graph(shape: DecoderShape, batch: int, tokens: int, *, caches: bool = True) -> Graph:
    """Logits of the last token of prompts [batch, tokens], and the keys and values of all.

    With ``caches`` False only the logits are outputs.
    """
    author = _Author(shape, f"prefill_{batch}x{tokens}")
    ids = author.builder.input("input_ids", (batch, tokens), INDEX)
    places = author.add(ops.Convert(F32), author.add(ops.Iota((tokens,), INDEX, 0)))
    state: list[Value] = []
    logits = author.model(ids, places, None, state)
    return author.builder.build([logits, *(state if caches else ())])


def decode_graph(shape: DecoderShape, batch: int, length: int) -> Graph:
    """One token for each of ``batch`` sequences against a cache of ``length`` positions.

    Inputs: ids [batch, 1], the position of the new token [1], and for each layer keys and values
    [batch, kv_heads, length, head_width], which are updated in place.
    """
    author = _Author(shape, f"decode_{batch}x{length}")
    builder = author.builder
    ids = builder.input("input_ids", (batch, 1), INDEX)
    position = builder.input("position", (1,), INDEX)
    cache = (batch, shape.kv_heads, length, shape.head_width)
    caches = [
        builder.input(f"{name}.{layer}", cache, shape.dtype)
        for layer in range(shape.layers)
        for name in ("keys", "values")
    ]
    places = author.add(ops.Convert(F32), position)
    author.position, author.length = position, length
    state: list[Value] = []
    logits = author.model(ids, places, caches, state)
    aliases = [Alias(1 + k, value.name) for k, value in enumerate(caches)]
    return builder.build([logits, *state], aliases)


class _Author:
    """Writes one graph layer by layer."""

    def __init__(self, shape: DecoderShape, name: str) -> None:
        self.shape = shape
        self.builder = GraphBuilder(name)
        self.position: Value | None = None
        self.length = 0

    def add(self, op: ops.Op, *inputs: Value) -> Value:
        return self.builder.add(op, *inputs)

    def weight(self, name: str, *shape: int) -> Value:
        return self.builder.parameter(name, shape, self.shape.dtype)

    def model(
        self, ids: Value, places: Value, caches: list[Value] | None, state: list[Value]
    ) -> Value:
        """Logits [batch, 1, vocabulary] of the last token; appends keys and values to ``state``."""
        s = self.shape
        table = self.weight("model.embed_tokens.weight", s.vocabulary, s.hidden)
        x = self.add(ops.Gather(), table, ids)
        angles = self._angles(places)
        for layer in range(s.layers):
            self.builder.scope = f"model.layers.{layer}"
            held = None if caches is None else (caches[2 * layer], caches[2 * layer + 1])
            x = self._layer(x, angles, held, state)
        self.builder.scope = "model.norm"
        x = self._last(x)
        x = self.add(ops.RmsNorm(s.epsilon), x, self.weight("model.norm.weight", s.hidden))
        self.builder.scope = "lm_head"
        head = table if s.tied else self.weight("lm_head.weight", s.vocabulary, s.hidden)
        return self.add(ops.Linear(), x, head)

    def _last(self, x: Value) -> Value:
        batch, tokens, hidden = x.shape
        if tokens == 1:
            return x
        start, limit = (0, tokens - 1, 0), (batch, tokens, hidden)
        return self.add(ops.Slice(start, limit, (1, 1, 1)), x)

    def _angles(self, places: Value) -> tuple[Value, Value]:
        """Cosines and sines [tokens, head_width] of the rotary positions."""
        half = self.shape.head_width // 2
        steps = self.shape.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
        if self.shape.rope_scaling is not None:
            steps = self.shape.rope_scaling.rates(steps)
        rates = self.add(ops.Constant.of(steps.astype(np.float32)))
        shape = (places.shape[0], half)
        angle = self.add(
            ops.Multiply(),
            self.add(ops.BroadcastInDim(shape, (0,)), places),
            self.add(ops.BroadcastInDim(shape, (1,)), rates),
        )
        both = self.add(ops.Concatenate(1), angle, angle)
        parts = (self.add(op, both) for op in (ops.Cosine(), ops.Sine()))
        cosine, sine = (self.add(ops.Convert(self.shape.dtype), part) for part in parts)
        return cosine, sine

    def _layer(
        self, x: Value, angles: tuple[Value, Value], held: tuple[Value, Value] | None,
        state: list[Value],
    ) -> Value:  # fmt: skip
        s, scope = self.shape, self.builder.scope
        name = f"{scope}.input_layernorm.weight"
        normal = self.add(ops.RmsNorm(s.epsilon), x, self.weight(name, s.hidden))
        x = self.add(ops.Add(), x, self._attention(normal, angles, held, state))
        name = f"{scope}.post_attention_layernorm.weight"
        normal = self.add(ops.RmsNorm(s.epsilon), x, self.weight(name, s.hidden))
        mixed = self._mlp(normal) if s.experts is None else self._experts(normal, s.experts)
        return self.add(ops.Add(), x, mixed)

    def _heads(self, x: Value, name: str, heads: int) -> Value:
        """[batch, heads, tokens, head_width]."""
        s, scope = self.shape, self.builder.scope
        path = f"{scope}.self_attn.{name}_proj"
        parts = [self.weight(f"{path}.weight", heads * s.head_width, s.hidden)]
        if s.qkv_bias:
            parts.append(self.weight(f"{path}.bias", heads * s.head_width))
        rows = self.add(ops.Linear(), x, *parts)
        apart = self.add(ops.Reshape((*x.shape[:2], heads, s.head_width)), rows)
        if s.qk_norm and name in ("q", "k"):
            weight = self.weight(f"{scope}.self_attn.{name}_norm.weight", s.head_width)
            apart = self.add(ops.RmsNorm(s.epsilon), apart, weight)
        return self.add(ops.Transpose(HEADS_FIRST), apart)

    def _rotated(self, x: Value, angles: tuple[Value, Value]) -> Value:
        half = self.shape.head_width // 2
        lead = x.shape[:-1]
        ones = (1,) * len(x.shape)
        low = self.add(ops.Slice((0, 0, 0, 0), (*lead, half), ones), x)
        high = self.add(ops.Slice((0, 0, 0, half), (*lead, 2 * half), ones), x)
        turned = self.add(ops.Concatenate(3), self.add(ops.Negate(), high), low)
        cosine, sine = (self.add(ops.BroadcastInDim(x.shape, (2, 3)), a) for a in angles)
        kept = self.add(ops.Multiply(), x, cosine)
        return self.add(ops.Add(), kept, self.add(ops.Multiply(), turned, sine))

    def _attention(
        self, x: Value, angles: tuple[Value, Value], held: tuple[Value, Value] | None,
        state: list[Value],
    ) -> Value:  # fmt: skip
        s, scope = self.shape, self.builder.scope
        q = self._rotated(self._heads(x, "q", s.heads), angles)
        k = self._rotated(self._heads(x, "k", s.kv_heads), angles)
        v = self._heads(x, "v", s.kv_heads)
        scale = 1.0 / math.sqrt(s.head_width)
        if held is None:
            op = ops.Attention(scale, s.heads, s.kv_heads, causal=True, window=self._window(x))
            mixed = self.add(op, q, k, v)
        else:
            k, v = (self._written(old, new) for old, new in zip(held, (k, v), strict=True))
            mixed = self.add(ops.Attention(scale, s.heads, s.kv_heads), q, k, v, self._seen())
        state.extend((k, v))
        joined = self.add(ops.Transpose(HEADS_FIRST), mixed)
        rows = self.add(ops.Reshape((*x.shape[:2], s.heads * s.head_width)), joined)
        name = f"{scope}.self_attn.o_proj.weight"
        return self.add(ops.Linear(), rows, self.weight(name, s.hidden, s.heads * s.head_width))

    def _window(self, x: Value) -> int:
        """The sliding window, if the prompt is longer than it; 0 for none."""
        window = self.shape.window
        return window if window is not None and window < x.shape[1] else 0

    def _written(self, cache: Value, new: Value) -> Value:
        assert self.position is not None
        zero = self.add(ops.Constant.splat(0, (1,), INDEX))
        where = self.add(ops.Concatenate(0), zero, zero, self.position, zero)
        return self.add(ops.DynamicUpdateSlice(), cache, new, where)

    def _seen(self) -> Value:
        """True for the positions of the cache that hold keys: [1, 1, 1, length]."""
        assert self.position is not None
        shape = (1, 1, 1, self.length)
        place = self.add(ops.Iota(shape, INDEX, 3))
        now = self.add(ops.BroadcastInDim(shape, (0,)), self.position)
        seen = self.add(ops.Compare("le"), place, now)
        window = self.shape.window
        if window is None or window >= self.length:
            return seen
        far = self.add(ops.Subtract(), now, self.add(ops.Constant.splat(window, shape, INDEX)))
        return self.add(ops.And(), seen, self.add(ops.Compare("gt"), place, far))

    def _mlp(self, x: Value) -> Value:
        s, path = self.shape, f"{self.builder.scope}.mlp"
        gate = self.add(ops.Linear(), x, self.weight(f"{path}.gate_proj.weight", s.mlp_width,
                                                     s.hidden))  # fmt: skip
        up = self.add(ops.Linear(), x, self.weight(f"{path}.up_proj.weight", s.mlp_width,
                                                   s.hidden))  # fmt: skip
        inner = self.add(ops.Multiply(), self.add(ops.Silu(), gate), up)
        down = self.weight(f"{path}.down_proj.weight", s.hidden, s.mlp_width)
        return self.add(ops.Linear(), inner, down)

    def _experts(self, x: Value, experts: Experts) -> Value:
        s = self.shape
        path = f"{self.builder.scope}.{experts.block}"
        batch, tokens, hidden = x.shape
        count, chosen, width = batch * tokens, experts.chosen, experts.width
        flat = self.add(ops.Reshape((count, hidden)), x)
        router = self.weight(f"{path}.gate.weight", experts.count, hidden)
        logits = self.add(ops.Convert(F32), self.add(ops.Linear(), flat, router))
        best, index = self.builder.emit(ops.TopK(chosen, INDEX), self.add(ops.Softmax(), logits))
        if experts.normalised:
            total = self.add(ops.Reduce("add", (1,)), best)
            spread = self.add(ops.BroadcastInDim(best.shape, (0,)), total)
            best = self.add(ops.Divide(), best, spread)
        shape = (count, chosen, hidden)
        rows = self.add(ops.BroadcastInDim(shape, (0, 2)), flat)
        rows = self.add(ops.Reshape((count * chosen, hidden)), rows)
        places = self.add(ops.Reshape((count * chosen,)), index)
        first = self.weight(f"{path}.experts.gate_up_proj", experts.count, 2 * width, hidden)
        both = self.add(ops.ExpertLinear("nk"), rows, first, places)
        size = (count * chosen, 2 * width)
        gate = self.add(ops.Slice((0, 0), (size[0], width), (1, 1)), both)
        up = self.add(ops.Slice((0, width), size, (1, 1)), both)
        inner = self.add(ops.Multiply(), self.add(ops.Silu(), gate), up)
        second = self.weight(f"{path}.experts.down_proj", experts.count, hidden, width)
        done = self.add(ops.ExpertLinear("nk"), inner, second, places)
        share = self.add(ops.Convert(s.dtype), self.add(ops.Reshape((count * chosen,)), best))
        weighted = self.add(ops.Multiply(), done,
                            self.add(ops.BroadcastInDim(done.shape, (0,)), share))  # fmt: skip
        total = self.add(ops.Reduce("add", (1,)), self.add(ops.Reshape(shape), weighted))
        return self.add(ops.Reshape((batch, tokens, hidden)), total)


__all__ = ["DecoderShape", "Experts", "RopeScaling", "decode_graph", "prefill_graph"]
