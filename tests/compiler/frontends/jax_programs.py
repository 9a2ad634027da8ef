"""Programs as JAX lowers them, run by meaning and on the chip, beside XLA's results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import reference, run_graph
from tenzing.compiler.frontends.hlo import read_module
from tenzing.compiler.passes import default_pipeline

jax = pytest.importorskip("jax")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def lowered(function: Callable[..., Any], arguments: Sequence[Any]) -> str:
    return str(jax.jit(function, keep_unused=True).lower(*arguments).compiler_ir("stablehlo"))


def close(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    for mine, theirs in zip(got, jax.tree.leaves(wanted), strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        a, b = (np.asarray(v).astype(np.float64) for v in (mine, theirs))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check_program(
    function: Callable[..., Any], arguments: Sequence[Any], tolerance: float = 1e-5
) -> None:
    """XLA, the meaning of the graph, and its program on the chip agree."""
    wanted = jax.jit(function)(*arguments)
    graph = read_module(lowered(function, arguments))
    arrays = [np.asarray(jax.numpy.asarray(a)) for a in jax.tree.leaves(arguments)]
    close(reference.run(graph, arrays, {}), wanted, tolerance)
    ready = default_pipeline("none", "bf16").run(graph)
    weights = reference.prepare(ready, {})
    close(run_graph(ready, arrays, weights, "trn2")[0], wanted, tolerance)
