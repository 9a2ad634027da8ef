"""Gradients of built models: PyTorch's, and those of the whole model on the ranks of a mesh."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenzing.compiler.differentiation import GRADIENT, Backward, with_gradients
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder
from tenzing.compiler.models import build, llama, training_times, transformer_of
from tenzing.compiler.models.training import head_graph, update_graph
from tenzing.compiler.ops import ArgMax, Attention, Slice
from tenzing.compiler.passes import recognise, shard
from tenzing.compiler.passes.sharding import Sharded, Split
from tenzing.compiler.ranks import run_ranks
from tenzing.compiler.reference import run
from tenzing.compiler.timing import time_graph
from tenzing.errors import UnsupportedOp
from tenzing.fabric import Mesh

from .test_decoder import arrays_of, decoder, encoder, relative, settings_of

CASES = ["llama", "llama_biased", "mistral", "qwen3", "gemma", "gpt2", "gpt_neox", "phi3"]


def by_name(graph: Graph, found: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Gradients of the float inputs and parameters, which follow the result in their order."""
    outer = [v for v in (*graph.inputs, *graph.parameters)
             if v.dtype.kind == "f" and not v.name.endswith(GRADIENT)]  # fmt: skip
    return {v.name: a for v, a in zip(outer, found[1:], strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_a_decoder_has_pytorch_s_gradients(case: str) -> None:
    torch = pytest.importorskip("torch")
    model = decoder(case)
    ids = torch.randint(3, 96, (2, 8), generator=torch.Generator().manual_seed(1))
    graph = with_gradients(build(transformer_of(settings_of(model)), "prefill", 2, 8, caches=False))
    logits = model(ids).logits[:, -1:]
    onto = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * onto).sum().backward()
    found = run(graph, [ids.numpy().astype(np.int32), onto.numpy()], arrays_of(model))
    wanted = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    gradients = by_name(graph, found)
    assert gradients
    for name, gradient in gradients.items():
        assert relative(gradient, wanted[name]) <= 2e-5, name


def test_an_encoder_has_pytorch_s_gradients() -> None:
    torch = pytest.importorskip("torch")
    model, given = encoder("bert")
    graph = with_gradients(build(settings_of(model), None, 2, 16))
    states = model(given).last_hidden_state
    onto = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
    (states * onto).sum().backward()
    found = run(graph, [given.numpy().astype(np.int32), onto.numpy()], arrays_of(model))
    wanted = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for name, gradient in by_name(graph, found).items():
        apart = np.abs(gradient - wanted[name]).max()  # keys' biases change nothing: zeros
        assert apart <= 2e-5 * max(np.abs(wanted[name]).max(), 1e-2), name


SIZES = (2, 64, 8, 4, 16, 96, 80)


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_ranks_find_the_gradients_of_the_whole(sequence: bool, tied: bool) -> None:
    """Sums over ranks stand where a rank sees a part: results are joined and compared."""
    shape = replace(llama(*SIZES, dtype=F32, qk_norm=True), tied=tied)
    graph = recognise(build(shape, "prefill", 2, 8, caches=False))
    whole = with_gradients(graph)
    random = np.random.default_rng(0)
    arrays = {v.name: (random.standard_normal(v.shape) * 0.3).astype(F32)
              if v.dtype.kind == "f" else random.integers(0, 80, v.shape, np.int32)
              for v in (*whole.inputs, *whole.parameters)}  # fmt: skip
    expected = by_name(whole, run(whole, [arrays[v.name] for v in whole.inputs], arrays))
    sharded = shard(graph, Mesh.of({"tp": 4}), sequence)
    ranked = with_gradients(sharded.graph, cut=sharded.cuts, mesh=sharded.mesh)
    outer = [v.name for v in (*sharded.graph.inputs, *sharded.graph.parameters)
             if v.dtype.kind == "f"]  # fmt: skip
    cuts = tuple(sharded.cuts.get(name, ()) for name in outer)
    joined = replace(sharded, graph=ranked, outputs=((), *cuts))
    _, *found = joined.joined(run_ranks(joined, arrays))
    for name, gradient in zip(outer, found, strict=True):
        assert relative(gradient, expected[name]) <= 2e-5, name


def test_sums_over_microbatches_and_recomputation() -> None:
    """With sums a gradient is added to; without the result its last product is not computed."""
    graph = build(llama(*SIZES, dtype=F32), "prefill", 1, 8, caches=False)
    plain, summed = with_gradients(graph), with_gradients(graph, Backward(False, True))
    random = np.random.default_rng(1)
    arrays = {v.name: (random.standard_normal(v.shape) * 0.3).astype(F32)
              if v.dtype.kind == "f" else random.integers(0, 80, v.shape, np.int32)
              for v in (*summed.inputs, *summed.parameters)}  # fmt: skip
    first = run(plain, [arrays[v.name] for v in plain.inputs], arrays)[1:]
    found = run(summed, [arrays[v.name] for v in summed.inputs], arrays)
    for v, one, other in zip(plain.parameters, first, found, strict=True):
        assert np.allclose(other, one + arrays[f"{v.name}{GRADIENT}"], atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes"), [(Attention(1.0, 1, 1, soft_cap=3.0), [(1, 1, 4, 8)] * 3),
                       (Slice((0,), (4,), (2,)), [(4,)]), (ArgMax(0, np.dtype(np.int32)), [(4,)])],
)  # fmt: skip
def test_what_has_no_gradient_is_named(op: Any, shapes: list[tuple[int, ...]]) -> None:
    builder = GraphBuilder("net")
    given = [builder.input(f"x{k}", shape, F32) for k, shape in enumerate(shapes)]
    out = builder.emit(op, *given)[0]
    with pytest.raises(UnsupportedOp, match="no gradient is known of"):
        with_gradients(builder.build([out]))


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_head_has_the_gradients_of_cross_entropy(ranks: int) -> None:
    """The mean over tokens of minus the logarithm of a share, whoever holds its column."""
    shape = llama(*SIZES, dtype=F32)
    mesh = Mesh.of({"tp": ranks})
    graph = head_graph(shape, 2, 8, mesh, accumulate=False)
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 8, 64)).astype(F32)
    weight, scale = (random.standard_normal(s).astype(F32) for s in ((80, 64), (64,)))
    labels = random.integers(0, 80, 16, np.int32)
    torch = pytest.importorskip("torch")
    given = [torch.tensor(a, requires_grad=True) for a in (x, scale, weight)]
    normal = torch.nn.functional.rms_norm(given[0], (64,), given[1], 1e-6)
    logits = (normal @ given[2].T).reshape(16, 80)
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long()).backward()
    arrays = {"stream": x, "labels": labels, "model.norm.weight": scale, "lm_head.weight": weight}
    split = (Split.of(0, 80, ranks),) if ranks > 1 else ()
    cuts = {"lm_head.weight": split}
    found = run_ranks(Sharded(graph, mesh, cuts), arrays)
    joined = Sharded(graph, mesh, cuts, ((), (), split)).joined(found)
    for gradient, wanted in zip(joined, given, strict=True):
        assert relative(gradient, wanted.grad.numpy()) <= 2e-5


