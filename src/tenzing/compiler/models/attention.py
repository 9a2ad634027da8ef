"""Self-attention of a transformer: heads that share keys, and DeepSeek's latent keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import Array, Value
from tenzing.compiler.models.author import Author
from tenzing.compiler.models.blocks import Norm
from tenzing.compiler.models.positions import Bias, Rope

TOKEN_DIM: Final = 2
WIDTH_DIM: Final = 3
JOINED: Final = "joined"  # all queries, then all keys, then all values in one weight
GROUPED: Final = "grouped"  # for every key head its queries, its key, its value
Three = tuple[Value, Value, Value]


@dataclass(frozen=True)
class Heads:
    """Attention in which ``heads`` queries share ``kv_heads`` keys and values of one width.

    ``names``: projections of q, k, v and the output, or one joined or grouped projection and the
    output. A ``window`` counts the visible keys; ``sinks`` is the name of a learned score per head
    that takes its share of the softmax and gives nothing.
    """

    heads: int
    kv_heads: int
    width: int
    scale: float
    names: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                              "self_attn.o_proj")  # fmt: skip
    layout: str = ""
    biases: tuple[bool, ...] = (False, False, False, False)  # of q, k, v and the output
    turned: bool = False
    norm: Norm | None = None
    norm_names: tuple[str, str] = ("self_attn.q_norm", "self_attn.k_norm")
    rope: Rope | None = None
    bias: Bias | None = None
    causal: bool = True
    window: int = 0
    soft_cap: float = 0.0
    sinks: str = ""

    def write(self, author: Author, x: Value) -> Value:
        """[batch, tokens, hidden]; appends keys and values to the author's state."""
        q, k, v = self._projected(author, x)
        if self.norm is not None:
            q, k = (self.norm.write(author, part, name)
                    for part, name in zip((q, k), self.norm_names, strict=True))  # fmt: skip
        if self.rope is not None:
            q, k = self.rope.turned(author, q), self.rope.turned(author, k)
        mixed = self._mixed_over_sinks(author, q, k, v) if self.sinks else self._mixed(
            author, q, author.cached(k), author.cached(v))  # fmt: skip
        return author.linear(author.joined(mixed), self.names[-1], x.shape[-1],
                             bias=self.biases[-1], turned=self.turned)  # fmt: skip

    def _projected(self, author: Author, x: Value) -> Three:
        counts = (self.heads, self.kv_heads, self.kv_heads)
        if not self.layout:
            q, k, v = (
                author.heads(author.linear(x, name, count * self.width, bias=bias), count)
                for name, count, bias in zip(self.names, counts, self.biases, strict=False)
            )
            return q, k, v
        both = author.linear(x, self.names[0], sum(counts) * self.width, bias=self.biases[0],
                             turned=self.turned)  # fmt: skip
        if self.layout == JOINED:
            edges = [n * self.width for n in np.cumsum((0, *counts))]
            q, k, v = (
                author.heads(author.part(both, 2, edges[n], edges[n + 1]), count)
                for n, count in enumerate(counts)
            )
            return q, k, v
        return self._ungrouped(author, both)

    def _ungrouped(self, author: Author, both: Value) -> Three:
        share = self.heads // self.kv_heads
        lead = both.shape[:2]
        groups = author.add(ops.Reshape((*lead, self.kv_heads, share + 2, self.width)), both)
        edges = (0, share, share + 1, share + 2)
        parts = []
        for n, count in enumerate((self.heads, self.kv_heads, self.kv_heads)):
            some = author.part(groups, WIDTH_DIM, edges[n], edges[n + 1])
            flat = author.add(ops.Reshape((*lead, count * self.width)), some)
            parts.append(author.heads(flat, count))
        return parts[0], parts[1], parts[2]

    def _mixed(self, author: Author, q: Value, k: Value, v: Value) -> Value:
        masks = []
        if self.bias is not None:
            bias, tokens = self.bias, q.shape[TOKEN_DIM]
            masks = list(author.once(bias, lambda: (bias.bias(author, self.heads, tokens),)))
        if author.position is not None:
            seen = author.seen(self.window)
            masks = [_hidden(author, masks[0], seen)] if masks else [seen]
            op = ops.Attention(self.scale, self.heads, self.kv_heads, soft_cap=self.soft_cap)
        else:
            op = ops.Attention(self.scale, self.heads, self.kv_heads, causal=self.causal,
                               window=self._reach(k), soft_cap=self.soft_cap)  # fmt: skip
        return author.add(op, q, k, v, *masks)

    def _reach(self, k: Value) -> int:
        """The window where it hides anything; 0 for none."""
        return self.window if self.window < k.shape[TOKEN_DIM] else 0

    def _mixed_over_sinks(self, author: Author, q: Value, k: Value, v: Value) -> Value:
        """A row of zeros ahead of keys and values stands for the sink.

        In a decode step the mask gives its score; in a prompt one more column of q and k does.
        """
        sink = author.weight(self.sinks, self.heads)
        if author.position is not None:
            k, v = author.cached(k, 1), author.cached(v, 1)
            score = author.along((1, self.heads, 1, k.shape[2]), (1,), sink)
            place = author.add(ops.Iota(score.shape, np.dtype(np.int32), WIDTH_DIM))
            first = author.add(ops.Compare("eq"), place, author.splat(0, place))
            bias = author.add(ops.Select(), first, score, author.splat(0.0, score))
            mask = _hidden(author, bias, author.seen(self.window, 1))
            return author.add(ops.Attention(self.scale, self.heads, self.kv_heads), q, k, v, mask)
        row = author.add(ops.Constant.splat(0.0, (*k.shape[:2], 1, self.width), k.dtype))
        k, v = (author.cached(author.add(ops.Concatenate(TOKEN_DIM), row, x)) for x in (k, v))
        flag = author.add(ops.Constant.of(_first_row(k.shape[:3]).astype(k.dtype)))
        score = author.along((*q.shape[:3], 1), (1,), author.scaled(sink, 1 / self.scale))
        k = author.add(ops.Concatenate(WIDTH_DIM), k, flag)
        q = author.add(ops.Concatenate(WIDTH_DIM), q, score)
        op = ops.Attention(self.scale, self.heads, self.kv_heads, causal=True, offset=1)
        masks = []
        if self._reach(k) and self.window < q.shape[TOKEN_DIM]:
            band = replace(op, window=self.window).band(q.shape[2], k.shape[2])
            band[:, 0] = True
            masks.append(author.add(ops.Constant.of(band[None, None])))
        return author.add(op, q, k, v, *masks)

    @property
    def cache_types(self) -> tuple[tuple[int, int, int], ...]:
        """Heads, rows ahead of the tokens and width of each cache."""
        return ((self.kv_heads, bool(self.sinks), self.width),) * 2


