"""NKI kernels as JAX functions: eager, traced by JAX, with gradients, and compiled as one node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.jax_programs import normal

import tenzing
from tenzing.errors import UnsupportedOp, UsageError
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

jax = pytest.importorskip("jax")
jnp = jax.numpy
X = normal(4, 6)


def scaled_rows(x: Any, factor: float = 2.0) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nl.store(out, value=tile)
    return out


times = tenzing.jax.kernel(
    scaled_rows, jnp.zeros_like, name="times",
    backward=lambda gradient, x, factor: times(gradient, factor),
)  # fmt: skip


def test_it_runs_on_arrays_and_under_jit() -> None:
    np.testing.assert_allclose(times(X, 3.0), X * 3)
    np.testing.assert_allclose(jax.jit(lambda x: times(x + 1) - x)(X), (X + 1) * 2 - X, rtol=1e-6)


def test_it_has_a_gradient() -> None:
    found = jax.jit(jax.grad(lambda x: (times(x, 3.0) ** 2).sum()))(X)
    np.testing.assert_allclose(found, 18 * X, rtol=1e-6)


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
def test_it_is_one_node_of_a_compiled_program(numerics: str) -> None:
    def function(x: Any) -> Any:
        return times(x + 1, 2.5) - x

    compiled = tenzing.compile(function, (X,), numerics=numerics)
    assert compiled.graph.count()["kernel"] == 1
    np.testing.assert_allclose(compiled(X), (X + 1) * 2.5 - X, rtol=1e-6)
    assert compiled.compare(X).agrees
    lines = {t.loc.function for t in compiled.program.templates if t.loc is not None}
    assert "scaled_rows" in lines


def test_its_gradient_is_compiled_too() -> None:
    step = jax.value_and_grad(lambda x: (times(x, 3.0) ** 2).sum())
    compiled = tenzing.compile(step, (X,), numerics="graph")
    assert compiled.graph.count()["kernel"] == 2
    assert compiled.compare(X).agrees


def test_a_decorator_and_refusals() -> None:
    decorated = tenzing.jax.kernel(like=jnp.zeros_like, name="times_again")(scaled_rows)
    np.testing.assert_allclose(decorated(X, factor=4.0), X * 4)
    with pytest.raises(UsageError, match="registered already; got times_again"):
        tenzing.jax.kernel(scaled_rows, jnp.zeros_like, name="times_again")
    with pytest.raises(UsageError, match="does not know the results' shapes"):
        tenzing.jax.kernel(scaled_rows)


def test_a_program_that_jax_lowered_with_a_callback_is_refused_by_name() -> None:
    lowered = jax.jit(times).lower(X)
    with pytest.raises(UnsupportedOp, match="callback"):
        tenzing.compile(lowered)
