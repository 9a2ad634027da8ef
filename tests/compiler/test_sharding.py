"""A model split over ranks computes what the whole one does, and each rank holds its share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tenzing import compiler
from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Graph, GraphBuilder
from tenzing.compiler.models import (
    DecoderShape,
    Experts,
    decode_graph,
    decoder_times,
    prefill_graph,
)
from tenzing.compiler.passes import shard
from tenzing.compiler.passes.sharding import Split
from tenzing.compiler.printer import to_text
from tenzing.compiler.ranks import run_ranks
from tenzing.compiler.reference import run
from tenzing.compiler.verify import verify
from tenzing.errors import TenzingError, UsageError

from . import zoo

SHAPE = DecoderShape(2, 64, 8, 4, 16, 96, 80, dtype=F32)
SHAPES = {
    "dense": SHAPE,
    "biased": replace(SHAPE, qkv_bias=True, qk_norm=True),
    "experts": replace(SHAPE, experts=Experts(4, 2, 32)),
    "few_key_heads": replace(SHAPE, kv_heads=2),
}


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
    sharded = shard(graph, ranks)
    verify(sharded.graph)
    found = run_ranks(sharded, given)
    for rank, results in enumerate(found):
        for got, whole, split in zip(results, expected, sharded.outputs, strict=True):
            part = whole if split is None else split.take(whole, rank, ranks)
            np.testing.assert_allclose(got, part, atol=1e-5 * np.abs(whole).max())
    biggest = "model.layers.0.self_attn.q_proj.weight"
    assert sharded.arrays(given, 0)[biggest].size * ranks == given[biggest].size


def test_instructions_on_two_simulated_cores() -> None:
    graph = prefill_graph(SHAPE, 1, 5, caches=False)
    given = arrays(graph)
    (expected,) = run(graph, [given[v.name] for v in graph.inputs], given)
    for results in run_ranks(shard(graph, 2), given, numerics="instruction"):
        np.testing.assert_allclose(results[0], expected, atol=1e-4 * np.abs(expected).max())


def test_sharded(golden: Any) -> None:
    golden(to_text(shard(decode_graph(replace(SHAPE, layers=1), 1, 8), 4).graph))


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
    assert Split(0, 2, (4, 8)).take(array, 1, 2).tolist() == [2, 3, 8, 9, 10, 11]
    assert [Split(0, 2).take(array, r, 4)[0] for r in range(4)] == [0, 0, 6, 6]


def test_more_ranks_are_faster_and_hold_less() -> None:
    shape = DecoderShape(6, 512, 8, 8, 64, 1536, 1000)
    one, four = (decoder_times(shape, lengths=[64], ranks=r).decode[64] for r in (1, 4))
    assert four.hbm_bytes < one.hbm_bytes / 2
    assert one.collective_ps == 0 < four.collective_ps < four.total_ps


@pytest.mark.parametrize(("shape", "ranks", "message"), [
    (replace(SHAPE, mlp_width=90), 4, "columns"), (SHAPE, 3, "key heads|columns"),
    (SHAPE, 0, "1 or more"),
])  # fmt: skip
def test_what_cannot_be_split_is_named(shape: DecoderShape, ranks: int, message: str) -> None:
    with pytest.raises(TenzingError, match=message):
        shard(prefill_graph(shape, 1, 4), ranks)


@pytest.mark.torch
@pytest.mark.parametrize("mesh", [{"tp": 0}, {"dp": 2}, {"tp": "2"}, {"tp": 2, "pp": 2}])
def test_other_meshes_are_refused(mesh: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="mesh"):
        compiler.compile(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), mesh=mesh)


def test_an_op_without_a_rule_gets_the_whole_tensor() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (3, 8), F32)
    w = builder.parameter("layer.q_proj.weight", (8, 8), F32)
    y = builder.add(ops.Softmax(), builder.add(ops.Linear(), x, w))
    graph = builder.build([y])
    given = arrays(graph)
    sharded = shard(graph, 2)
    assert sharded.graph.count()["all_gather"] == 1
    (expected,) = run(graph, [given["x"]], given)
    np.testing.assert_allclose(run_ranks(sharded, given)[1][0], expected, atol=1e-6)
