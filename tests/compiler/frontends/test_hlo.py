"""StableHLO operations as JAX lowers them agree with XLA, by meaning and on the chip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenzing.compiler import reference, run_graph
from tenzing.compiler.frontends.hlo import read_module
from tenzing.compiler.passes import default_pipeline
from tenzing.errors import UnsupportedOp, UsageError

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax
IMAGES = ("NHWC", "HWIO", "NHWC")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def convolve(x: Any, k: Any, **options: Any) -> Any:
    return lax.conv_general_dilated(x, k, dimension_numbers=IMAGES, **options)


def pooled(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "mlp": (lambda x, w: jax.nn.softmax(jax.nn.gelu(x @ w)), (normal(3, 4), normal(4, 5))),
    "arguments": (
        lambda x: (jnp.argmax(x, -1), jnp.argmin(x, 0), jnp.sort(x, -1), jnp.argsort(x, 0)),
        (normal(5, 6),),
    ),
    "sorted_pairs": (lambda x, y: lax.sort((x, y), num_keys=1), (normal(4, 5), normal(5, 4).T)),
    "top_k": (lambda x: lax.top_k(x, 3), (normal(4, 9),)),
    "running": (
        lambda x: (jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1)), (normal(3, 6),)
    ),
    "running_windows": (
        lambda x: (
            lax.reduce_window(x, 0.0, lax.add, (1, 6), (1, 1), ((0, 0), (5, 0))),
            lax.reduce_window(x, -jnp.inf, lax.max, (1, 6), (1, 1), ((0, 0), (0, 5))),
        ), (normal(3, 6),),
    ),
    "convolution": (
        lambda x, k: convolve(x, k, window_strides=(2, 1), padding="SAME"),
        (normal(2, 8, 7, 3), normal(3, 3, 3, 5)),
    ),
    "transposed_convolution": (
        lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"),
        (normal(1, 4, 5, 3), normal(3, 3, 3, 2)),
    ),
    "gradients_of_a_depthwise_convolution": (
        jax.grad(lambda k, x: convolve(
            x, k, window_strides=(1, 1), padding="SAME", feature_group_count=3
        ).sum(), (0, 1)), (normal(3, 3, 1, 6), normal(2, 8, 7, 3)),
    ),
    "pools": (
        lambda x: (pooled(x), lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1,) * 4, "SAME")),
        (normal(1, 6, 6, 2),),
    ),
    "gradient_of_a_pool": (jax.grad(lambda x: (pooled(x) ** 2).sum()), (normal(1, 6, 6, 2),)),
    "bits": (
        lambda x: (lax.population_count(x), lax.clz(x - 2**29), lax.clz(x), ~x, x << 3,
                   lax.bitcast_convert_type(x, jnp.float32)),
        (np.arange(7, dtype=np.int32) * 12345 + 2**29,),
    ),
    "numbers": (
        lambda x: (jnp.cbrt(x), jnp.tan(x), jnp.round(x * 3), lax.round(x * 2), jnp.isfinite(x),
                   jnp.any(x > 1, axis=0), jax.scipy.special.erf(x), jnp.clip(x, -0.5, 0.5),
                   lax.reduce_precision(x, 8, 7), jnp.square(x), x > 0),
        (normal(4, 5),),
    ),
    "padding": (lambda x: lax.pad(x, 0.5, ((1, -1, 1), (0, 2, 2))), (normal(4, 5),)),
    "whole_numbers": (
        lambda a: (a @ a.T, a.sum(0), a // 3, a % 3, jnp.abs(a), a.astype(bool)),
        (np.arange(12, dtype=np.int32).reshape(3, 4) - 5,),
    ),
    "truths": (
        lambda x: (jnp.all(x > 0, 1), jnp.max(x > 0, 0), (x > 0) + (x < 1), (x > 0) == (x > 1)),
        (normal(3, 4),),
    ),
    "batched_product": (
        lambda a, b: jnp.einsum("bij,bkj->bik", a, b), (normal(2, 3, 4), normal(2, 5, 4))
    ),
    "narrow_constants": (
        lambda x: x.astype(jnp.bfloat16) * jnp.array([1.5, -jnp.inf, -3e4], jnp.bfloat16),
        (normal(2, 3),),
    ),
    "reduced_from_a_start": (
        lambda x: lax.reduce(x, np.float32(2), lax.max, (1,)), (normal(3, 4),)
    ),
}  # fmt: skip


def lowered(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    return str(jax.jit(function, keep_unused=True).lower(*arguments).compiler_ir("stablehlo"))


def close(got: Any, wanted: Any) -> None:
    for mine, theirs in zip(got, jax.tree.leaves(wanted), strict=True):
        assert mine.dtype == theirs.dtype
        a, b = (np.asarray(v).astype(np.float64) for v in (mine, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_operations_agree_with_xla(name: str) -> None:
    function, arguments = CASES[name]
    wanted = jax.jit(function)(*arguments)
    graph = read_module(lowered(function, arguments), name)
    close(reference.run(graph, arguments, {}), wanted)
    ready = default_pipeline("none", "bf16").run(graph)
    close(run_graph(ready, arguments, reference.prepare(ready, {}), "trn2")[0], wanted)


def test_errors_name_the_operation_and_the_users_line() -> None:
    def decompose(x: Any) -> Any:
        return jnp.fft.fft(x)

    module = jax.jit(decompose).lower(normal(8)).compiler_ir("stablehlo")
    text = module.operation.get_asm(enable_debug_info=True)
    with pytest.raises(UnsupportedOp) as refused:
        read_module(text)
    assert "complex" in str(refused.value) or "fft" in str(refused.value)
    assert refused.value.loc is not None
    assert refused.value.loc.file == __file__


@pytest.mark.parametrize("source", ["", "module {", b"\xff\xfe", b"ML\xefR1234", "x = 1"])
def test_what_is_no_module_is_refused(source: str | bytes) -> None:
    with pytest.raises(UsageError):
        read_module(source)


def test_dynamic_shapes_are_refused() -> None:
    text = """func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
        return %x : tensor<?xf32> }"""
    with pytest.raises(UnsupportedOp, match="dynamic shape"):
        read_module(text)