def test_layers_that_are_alike_are_timed_once() -> None:
    shape = llama(6, 64, 8, 4, 16, 96, 80)
    other = replace(shape.layers[0], mlp=replace(shape.layers[0].mlp, width=128))
    shape = replace(shape, layers=(other, *shape.layers[1:]))
    said: list[str] = []
    times = training_times(shape, tokens=64, progress=said.append)
    assert [word for word in said if word.startswith("layer")] == [
        "layer 0 forward and backward", "layer 1 forward and backward"]  # fmt: skip
    assert len(times.layers) == 6
    assert times.head is not None
    whole = times.stage_ps(0, 1)
    assert whole == sum(times.stage_ps(k, 3) for k in range(3))
    assert whole > sum(t.total_ps for t in times.layers)


def test_kept_activations_cost_no_second_forward_pass() -> None:
    """Recomputed, a layer is its forward pass and the program that computes what it needs again."""
    shape = llama(1, 256, 8, 4, 32, 512, 80)
    again, kept = (training_times(shape, tokens=256, recompute=r).layers[0] for r in (True, False))
    assert kept.total_ps < again.total_ps < kept.total_ps + again.forward.total_ps
    assert again.total_ps > 3 * again.forward.total_ps


def test_an_update_moves_its_state() -> None:
    """At least 12 bytes of state and 4 of the gradient come, 12 and the weight go."""
    times = [time_graph(update_graph(n, BF16), "trn2") for n in (1 << 17, 1 << 18)]
    more = times[1].hbm_read_bytes - times[0].hbm_read_bytes
    assert more == 16 << 17
    assert times[1].hbm_write_bytes - times[0].hbm_write_bytes == 14 << 17
