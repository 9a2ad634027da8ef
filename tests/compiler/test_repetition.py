"""Repeated layers are found, collapsed without changing what a layer is, and timed exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tenzing.compiler import ops, timing
from tenzing.compiler.digest import digest
from tenzing.compiler.execution import record_graph
from tenzing.compiler.graph import F32, Alias, Graph, GraphBuilder
from tenzing.compiler.models import Experts, Router, decode_graph, llama, prefill_graph
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import run
from tenzing.compiler.repetition import collapse, find_repetition
from tenzing.compiler.timing import summarise, time_graph
from tenzing.compiler.verify import verify
from tenzing.errors import CapacityError
from tenzing.machine import analyse

SIZES = (8, 64, 4, 2, 16, 96, 80)
TINY = llama(*SIZES)
MIXTURE = Experts(Router(4, 2), 32)


def stack(layers: int, *, shared: bool = False, peek: bool = False) -> Graph:
    """x = tanh(x w) + first, layer after layer."""
    builder = GraphBuilder("stack")
    first = x = builder.input("x", (4, 8), F32)
    seen = []
    w = builder.parameter("w", (8, 8), F32) if shared else None
    for layer in range(layers):
        own = w or builder.parameter(f"layers.{layer}.w", (8, 8), F32)
        x = builder.add(ops.Tanh(), builder.add(ops.Linear(), x, own))
        x = builder.add(ops.Add(), x, first)
        seen.append(x)
    if peek:
        x = builder.add(ops.Multiply(), x, seen[1])
    return builder.build([builder.add(ops.Negate(), x)])


@pytest.mark.parametrize("shared", [False, True])
def test_layers_are_found_and_collapsed(shared: bool) -> None:
    graph = stack(9, shared=shared)
    found = find_repetition(graph)
    assert found is not None
    assert (found.period, found.count) == (3, 9)
    small = verify(collapse(graph, found, 4))
    assert len(small.nodes) == 3 * 4 + 1
    random = np.random.default_rng(0)
    weights = {p.name: random.standard_normal((8, 8)).astype(np.float32) for p in graph.parameters}
    x = random.standard_normal((4, 8)).astype(np.float32)
    kept = {p.name: weights[p.name] for p in small.parameters}
    expected = run(stack(4, shared=shared), [x], weights)[0]
    np.testing.assert_array_equal(run(small, [x], kept)[0], expected)


def test_a_layer_that_is_read_from_behind_is_not_dropped() -> None:
    assert find_repetition(stack(9, peek=True)) is None


def test_few_layers_are_no_repetition() -> None:
    assert find_repetition(stack(3)) is None


def test_state_of_dropped_layers_goes_with_them() -> None:
    graph = decode_graph(TINY, 2, 32)
    found = find_repetition(graph)
    assert found is not None
    assert found.count >= 7
    small = verify(collapse(graph, found, 3))
    left = found.count - 3
    assert len(small.inputs) == len(graph.inputs) - 2 * left
    assert len(small.aliases) == len(graph.aliases) - 2 * left
    assert all(isinstance(alias, Alias) for alias in small.aliases)


MODELS = {
    "prefill": prefill_graph(TINY, 1, 64),
    "decode": decode_graph(TINY, 2, 64),
    "experts": prefill_graph(llama(*SIZES, experts=MIXTURE), 1, 40),
    "window": prefill_graph(llama(*SIZES, window=16, qk_norm=True, qkv_bias=True), 1, 40),
}


@pytest.mark.parametrize("name", MODELS)
def test_time_of_collapsed_layers_is_that_of_all(name: str) -> None:
    graph = MODELS[name]
    short = time_graph(graph, "trn2")
    whole = summarise(analyse(record_graph(default_pipeline().run(graph), "trn2")))
    assert short.repeats >= 7
    assert short.instructions == whole.instructions
    assert short.flops == whole.flops
    # reads and writes of memory: state that nobody overwrites may lie elsewhere
    assert short.hbm_read_bytes == whole.hbm_read_bytes
    assert short.total_ps == pytest.approx(whole.total_ps, rel=0.01)


def test_digest_sees_content_and_not_names() -> None:
    one, other = stack(5), stack(5)
    renamed = replace(other, name="other")
    assert digest(one) == digest(renamed)
    assert digest(one) != digest(stack(6))
    builder = GraphBuilder("c")
    a = builder.build([builder.add(ops.Constant.of(np.arange(3.0)))])
    builder = GraphBuilder("c")
    b = builder.build([builder.add(ops.Constant.of(np.arange(3.0) + 1))])
    assert digest(a) != digest(b)


def test_a_model_larger_than_memory_is_refused_before_it_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "record_graph", lambda *_, **__: pytest.fail("it was timed"))
    huge = llama(40, 8192, 64, 8, 128, 28672, 1000)
    with pytest.raises(CapacityError, match=r"HBM.*hbm\.core_bytes") as caught:
        time_graph(decode_graph(huge, 1, 128), "trn2")
    assert "over 4 or more cores" in caught.value.render()
