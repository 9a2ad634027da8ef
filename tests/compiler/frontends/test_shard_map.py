"""Programs that JAX writes per rank, on simulated ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.jax_programs import normal

import tenzing
from tenzing.errors import UnsupportedOp, UsageError

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax
P = jax.sharding.PartitionSpec
MESH = jax.sharding.AbstractMesh(
    (2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2
)  # fmt: skip
A, B = normal(4, 8), normal(8, 6) / 3


def per_rank(body: Any, inputs: Any, outputs: Any) -> Any:
    return jax.shard_map(body, mesh=MESH, in_specs=inputs, out_specs=outputs, check_vma=False)


def run(function: Any, *inputs: Any, numerics: str = "graph") -> Any:
    return tenzing.compile(function, inputs, numerics=numerics)(*inputs)


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
def test_a_sharded_matmul(numerics: str) -> None:
    product = per_rank(lambda a, b: lax.psum(a @ b, "y"), (P("x", "y"), P("y", None)), P("x", None))
    compiled = tenzing.compile(jax.jit(product), (A, B), numerics=numerics)
    np.testing.assert_allclose(compiled(A, B), A @ B, rtol=1e-5, atol=1e-5)
    assert compiled.imported.graph.inputs[0].shape == (2, 4)
    assert compiled.latency_us > 0


COLLECTIVES = {
    "gather": (lambda a: lax.all_gather(a, "x", tiled=True), P("x", None), P(None, None), A),
    "gather_columns": (
        lambda a: lax.all_gather(a, "y", axis=1, tiled=True), P(None, "y"), P(None, None), A
    ),
    "largest": (
        lambda a: lax.pmax(a, ("x", "y")), P("x", "y"), P(None, None),
        np.maximum.reduce([A[i : i + 2, j : j + 4] for i in (0, 2) for j in (0, 4)]),
    ),
    "scatter": (
        lambda a: lax.psum_scatter(a, "y", scatter_dimension=1, tiled=True), P(None, None),
        P(None, "y"), A * 2,
    ),
    "permute": (
        lambda a: lax.ppermute(a, "x", [(0, 1), (1, 0)]), P("x", None), P("x", None),
        np.concatenate([A[2:], A[:2]]),
    ),
    "transpose_over_ranks": (
        lambda a: lax.all_to_all(a, "y", 1, 0, tiled=True), P("y", None), P(None, "y"), A
    ),
    "both_axes_on_one_dim": (lambda a: a * 2, P(("y", "x"), None), P(("y", "x"), None), A * 2),
    "place": (
        lambda a: a + lax.axis_index("x") * 10 + lax.axis_index("y"), P("x", "y"), P("x", "y"),
        A + np.kron(np.array([[0, 1], [10, 11]], np.float32), np.ones((2, 4), np.float32)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives(name: str) -> None:
    body, inputs, outputs, wanted = COLLECTIVES[name]
    found = run(per_rank(body, (inputs,), outputs), A)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_weights_are_cut_too() -> None:
    def product(b: Any, a: Any) -> Any:
        return per_rank(
            lambda b, a: lax.psum(a @ b, "y"), (P("y", None), P("x", "y")), P("x", None)
        )(b, a)

    compiled = tenzing.compile(partial(product, B), (A,), numerics="graph")
    assert compiled.imported.graph.parameters[0].shape == (4, 6)
    np.testing.assert_allclose(compiled(A), A @ B, rtol=1e-5, atol=1e-5)


def test_a_mesh_of_ones_own_is_refused() -> None:
    double = per_rank(lambda a: a * 2, (P("x", None),), P("x", None))
    with pytest.raises(UsageError, match="written per rank"):
        tenzing.compile(double, (A,), mesh={"tp": 2})


def test_work_around_a_shard_map_is_refused() -> None:
    double = per_rank(lambda a: a * 2, (P("x", None),), P("x", None))
    with pytest.raises(UnsupportedOp, match="around a shard_map"):
        tenzing.compile(lambda a: double(a) + 1, (A,))