def _first_row(shape: tuple[int, ...]) -> Array:
    flag = np.zeros((*shape, 1), np.float32)
    flag[:, :, 0] = 1
    return flag


def _hidden(author: Author, bias: Value, seen: Value) -> Value:
    """A bias with minus infinity where nothing is to be seen."""
    whole = author.along(bias.shape, (0, 1, 2, 3), seen)
    return author.add(ops.Select(), whole, bias, author.splat(-np.inf, bias))


@dataclass(frozen=True)
class Latent:
    """DeepSeek's multi-head latent attention: one narrow row per token stands for all keys.

    Keys have ``plain`` dims from the latent and ``rope.width`` rotary dims shared by all heads. A
    prompt expands the latents to keys and values; a decode step moves the expansion to the queries
    and outputs, so that all heads read one key head of latents.
    """

    heads: int
    query_rank: int
    rank: int
    plain: int
    value: int
    rope: Rope
    scale: float
    norm: Norm
    bias: bool = False

    @property
    def kv_heads(self) -> int:
        """Key heads that the cache holds."""
        return 1

    @property
    def width(self) -> int:
        """Of a query or key."""
        return self.plain + self.rope.width

    def write(self, author: Author, x: Value) -> Value:
        """[batch, tokens, hidden]; appends latents with their rotary part to the state."""
        q = self._queries(author, x)
        joint = author.linear(x, "self_attn.kv_a_proj_with_mqa", self.rank + self.rope.width,
                              bias=self.bias)  # fmt: skip
        latent = self.norm.write(author, author.part(joint, 2, 0, self.rank),
                                 "self_attn.kv_a_layernorm")  # fmt: skip
        turning = author.heads(author.part(joint, 2, self.rank, joint.shape[2]), 1)
        turning = self.rope.turned(author, turning)
        row = author.add(ops.Concatenate(WIDTH_DIM), author.heads(latent, 1), turning)
        held = author.cached(row)
        mixed = (
            self._expanded(author, q, latent, turning)
            if author.position is None
            else self._absorbed(author, q, held)
        )
        return author.linear(author.joined(mixed), "self_attn.o_proj", x.shape[-1], bias=self.bias)

    def _queries(self, author: Author, x: Value) -> Value:
        """[batch, heads, tokens, width], plain dims first."""
        name, wide = "self_attn.q_proj", self.heads * self.width
        if self.query_rank:
            x = author.linear(x, "self_attn.q_a_proj", self.query_rank, bias=self.bias)
            x = self.norm.write(author, x, "self_attn.q_a_layernorm")
            name = "self_attn.q_b_proj"
        q = author.heads(author.linear(x, name, wide), self.heads)
        turning = self.rope.turned(author, author.part(q, WIDTH_DIM, self.plain, self.width))
        return author.add(ops.Concatenate(WIDTH_DIM),
                          author.part(q, WIDTH_DIM, 0, self.plain), turning)  # fmt: skip

    def _expanded(self, author: Author, q: Value, latent: Value, turning: Value) -> Value:
        wide = self.plain + self.value
        both = author.heads(author.linear(latent, "self_attn.kv_b_proj", self.heads * wide),
                            self.heads)  # fmt: skip
        lead = both.shape[:3]
        shared = author.along((*lead, self.rope.width), (0, 1, 2, 3), turning)
        plain = author.part(both, WIDTH_DIM, 0, self.plain)
        k = author.add(ops.Concatenate(WIDTH_DIM), plain, shared)
        v = author.part(both, WIDTH_DIM, self.plain, wide)
        op = ops.Attention(self.scale, self.heads, self.heads, causal=True)
        return author.add(op, q, k, v)

    def _absorbed(self, author: Author, q: Value, held: Value) -> Value:
        wide = self.plain + self.value
        weight = author.weight("self_attn.kv_b_proj.weight", self.heads * wide, self.rank)
        apart = author.add(ops.Reshape((self.heads, wide, self.rank)), weight)
        keys, values = (author.part(apart, 1, *span) for span in ((0, self.plain),
                                                                  (self.plain, wide)))  # fmt: skip
        into = ops.DotGeneral(((1,), (0,)), ((3,), (1,)))  # [heads, batch, tokens, rank]
        moved = author.add(into, author.part(q, WIDTH_DIM, 0, self.plain), keys)
        moved = author.add(ops.Transpose((1, 0, 2, 3)), moved)
        turning = author.part(q, WIDTH_DIM, self.plain, self.width)
        wider = author.add(ops.Concatenate(WIDTH_DIM), moved, turning)
        v = author.part(held, WIDTH_DIM, 0, self.rank)
        op = ops.Attention(self.scale, self.heads, 1)
        mixed = author.add(op, wider, held, v, author.seen(0))
        out = ops.DotGeneral(((1,), (0,)), ((3,), (2,)))  # [heads, batch, tokens, value]
        return author.add(ops.Transpose((1, 0, 2, 3)), author.add(out, mixed, values))

    @property
    def cache_types(self) -> tuple[tuple[int, int, int], ...]:
        """Heads, rows ahead of the tokens and width of each cache."""
        return ((1, 0, self.rank + self.rope.width),)


__all__ = ["GROUPED", "JOINED", "Heads", "Latent"]
