"""Whole experts on every rank of an axis: any routing is computed exactly, and sums cost little."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tenzing import compiler
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
from tenzing.compiler.passes.sharding.experts import busiest_rows
from tenzing.compiler.passes.sharding.sums import DelaySums
from tenzing.compiler.ranks import Ranks
from tenzing.compiler.reference import run
from tenzing.compiler.verify import verify
from tenzing.fabric import Mesh

from . import zoo
from .test_sharding import SHAPES, arrays

ONE = replace(SHAPES["experts"], layers=SHAPES["experts"].layers[:1])


def one(router: Router, width: int) -> Transformer:
    layer = replace(ONE.layers[0], mlp=Experts(router, width))
    return replace(ONE, layers=(layer,))


MANY = one(Router(8, 3, normalised=False), 24)


@pytest.mark.parametrize("mesh", [{"ep": 2}, {"ep": 4}, {"tp": 2, "ep": 2}, {"ep": 2, "tp": 2}])
@pytest.mark.parametrize("shape", [ONE, MANY], ids=["mixtral", "qwen"])
def test_ranks_of_a_mesh_compute_what_one_core_does(
    mesh: dict[str, int], shape: Transformer
) -> None:
    for graph in (prefill_graph(shape, 2, 6), decode_graph(shape, 2, 12)):
        given = arrays(graph)
        expected = run(graph, [given[v.name] for v in graph.inputs], given)
        sharded = shard(graph, Mesh.of(mesh))
        verify(sharded.graph)
        for got, whole in zip(Ranks(sharded).joined(given), expected, strict=True):
            np.testing.assert_allclose(got, whole, atol=1e-5 * np.abs(whole).max())
        stack = "model.layers.0.mlp.experts.gate_up_proj"
        local = sharded.arrays(given, sharded.ranks - 1)[stack]
        assert local.size * sharded.ranks == given[stack].size
        assert len(local) * mesh["ep"] == len(given[stack])


@pytest.mark.parametrize("favourite", [0, 3])
def test_a_rank_that_gets_every_row_goes_round_again(favourite: int) -> None:
    graph = prefill_graph(one(Router(4, 1), 32), 2, 8, caches=False)
    given = arrays(graph)
    layer = "model.layers.0"
    given["model.embed_tokens.weight"][:, 0] = 20.0  # all tokens point the same way
    given[f"{layer}.post_attention_layernorm.weight"][0] = 1.0
    router = given[f"{layer}.mlp.gate.weight"]
    router[:] = 0
    router[favourite, 0] = 1.0
    assert busiest_rows(16, 4, 1, 1) == 8  # of 16 rows that one rank gets
    (whole,) = run(graph, [given[v.name] for v in graph.inputs], given)
    sharded = shard(graph, Mesh.of({"ep": 4}))
    assert sharded.graph.count()["while"] == 1
    for (got,) in Ranks(sharded).run(given):
        np.testing.assert_allclose(got, whole, atol=1e-5 * np.abs(whole).max())
    for other in {0, 1, 2, 3} - {favourite}:  # nobody reads them
        given[f"{layer}.mlp.experts.gate_up_proj"][other] = np.nan
    assert np.isfinite(run(graph, [given[v.name] for v in graph.inputs], given)[0]).all()


def test_instructions_on_two_simulated_cores() -> None:
    graph = prefill_graph(ONE, 1, 6, caches=False)
    given = arrays(graph)
    (expected,) = run(graph, [given[v.name] for v in graph.inputs], given)
    sharded = shard(graph, Mesh.of({"ep": 2}))
    assert sharded.graph.count()["while"] == 1
    got = Ranks(sharded, numerics="instruction").joined(given)[0]
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.torch
@pytest.mark.parametrize("name", ["mixtral", pytest.param("qwen3moe", marks=pytest.mark.slow)])
def test_models_of_transformers(name: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    module, inputs = zoo.HF_20[name]()
    with torch.no_grad():
        expected = module(*inputs)[0].numpy()
    compiled = compiler.compile(module, inputs, numerics="graph", mesh={"tp": 2, "ep": 2})
    counts = compiled.sharded.graph.count()
    assert (counts["while"], counts["all_reduce"], counts["all_gather"]) == (2, 5, 1)
    got = compiled(*inputs)[0].numpy()
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-5


def test_experts_of_all_ranks_are_summed_once_per_token() -> None:
    graph = decode_graph(MANY, 2, 12)
    sums = [n for n in shard(graph, Mesh.of({"tp": 2, "ep": 2})).graph.nodes
            if n.op.name == "all_reduce"]  # fmt: skip
    assert [n.output.shape for n in sums] == [(2, 1, 64)] * 3  # table, attention, experts
    assert sums[-1].attrs["axes"] == ("tp", "ep")
    assert sums[-1].attrs["ranks"] == 4


def test_sums_that_others_read_stay_where_they_are() -> None:
    from tenzing.compiler import ops
    from tenzing.compiler.graph import F32, GraphBuilder

    builder = GraphBuilder("g")
    x = builder.input("x", (4, 8), F32)
    total = builder.add(ops.AllReduce(("tp",), 2), x)
    rows = builder.add(ops.Reduce("add", (0,)), total)
    largest = builder.add(ops.Reduce("maximum", (0,)), builder.add(ops.AllReduce(("tp",), 2), x))
    graph = builder.build([total, rows, largest])
    assert DelaySums(("tp",)).apply(graph) == graph


@pytest.mark.parametrize(("rows", "ranks", "chosen", "held"), [
    (8, 16, 8, 8), (2, 8, 2, 1), (512, 16, 8, 8), (4096, 4, 2, 2), (64, 8, 2, 1),
])  # fmt: skip
def test_the_busiest_rank_is_about_as_busy_as_random_routing_makes_it(
    rows: int, ranks: int, chosen: int, held: int
) -> None:
    random = np.random.default_rng(0)
    busiest = []
    for _ in range(50):
        experts = [random.permutation(ranks * held)[:chosen] for _ in range(rows // chosen)]
        busiest.append(np.bincount(np.concatenate(experts) // held, minlength=ranks).max())
    bound = busiest_rows(rows, ranks, chosen, held)
    assert np.mean(busiest) <= bound + 1e-9
    assert bound <= 2 * math.ceil(np.mean(busiest)) + 1


def test_a_rank_with_its_experts_alone_holds_and_reads_less() -> None:
    shape = llama(2, 256, 8, 8, 32, 512, 1000, experts=Experts(Router(16, 2), 512))
    times = [decoder_times(shape, batch=16, lengths=[64], mesh=m).decode[64]
             for m in (None, {"ep": 4}, {"tp": 2, "ep": 4})]  # fmt: skip
    held = [t.hbm_bytes for t in times]
    read = [t.hbm_read_bytes for t in times]
    assert held[0] > 2 * held[1] > 2 * held[2]
    assert read[0] > read[1] > read[2]
    assert 0 < times[1].collective_ps < times[1].total_ps
