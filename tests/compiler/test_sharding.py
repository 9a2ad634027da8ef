"""A model split over ranks computes what the whole one does, and each rank holds its share."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenzing import compiler, facts
from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Graph, GraphBuilder
from tenzing.compiler.models import (
    Experts,
    Router,
    Transformer,
    decode_graph,
    decoder_times,
    llama,
    prefill_graph,
)
from tenzing.compiler.passes import shard
from tenzing.compiler.passes.sharding import Section, Split
from tenzing.compiler.printer import to_text
from tenzing.compiler.ranks import Ranks, run_ranks
from tenzing.compiler.reference import run
from tenzing.compiler.timing import _collective_ps, time_graph
from tenzing.compiler.verify import verify
from tenzing.errors import TenzingError, UsageError
from tenzing.fabric import Collective, Mesh, collective_ps

from . import zoo

SIZES = (2, 64, 8, 4, 16, 96, 80)
SHAPE = llama(*SIZES, dtype=F32)
SHAPES = {
    "uneven": llama(2, 64, 6, 6, 16, 90, 77, dtype=F32),
    "tied": replace(SHAPE, tied=True),
    "dense": SHAPE,
    "biased": llama(*SIZES, qkv_bias=True, qk_norm=True, dtype=F32),
    "experts": llama(*SIZES, experts=Experts(Router(4, 2), 32), dtype=F32),
    "few_key_heads": llama(2, 64, 8, 2, 16, 96, 80, dtype=F32),
}


def tp(ranks: int) -> Mesh:
    return Mesh.of({"tp": ranks})


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {}
    for value in (*graph.inputs, *graph.parameters):
        if value.dtype.kind == "i":
            found[value.name] = random.integers(0, 12, value.shape).astype(np.int32)
        else:
            found[value.name] = (random.standard_normal(value.shape) * 0.3).astype(np.float32)
    return found


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_ranks_compute_what_one_core_does(phase: str, name: str, ranks: int) -> None:
    shape = SHAPES[name]
    graph = prefill_graph(shape, 2, 6) if phase == "prefill" else decode_graph(shape, 2, 12)
    given = arrays(graph)
    expected = run(graph, [given[v.name] for v in graph.inputs], given)
    sharded = shard(graph, tp(ranks))
    verify(sharded.graph)
    found = run_ranks(sharded, given)
    for rank, results in enumerate(found):
        for got, whole, splits in zip(results, expected, sharded.outputs, strict=True):
            part = splits[0].take(whole, rank, ranks) if splits else whole
            np.testing.assert_allclose(got, part, atol=1e-5 * np.abs(whole).max())
    for got, whole in zip(sharded.joined(found), expected, strict=True):
        np.testing.assert_allclose(got, whole, atol=1e-5 * np.abs(whole).max())
    heads = (
        -(-shape.heads // ranks) * shape.layers[0].attention.width
    )  # whole heads, padded if need be
    assert sharded.arrays(given, 0)["model.layers.0.self_attn.q_proj.weight"].shape[0] == heads
    rows = -(-shape.vocabulary // ranks)
    assert sharded.arrays(given, 0)["model.embed_tokens.weight"].shape[0] == rows
    assert sharded.graph.count()["all_gather"] == 1  # logits alone


def test_instructions_on_two_simulated_cores() -> None:
    graph = prefill_graph(SHAPE, 1, 5, caches=False)
    given = arrays(graph)
    (expected,) = run(graph, [given[v.name] for v in graph.inputs], given)
    for results in run_ranks(shard(graph, tp(2)), given, numerics="instruction"):
        np.testing.assert_allclose(results[0], expected, atol=1e-4 * np.abs(expected).max())


def test_sharded(golden: Any) -> None:
    golden(to_text(shard(decode_graph(llama(1, *SIZES[1:], dtype=F32), 1, 8), tp(4)).graph))


FAST = ("llama", "mixtral", "gpt2")


@pytest.mark.torch
@pytest.mark.parametrize("name", [
    pytest.param(n, marks=() if n in FAST else pytest.mark.slow)
    for n in ("llama", "qwen2", "qwen3", "mistral", "mixtral", "qwen3moe", "gemma3", "phi3",
              "gpt2", "bert")
])  # fmt: skip
@pytest.mark.parametrize("ranks", [2, 4])
def test_models_of_transformers(name: str, ranks: int) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    module, inputs = zoo.HF_20[name]()
    with torch.no_grad():
        expected = module(*inputs)[0].numpy()
    mesh = {"tp": ranks}
    compiled = compiler.compile(module, inputs, numerics="graph", mesh=mesh)
    assert compiled.sharded.graph.count()["all_reduce"] >= 2
    got = compiled(*inputs)[0].numpy()
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-5


def test_split_takes_sections_and_shared_parts() -> None:
    array = np.arange(12)
    two = Split(0, (Section(4, 2), Section(8, 2)))
    assert two.take(array, 1, 2).tolist() == [2, 3, 8, 9, 10, 11]
    assert [Split.of(0, 12, 2).take(array, r, 4)[0] for r in range(4)] == [0, 0, 6, 6]


def test_more_ranks_are_faster_and_hold_less() -> None:
    shape = llama(6, 512, 8, 8, 64, 1536, 1000)
    one, four = (decoder_times(shape, lengths=[64], mesh={"tp": r}).decode[64] for r in (1, 4))
    assert four.hbm_bytes < one.hbm_bytes / 2
    assert one.collective_ps == 0 < four.collective_ps < four.total_ps


@pytest.mark.parametrize(("shape", "ranks", "message"), [
    (SHAPE, 3, "q_proj.weight has 8 heads"),
    (llama(2, 64, 6, 2, 16, 96, 80, dtype=F32), 4, "key heads"),
    (SHAPE, 0, "1 or more"),
])  # fmt: skip
def test_what_cannot_be_split_is_named(shape: Transformer, ranks: int, message: str) -> None:
    with pytest.raises(TenzingError, match=message):
        shard(prefill_graph(shape, 1, 4), tp(ranks))


@pytest.mark.torch
@pytest.mark.parametrize("mesh", [{"tp": 0}, {"dp": 2}, {"tp": "2"}, {"tp": 2, "pp": 2}])
def test_other_meshes_are_refused(mesh: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="mesh"):
        compiler.compile(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), mesh=mesh)


def test_an_op_without_a_rule_gets_the_whole_tensor() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (3, 8), F32)
    w = builder.parameter("head.weight", (16, 8), F32)
    logits = builder.add(ops.Linear(), x, w)
    graph = builder.build([builder.add(ops.Softmax(), logits), logits])
    given = arrays(graph)
    sharded = shard(graph, tp(2))
    assert sharded.graph.count()["all_gather"] == 1
    expected = run(graph, [given["x"]], given)
    for got, whole in zip(run_ranks(sharded, given)[1], expected, strict=True):
        np.testing.assert_allclose(got, whole, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("numerics", ["graph", "instruction"])
def test_a_cache_is_cut_by_heads_and_written_back(numerics: str) -> None:
    torch = pytest.importorskip("torch")

    class Cached(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name in ("q", "k", "v", "o"):
                self.add_module(name, torch.nn.Linear(8, 8))
            self.register_buffer("keys", torch.zeros(1, 2, 6, 4))
            self.register_buffer("values", torch.zeros(1, 2, 6, 4))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: Any, place: Any) -> Any:
            q, k, v = (m(x).view(1, 1, 2, 4).transpose(1, 2) for m in (self.q, self.k, self.v))
            self.keys.index_copy_(2, place, k)
            self.values.index_copy_(2, place, v)
            self.calls.add_(1)
            seen = (torch.arange(6) <= place)[None, None, None]
            mixed = torch.nn.functional.scaled_dot_product_attention(
                q, self.keys, self.values, attn_mask=seen)  # fmt: skip
            return self.o(mixed.transpose(1, 2).reshape(1, 1, 8))

    torch.manual_seed(0)
    module = Cached().eval()
    expected = copy.deepcopy(module)
    x = torch.randn(1, 1, 8)
    compiled = compiler.compile(module, (x, torch.tensor([0])), numerics=numerics, mesh={"tp": 2})
    assert compiled.sharded.arrays({"keys": module.keys.numpy()}, 0)["keys"].shape == (1, 1, 6, 4)
    assert set(compiled.sharded.graph.count()).isdisjoint({"all_gather"})
    for step in range(3):
        given = (x * (step + 1), torch.tensor([step]))
        with torch.no_grad():
            wanted = expected(*given)
        torch.testing.assert_close(compiled(*given), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(module.keys, expected.keys, rtol=1e-5, atol=1e-5)
    assert int(module.calls) == 3


@pytest.mark.parametrize("name", SHAPES)
def test_tokens_cut_between_products_change_no_value(name: str) -> None:
    for batch in (1, 2):
        graph = prefill_graph(SHAPES[name], batch, 8)
        given = arrays(graph)
        expected = run(graph, [given[v.name] for v in graph.inputs], given)
        sharded = shard(verify(graph), tp(4), sequence=True)
        assert sharded.graph.count()["reduce_scatter"] >= 3
        norms = [n for n in sharded.graph.nodes if n.op.name == "rms_norm"]
        shapes = {n.output.shape[:2] for n in norms if len(n.output.shape) == 3}
        assert shapes == {(batch, 2), (batch, 1)}  # parts of eight tokens, and the last token
        for got, whole in zip(Ranks(sharded).joined(given), expected, strict=True):
            np.testing.assert_allclose(got, whole, atol=1e-5 * np.abs(whole).max())


SMALL_LLAMA = {
    "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 8, "torch_dtype": "bfloat16",
    "max_position_embeddings": 1024,
}  # fmt: skip


def test_tokens_are_cut_where_that_is_faster() -> None:
    shape = llama(4, 512, 8, 8, 64, 1024, 512)
    long = prefill_graph(shape, 1, 512, caches=False)
    times = [time_graph(long, mesh={"tp": 4}, sequence_parallel=s) for s in (False, True, None)]
    assert times[2] == min(times[:2], key=lambda t: t.total_ps)
    assert times[1].sequence_parallel
    assert not times[0].sequence_parallel
    step = time_graph(decode_graph(shape, 1, 64), mesh={"tp": 4})
    assert not step.sequence_parallel  # one token cannot be cut


def test_the_default_cuts_tokens_where_that_is_faster() -> None:
    fields = inspect.signature(compiler.compile).parameters
    assert fields["sequence_parallel"].default is None
    config = {**SMALL_LLAMA, "model_type": "llama"}
    given, mesh = {"length": 512}, {"tp": 4}
    fixed = [compiler.compile(config, given, mesh=mesh, sequence_parallel=s) for s in (False, True)]
    default = compiler.compile(config, given, mesh=mesh)
    best = min(fixed, key=lambda c: c.latency_us)
    assert default.latency_us == best.latency_us
    assert ("reduce_scatter" in default.sharded.graph.count()) == best.sequence_parallel


@pytest.mark.parametrize("vocabulary", [64, 77])
def test_the_best_of_a_vocabulary_is_found_without_gathering_it(vocabulary: int) -> None:
    builder = GraphBuilder("sample")
    x = builder.input("x", (3, 1, 16), F32)
    logits = builder.add(ops.Linear(), x, builder.parameter("head", (vocabulary, 16), F32))
    best = builder.emit(ops.TopK(5, np.dtype(np.int64)), logits)
    first = builder.add(ops.ArgMax(2, np.dtype(np.int64)), logits)
    graph = builder.build([*best, first])
    given = {"x": -np.ones((3, 1, 16), np.float32), "head": arrays(graph)["head"]}
    given["head"][5] = given["head"][40]  # equal scores: the first comes first
    given["head"][[5, 40]] -= 9
    given["head"][:, 1] += 9  # all below what padding would give
    expected = run(graph, [given["x"]], given)
    sharded = shard(graph, tp(4))
    for node in sharded.graph.nodes:
        assert node.op.name != "all_gather" or node.output.shape[-1] <= 20
    for results in run_ranks(sharded, given):
        for got, whole in zip(results, expected, strict=True):
            np.testing.assert_array_equal(got, whole)
    assert set(expected[2].ravel()) == {5}


def test_branches_beside_each_other_share_their_sum() -> None:
    builder = GraphBuilder("parallel")
    x = builder.input("x", (1, 4, 8), F32)
    both = x
    for name in ("one", "two"):
        wide = builder.add(ops.Linear(), x, builder.parameter(f"{name}.up", (32, 8), F32))
        down = builder.parameter(f"{name}.down", (8, 32), F32)
        branch = builder.add(ops.Linear(), builder.add(ops.Relu(), wide), down)
        both = builder.add(ops.Add(), both, branch)
    graph = builder.build([both])
    given = arrays(graph)
    sharded = shard(graph, tp(2))
    assert sharded.graph.count()["all_reduce"] == 1
    (expected,) = run(graph, [given["x"]], given)
    np.testing.assert_allclose(run_ranks(sharded, given)[1][0], expected, rtol=1e-5, atol=1e-5)


def test_ranks_beyond_an_instance_meet_over_its_links_or_the_network() -> None:
    """16 chips hold 128 ranks of Trainium2, which has UltraServers, and 32 of Trainium1."""

    def sum_ps(chip: str, ranks: int) -> int:
        builder = GraphBuilder("sum")
        builder.add(ops.AllReduce(("tp",), ranks), builder.input("x", (4096, 4096), F32))
        return _collective_ps(builder.nodes[0], chip, tp(ranks))

    size = 4096 * 4096 * 4
    for chip, ranks, instances, linked in (("trn2", 256, 2, 2), ("trn1", 64, 2, 1)):
        what = Collective("all_reduce", size, ranks, instances, linked=linked)
        assert sum_ps(chip, ranks) == collective_ps(facts.chip(chip), what)
        inside = replace(what, instances=1, linked=1)
        assert sum_ps(chip, ranks) != collective_ps(facts.chip(chip), inside)
