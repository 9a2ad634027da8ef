"""The programs of a training step, piece by piece: each distinct layer once, its ends, the update.

A step runs every layer forward and backward for each microbatch, and the update once. Pieces are
timed alone, so the cost of an answer does not grow with the depth of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.differentiation import GRADIENT, Backward, cross_entropy, with_gradients
from tenzing.compiler.graph import F32, Alias, Graph, GraphBuilder, Value
from tenzing.compiler.models.author import Author
from tenzing.compiler.models.config import transformer_of
from tenzing.compiler.models.transformer import Layer, Tokens, Transformer
from tenzing.compiler.timing import GraphTime, time_graph, time_rank
from tenzing.fabric import Mesh

STREAM: Final = "stream"  # the residual stream ahead of a layer
BLOCK: Final = 1 << 21  # parameters of the smaller of two updates, whose difference is the rate
BLOCK_ROWS: Final = 1024
BETAS: Final = (0.9, 0.95)  # of AdamW; they do not matter to the time
EPSILON: Final = 1e-8
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerTime:
    """One microbatch through one layer of a rank: forward, and back with its gradients."""

    forward: GraphTime
    backward: GraphTime
    recomputed: bool

    @property
    def total_ps(self) -> int:
        """Both ways; what is not computed again is part of the backward program."""
        return self.backward.total_ps + (self.forward.total_ps if self.recomputed else 0)


@dataclass(frozen=True)
class TrainingTimes:
    """Times of one rank: of every layer, of what stands before and behind them, of the update.

    ``head``: last norm, logits and cross entropy, None for a model without a vocabulary.
    """

    layers: tuple[LayerTime, ...]
    embedding: GraphTime
    head: GraphTime | None
    update_ps_per_parameter: float

    @property
    def launch_ps(self) -> int:
        """Of one program."""
        return self.embedding.launch_ps

    def stage_ps(self, number: int, stages: int) -> int:
        """One microbatch, both ways, through one of ``stages`` with equal shares of the layers."""
        share = len(self.layers) // stages
        total = sum(t.total_ps for t in self.layers[number * share : (number + 1) * share])
        total += self.embedding.total_ps if number == 0 else 0
        last = number == stages - 1
        return total + (self.head.total_ps if last and self.head is not None else 0)


def training_times(
    model: str | Path | Mapping[str, Any] | Transformer, *, batch: int = 1, tokens: int = 2048,
    target: str = "trn2", mesh: Mapping[str, int] | None = None, recompute: bool = True,
    accumulate: bool = True, progress: Progress = lambda _: None,
) -> TrainingTimes:  # fmt: skip
    """Time the pieces of a step of ``batch`` sequences of ``tokens`` on a rank of ``mesh``.

    ``recompute`` keeps the stream between layers only and runs their forward pass again;
    ``accumulate`` adds gradients of several microbatches up. Layers that are alike are timed once.
    Raises UnsupportedOp for layers whose gradient is unknown, CapacityError for what does not fit.
    """
    shape = model if isinstance(model, Transformer) else transformer_of(model)
    known: dict[Layer, LayerTime] = {}
    for number, layer in enumerate(shape.layers):
        if layer not in known:
            progress(f"layer {number} forward and backward")
            graph = layer_graph(shape, number, batch, tokens)
            known[layer] = _layer(graph, target, mesh, Backward(not recompute, accumulate))
    progress("embedding, head and update")
    embedding = embedding_graph(shape, batch, tokens)
    learned = isinstance(shape.embedding, Tokens)
    return TrainingTimes(
        tuple(known[layer] for layer in shape.layers),
        time_graph(embedding, target, mesh=mesh, sequence_parallel=False,
                   backward=Backward(True, accumulate) if learned else None),
        _head(shape, batch, tokens, target, mesh, accumulate) if shape.head else None,
        _update_rate(target, shape.dtype),
    )  # fmt: skip


def _layer(graph: Graph, target: str, mesh: Mapping[str, int] | None, how: Backward) -> LayerTime:
    forward = time_graph(graph, target, mesh=mesh, streams=(STREAM,))
    back = time_graph(graph, target, mesh=mesh, streams=(STREAM,), backward=how,
                      sequence_parallel=forward.sequence_parallel)  # fmt: skip
    return LayerTime(forward, back, not how.result)


def layer_graph(model: Transformer, number: int, batch: int, tokens: int) -> Graph:
    """One layer of a prompt: the stream [batch, tokens, hidden] before and behind it."""
    author = Author(f"layer_{batch}x{tokens}", model.dtype, tokens)
    x = author.builder.input(STREAM, (batch, tokens, model.hidden), model.dtype)
    author.builder.scope = f"{model.stack}.{number}"
    return author.builder.build([model.layers[number].write(author, x)])


def embedding_graph(model: Transformer, batch: int, tokens: int) -> Graph:
    """What makes the first stream of token ids, or of pictures."""
    author = Author(f"embedding_{batch}x{tokens}", model.dtype, tokens)
    given = model.embedding.input(author, batch, tokens)
    return author.builder.build([model.embedding.write(author, given, model)])


def head_graph(
    model: Transformer, batch: int, tokens: int, mesh: Mesh, accumulate: bool = True
) -> Graph:
    """Last norm, logits of every token, cross entropy and all gradients, on a rank of ``mesh``.

    A rank has its part of the vocabulary, padded to equal parts.
    """
    part = math.ceil(model.vocabulary / mesh.ranks)
    local = replace(model, vocabulary=part)
    author = Author(f"head_{batch}x{tokens}", model.dtype, tokens)
    x = author.builder.input(STREAM, (batch, tokens, model.hidden), model.dtype)
    normal = x if model.norm is None else model.norm.write(author, x, model.norm_name)
    graph = author.builder.build([local.logits(author, normal)])
    cut = {v.name for v in graph.parameters if part in v.shape} if mesh.ranks > 1 else set()
    return with_gradients(graph, Backward(False, accumulate), cut=cut, mesh=mesh,
                          seed=cross_entropy(mesh.names, mesh.ranks))  # fmt: skip


def _head(
    model: Transformer, batch: int, tokens: int, target: str, mesh: Mapping[str, int] | None,
    accumulate: bool,
) -> GraphTime:  # fmt: skip
    ranks = Mesh.of(mesh)
    return time_rank(head_graph(model, batch, tokens, ranks, accumulate), target, mesh)


def update_graph(parameters: int, dtype: np.dtype[Any]) -> Graph:
    """AdamW on that many parameters, a multiple of 1024: float32 state, weights in ``dtype``."""
    builder = GraphBuilder(f"update_{parameters}")
    shape = (BLOCK_ROWS, parameters // BLOCK_ROWS)
    names = (f"weight{GRADIENT}", "weight.master", "weight.mean", "weight.square")
    gradient, master, mean, square = (builder.input(name, shape, F32) for name in names)

    def mixed(old: Value, new: Value, share: float) -> Value:
        parts = (_scaled(builder, old, share), _scaled(builder, new, 1 - share))
        return builder.add(ops.Add(), *parts)

    mean = mixed(mean, gradient, BETAS[0])
    square = mixed(square, builder.add(ops.Multiply(), gradient, gradient), BETAS[1])
    root = builder.add(ops.Sqrt(), square)
    size = builder.add(ops.Add(), root,
                       builder.add(ops.Constant.splat(EPSILON, shape, F32)))  # fmt: skip
    step = builder.add(ops.Divide(), mean, size)
    master = builder.add(ops.Subtract(), master, _scaled(builder, step, EPSILON))
    outputs = [master, mean, square]
    aliases = [Alias(k, name) for k, name in enumerate(names[1:])]
    if dtype != F32:
        outputs.append(builder.add(ops.Convert(dtype), master))
    return builder.build(outputs, aliases)


def _scaled(builder: GraphBuilder, x: Value, factor: float) -> Value:
    return builder.add(ops.Multiply(), x, builder.add(ops.Constant.splat(factor, x.shape, F32)))


def _update_rate(target: str, dtype: np.dtype[Any]) -> float:
    """Picoseconds per parameter, of many."""
    one, two = (time_graph(update_graph(n, dtype), target).total_ps for n in (BLOCK, 2 * BLOCK))
    return (two - one) / BLOCK


__all__ = ["STREAM", "LayerTime", "TrainingTimes", "embedding_graph", "head_graph", "layer_graph",
           "training_times", "update_graph"]  # fmt: skip
