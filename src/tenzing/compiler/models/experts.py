"""Mixtures of experts: how tokens choose, and what the chosen compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Value
from tenzing.compiler.models.author import INDEX, Author
from tenzing.compiler.models.blocks import Mlp, activated

BEST_OF_GROUP: Final = 2  # scores that stand for a group of DeepSeek-V3
TINY: Final = 1e-20  # DeepSeek-V3 adds it to a sum of scores


@dataclass(frozen=True)
class Router:
    """Chooses ``chosen`` of ``count`` experts for every token, and their shares.

    ``score``: ``softmax`` over all, over the ``chosen``, or ``sigmoid``. With ``groups`` only
    experts of the ``kept`` best groups can be chosen. ``corrected``: a learned number is added to
    scores while choosing.
    """

    count: int
    chosen: int
    name: str = "mlp.gate"
    score: str = "softmax"
    normalised: bool = True
    scale: float = 1.0
    bias: bool = False
    groups: int = 1
    kept: int = 1
    corrected: bool = False

    def write(self, author: Author, x: Value) -> tuple[Value, Value]:
        """Shares (float32) and expert numbers, both [tokens, chosen], for x [tokens, hidden]."""
        logits = author.linear(x, self.name, self.count, bias=self.bias)
        scores = author.add(ops.Convert(F32), logits)
        if self.score == "chosen":
            best, index = author.builder.emit(ops.TopK(self.chosen, INDEX), scores)
            return author.add(ops.Softmax(), best), index
        bend: ops.Op = ops.Softmax() if self.score == "softmax" else ops.Logistic()
        scores = author.add(bend, scores)
        best, index = self._best(author, scores)
        if self.normalised:
            total = author.add(ops.Reduce("add", (1,)), best)
            if self.score == "sigmoid":
                total = author.add(ops.Add(), total, author.splat(TINY, total))
            best = author.add(ops.Divide(), best, author.along(best.shape, (0,), total))
        return author.scaled(best, self.scale), index

    def _best(self, author: Author, scores: Value) -> tuple[Value, Value]:
        ranked = scores
        if self.corrected:
            fix = author.weight(f"{self.name}.e_score_correction_bias", self.count)
            fix = author.add(ops.Convert(F32), fix)
            ranked = author.add(ops.Add(), scores, author.along(scores.shape, (1,), fix))
        if self.groups > 1:
            ranked = self._of_best_groups(author, ranked)
        best, index = author.builder.emit(ops.TopK(self.chosen, INDEX), ranked)
        if self.corrected:
            best = author.add(ops.TakeAlong(1), scores, index)
        return best, index

    def _of_best_groups(self, author: Author, scores: Value) -> Value:
        tokens = scores.shape[0]
        apart = author.add(ops.Reshape((tokens, self.groups, self.count // self.groups)), scores)
        if self.corrected:
            best, _ = author.builder.emit(ops.TopK(BEST_OF_GROUP, INDEX), apart)
            worth = author.add(ops.Reduce("add", (2,)), best)
        else:
            worth = author.add(ops.Reduce("maximum", (2,)), apart)
        first, _ = author.builder.emit(ops.TopK(self.kept, INDEX), worth)
        least = author.part(first, 1, self.kept - 1, self.kept)
        bar = author.along(worth.shape, (0, 1), least)
        open_ = author.add(ops.Compare("ge"), worth, bar)
        mask = author.along(apart.shape, (0, 1), open_)
        shut = author.splat(-np.inf if self.corrected else 0.0, apart)
        return author.add(ops.Reshape(scores.shape), author.add(ops.Select(), mask, apart, shut))


@dataclass(frozen=True)
class Experts:
    """A gated MLP for every chosen expert, weighted and summed, and perhaps one for all tokens.

    Weights are stacks: gate and up joined, then down; [out, in] or ``turned``. With ``limit``,
    GPT-OSS's gate: columns alternate, both sides are clamped, silu has the slope ``alpha``.
    """

    router: Router
    width: int
    name: str = "mlp.experts"
    turned: bool = False
    bias: bool = False
    activation: str = "silu"
    limit: float = 0.0
    alpha: float = 1.0
    shared: Mlp | None = None
    shared_gate: str = ""

    def write(self, author: Author, x: Value) -> Value:
        """[batch, tokens, hidden]."""
        batch, tokens, hidden = x.shape
        count, chosen = batch * tokens, self.router.chosen
        flat = author.add(ops.Reshape((count, hidden)), x)
        shares, index = self.router.write(author, flat)
        rows = author.along((count, chosen, hidden), (0, 2), flat)
        rows = author.add(ops.Reshape((count * chosen, hidden)), rows)
        places = author.add(ops.Reshape((count * chosen,)), index)
        inner = self._gated(author, self._product(author, rows, places, "gate_up_proj",
                                                  2 * self.width))  # fmt: skip
        done = self._product(author, inner, places, "down_proj", hidden)
        share = author.add(ops.Reshape((count * chosen,)), shares)
        if author.dtype != F32:
            share = author.add(ops.Convert(author.dtype), share)
        weighted = author.add(ops.Multiply(), done, author.along(done.shape, (0,), share))
        apart = author.add(ops.Reshape((count, chosen, hidden)), weighted)
        total = author.add(ops.Reduce("add", (1,)), apart)
        out = author.add(ops.Reshape(x.shape), total)
        return out if self.shared is None else author.add(ops.Add(), out, self._common(author, x))

    def _common(self, author: Author, x: Value) -> Value:
        assert self.shared is not None
        out = self.shared.write(author, x)
        if not self.shared_gate:
            return out
        gate = author.add(ops.Logistic(), author.linear(x, self.shared_gate, 1))
        return author.add(ops.Multiply(), out, author.along(out.shape, (0, 1, 2), gate))

    def _product(self, author: Author, x: Value, places: Value, name: str, width: int) -> Value:
        depth, count = x.shape[1], self.router.count
        shape = (count, depth, width) if self.turned else (count, width, depth)
        stack = author.weight(f"{self.name}.{name}", *shape)
        out = author.add(ops.ExpertLinear("kn" if self.turned else "nk"), x, stack, places)
        if not self.bias:
            return out
        table = author.weight(f"{self.name}.{name}_bias", count, width)
        return author.add(ops.Add(), out, author.add(ops.Gather(), table, places))

    def _gated(self, author: Author, both: Value) -> Value:
        whole = both.shape[1]
        if not self.limit:
            gate, up = (author.part(both, 1, k * self.width, (k + 1) * self.width) for k in (0, 1))
            return author.add(ops.Multiply(), activated(author, self.activation, gate), up)
        gate, up = (author.part(both, 1, k, whole, 2) for k in (0, 1))
        top = author.splat(self.limit, gate)
        gate = author.add(ops.Minimum(), gate, top)
        up = author.add(ops.Maximum(), author.add(ops.Minimum(), up, top),
                        author.splat(-self.limit, up))  # fmt: skip
        slope = author.add(ops.Logistic(), author.scaled(gate, self.alpha))
        bent = author.add(ops.Multiply(), gate, slope)
        return author.add(ops.Multiply(), author.add(ops.Add(), up, author.splat(1.0, up)), bent)


__all__ = ["Experts", "Router"]
