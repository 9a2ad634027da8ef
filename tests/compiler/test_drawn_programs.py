"""200 drawn programs agree three ways: the framework, the meaning of the graph, the chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tenzing.compiler import reference, run_graph
from tenzing.compiler.graph import Graph
from tenzing.compiler.passes import default_pipeline

from .drawn import Drawn, Jax, Torch, programs

Arrays = Sequence[np.ndarray]
# Fixed draws: a number on the edge of a rounding step may fall either way.
FIXED = {
    "deadline": None, "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}  # fmt: skip


def three_ways(graph: Graph, weights: Any, arrays: Arrays, expected: Arrays) -> None:
    """The imported graph by meaning and the optimised one on the chip, against the framework."""
    meant = reference.run(graph, arrays, weights)
    ready = default_pipeline("none", "bf16").run(graph)
    on_chip, _ = run_graph(ready, arrays, reference.prepare(ready, weights), "trn2")
    for wanted, by_meaning, by_chip in zip(expected, meant, on_chip, strict=True):
        scale = max(float(np.abs(wanted).max(initial=0)), 1.0)
        np.testing.assert_allclose(by_meaning, wanted, rtol=0, atol=2e-5 * scale)
        np.testing.assert_allclose(by_chip, wanted, rtol=0, atol=2e-5 * scale)


def in_torch(drawn: Drawn) -> None:
    import torch

    from tenzing.compiler.frontends.torch import import_module

    class Module(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return drawn.run(Torch(), inputs)

    inputs = [torch.from_numpy(a) for a in drawn.arrays()]
    module = Module().eval()
    imported = import_module(module, inputs)
    expected = [t.numpy() for t in module(*inputs)]
    three_ways(imported.graph, imported.weights, drawn.arrays(), expected)


def in_jax(drawn: Drawn) -> None:
    import jax

    from tenzing.compiler.frontends.hlo import read_module

    function = jax.jit(lambda *inputs: drawn.run(Jax(), inputs), keep_unused=True)
    arrays = drawn.arrays()
    graph = read_module(str(function.lower(*arrays).compiler_ir("stablehlo")))
    three_ways(graph, {}, arrays, [np.asarray(a) for a in function(*arrays)])


FRAMEWORKS: dict[str, Callable[[Drawn], None]] = {"torch": in_torch, "jax": in_jax}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(max_examples=10, **FIXED)
@given(drawn=programs())
def test_a_few_drawn_programs(framework: str, drawn: Drawn) -> None:
    pytest.importorskip(framework)
    FRAMEWORKS[framework](drawn)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(max_examples=100, **FIXED)
@given(drawn=programs())
def test_two_hundred_drawn_programs(framework: str, drawn: Drawn) -> None:
    pytest.importorskip(framework)
    FRAMEWORKS[framework](drawn)
