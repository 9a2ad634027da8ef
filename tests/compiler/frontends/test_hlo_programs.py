"""Look-ups, writes, branches, loops, random numbers and special functions agree with XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.jax_programs import check_program, normal

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax
Case = tuple[Callable[..., Any], tuple[Any, ...]]

TABLE = normal(5, 6)
PLACES = np.array([[0, 4], [2, 9]], np.int32)  # one is outside
CUBE = normal(3, 4, 5)

GATHERS: dict[str, Case] = {
    "rows": (lambda x, i: x[i], (TABLE, PLACES)),
    "columns": (lambda x, i: x[:, i], (TABLE, PLACES)),
    "rows_filled": (lambda x, i: jnp.take(x, i, axis=0), (TABLE, PLACES)),
    "middle": (lambda x, i: x[:, i, :], (CUBE, PLACES)),
    "elements": (lambda x, i, j: x[i, j], (TABLE, PLACES, PLACES)),
    "two_of_three": (lambda x, i, j: x[i, :, j], (CUBE, PLACES, PLACES)),
    "negative": (lambda x, i: x[-i], (TABLE, PLACES)),
    "along": (lambda x, i: jnp.take_along_axis(x, i, 1), (TABLE, np.array([[5, 0]] * 5))),
    "along_first": (
        lambda x, i: jnp.take_along_axis(x, i, 0), (TABLE, np.array([[4, 0, 1, 2, 3, 0]]))
    ),
    "windows": (
        jax.vmap(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 3)), (None, 0)),
        (TABLE, np.array([0, 3, 9], np.int32)),
    ),
    "batched_windows": (
        jax.vmap(lambda x, i: lax.dynamic_slice(x, (i,), (2,))), (TABLE, np.arange(5)),
    ),
    "one_row": (lambda x, i: x[i], (TABLE, np.int32(3))),
    "by_a_mask_of_constants": (lambda x: x[np.array([True, False, True, True, False])], (TABLE,)),
}  # fmt: skip

SCATTERS: dict[str, Case] = {
    "set_rows": (lambda x, i, v: x.at[i].set(v), (TABLE, np.array([4, 1]), normal(2, 6))),
    "add_rows": (lambda x, i, v: x.at[i].add(v), (TABLE, np.array([4, 4]), normal(2, 6))),
    "add_columns": (lambda x, i, v: x.at[:, i].add(v), (TABLE, np.array([2, 2]), normal(5, 2))),
    "add_elements": (
        lambda x, i, v: x.at[i, i].add(v), (TABLE, np.array([0, 3, 3]), normal(3, 1)[:, 0])
    ),
    "set_a_window": (
        lambda x, i, v: x.at[i, 1:4].set(v), (TABLE, np.int32(2), normal(3, 1)[:, 0])
    ),
    "dropped": (lambda x, i: x.at[i].add(1.0, mode="drop"), (TABLE, np.array([1, 7]))),
    "gradient_of_a_look_up": (
        jax.grad(lambda x, i: (x[i] ** 2).sum()), (TABLE, np.array([2, 2, 0]))
    ),
    "gradient_along": (
        jax.grad(lambda x, i: (jnp.take_along_axis(x, i, 1) ** 2).sum()),
        (TABLE, np.array([[5, 0]] * 5)),
    ),
    "histogram": (lambda i: jnp.zeros(6, jnp.int32).at[i].add(1), (np.array([1, 2, 2, 5]),)),
}  # fmt: skip

CONTROL: dict[str, Case] = {
    "cond": (lambda x: lax.cond(x[0, 0] > 0, jnp.sin, lambda y: y * 2, x), (TABLE,)),
    "switch": (
        lambda k, x: lax.switch(k, [jnp.sin, jnp.cos, lambda y: y + x[0]], x),
        (np.int32(2), TABLE),
    ),
    "scan": (lambda x: lax.scan(lambda c, a: (c + a, c * a), x[0], x), (TABLE,)),
    "scan_with_weights": (
        lambda x, w: lax.scan(lambda c, a: (jnp.tanh(c @ w + a), c.sum()), x[0], x),
        (TABLE, normal(6, 6)),
    ),
    "fori": (lambda x: lax.fori_loop(0, 4, lambda i, c: c * 0.5 + i, x), (TABLE,)),
    "while": (
        lambda x: lax.while_loop(lambda c: c[0] < 20, lambda c: (c[0] * 2, c[1] + 1), (x, 0)),
        (np.float32(1.5),),
    ),
    "nested": (
        lambda x: lax.fori_loop(0, 3, lambda i, c: lax.cond(i > 1, jnp.sin, jnp.cos, c), x),
        (TABLE,),
    ),
    "map": (lambda x: lax.map(lambda row: row / row.sum(), x), (np.abs(TABLE),)),
    "sort_by_two": (
        lambda a, b: lax.sort((a, b, b * 2), num_keys=2),
        (np.array([[3, 1, 3, 1, 2]]), normal(1, 5)),
    ),
}  # fmt: skip

SPECIAL: dict[str, Case] = {
    "erf_inv": (jax.scipy.special.erfinv, (np.linspace(-0.999, 0.999, 12, dtype=np.float32),)),
    "lgamma": (jax.scipy.special.gammaln, (np.linspace(0.1, 9, 12, dtype=np.float32),)),
    "hyperbolic": (
        lambda x: (
            jnp.sinh(x), jnp.cosh(x), jnp.arcsinh(x), jnp.arctanh(x / 9), jnp.arccosh(x + 9)
        ),
        (normal(3, 4),),
    ),
    "arcs": (lambda x: (jnp.arcsin(x), jnp.arccos(x), jnp.arctan(x * 9)), (normal(9, 2) / 4,)),
    "logistic_and_softplus": (lambda x: (jax.nn.sigmoid(x), jax.nn.softplus(x)), (TABLE,)),
}  # fmt: skip

WORDS = np.array([3_000_000_000, 4_000_000_001, 5, 123_456_789], np.uint32)
AMOUNTS = np.array([13, 15, 31, 40], np.uint32)
WHOLE: dict[str, Case] = {
    "shifts": (lambda a, b: (a << b, a >> b, lax.shift_right_arithmetic(a, b)), (WORDS, AMOUNTS)),
    "rest": (lambda a, b: (a % np.uint32(1000), a % b), (WORDS, AMOUNTS)),
    "signs": (lambda a: (a.astype(jnp.int32), a.astype(jnp.uint8), ~a), (WORDS,)),
    "unsigned": (lambda a: a.astype(jnp.uint32), (WORDS.view(np.int32),)),
}  # fmt: skip

KEY = np.array([0, 42], np.uint32)
RANDOM: dict[str, Case] = {
    "bits": (lambda k: jax.random.bits(k, (7,)), (KEY,)),
    "uniform": (lambda k: jax.random.uniform(k, (3, 5)), (KEY,)),
    "normal": (lambda k: jax.random.normal(k, (8,)), (KEY,)),
    "split": (lambda k: jax.random.key_data(jax.random.split(k, 3)), (KEY,)),
    "integers": (lambda k: jax.random.randint(k, (9,), 0, 16), (KEY,)),
    "dropout": (lambda k, x: jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x, 0), (KEY, TABLE)),
}  # fmt: skip


@pytest.mark.parametrize("name", GATHERS)
def test_look_ups(name: str) -> None:
    check_program(*GATHERS[name])


@pytest.mark.parametrize("name", SCATTERS)
def test_writes(name: str) -> None:
    check_program(*SCATTERS[name])


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow(name: str) -> None:
    check_program(*CONTROL[name])


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    check_program(*SPECIAL[name], tolerance=1e-4)


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers(name: str) -> None:
    check_program(*RANDOM[name])


@pytest.mark.parametrize("name", WHOLE)
def test_whole_words(name: str) -> None:
    check_program(*WHOLE[name], tolerance=0)
