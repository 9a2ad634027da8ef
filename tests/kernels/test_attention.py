"""Attention kernels equal NumPy for every mask, head grouping and odd size, on every chip."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing import facts, kernels
from tenzing.nki import session

from .running import normal, run

module = sys.modules["tenzing.kernels.attention"]
LOWEST = np.finfo(np.float32).min


def reference(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    window: int = 0,
    soft_cap: float = 0.0,
    offset: int = 0,
) -> np.ndarray:
    """Softmax attention in float64 with a zero for every query that sees no key."""
    heads, dim = q.shape[2:]
    q, k, v = (x.transpose(0, 2, 1, 3).astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, heads // x.shape[1], 1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) / math.sqrt(dim)
    if soft_cap:
        scores = np.tanh(scores / soft_cap) * soft_cap
    if mask is not None and mask.dtype == np.bool_:
        scores = np.where(mask, scores, -np.inf)
    elif mask is not None:
        scores = scores.astype(np.float32) + mask
    query, key = np.arange(q.shape[2])[:, None] + offset, np.arange(k.shape[2])
    hidden = (key > query) & causal
    if window:
        hidden |= abs(query - key) >= window
    scores = np.where(hidden, -np.inf, scores)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = weights.sum(-1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.asarray((weights @ v).transpose(0, 2, 1, 3))


def check(
    sizes: tuple[int, int, int, int, int, int],
    mask: np.ndarray | None = None,
    *,
    value_width: int = 0,
    target: str = "trn2",
    **form: Any,
) -> None:
    """``sizes`` are batch, queries, keys, heads, key heads, dim."""
    batch, queries, keys, heads, kv_heads, dim = sizes
    q, k = normal(batch, queries, heads, dim), normal(batch, keys, kv_heads, dim, seed=1)
    v = normal(batch, keys, kv_heads, value_width or dim, seed=2)
    got = run(kernels.attention, q, k, v, mask, 1 / math.sqrt(dim), target=target, **form)
    expected = reference(q, k, v, mask, **form)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6 * abs(expected).max())


@pytest.fixture(params=["rows", "blocks"], autouse=True)
def kernel(request: Any) -> Iterator[None]:
    """Every test runs with whole rows and with the pipeline of blocks, whatever the lengths."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LONG_QUERIES", "LONG_KEYS"):
            patch.setattr(module, name, 10**9 if request.param == "rows" else 1)
        yield


@pytest.mark.parametrize(
    ("sizes", "value_width"),
    [
        ((1, 20, 33, 6, 3, 80), 40),
        ((1, 8, 8, 2, 2, 256), 600),
        ((1, 70, 150, 2, 1, 160), 0),
        ((2, 40, 40, 4, 1, 16), 0),
        ((1, 8, 600, 1, 1, 128), 0),
        ((2, 64, 64, 12, 12, 32), 0),
    ],
)
def test_any_head_dim_and_shared_key_heads(sizes: Any, value_width: int) -> None:
    check(sizes, value_width=value_width)
    check(sizes, value_width=value_width, causal=True)


@pytest.mark.parametrize("shape", [(2, 1, 1, 70), (1, 4, 150, 70), (2, 4, 150, 1), (1, 1, 150, 70)])
def test_boolean_masks_and_queries_that_see_no_key(shape: Any) -> None:
    seen = np.random.default_rng(3).random(shape) > 0.97
    check((2, 150, 70, 4, 2, 32), seen)
    check((2, 150, 70, 4, 2, 32), seen, causal=True)


@pytest.mark.parametrize("hidden", [LOWEST, -np.inf])
def test_additive_masks_hide_with_the_lowest_number_or_minus_infinity(hidden: float) -> None:
    """A row of the lowest number attends to all keys alike, a row of minus infinities to none."""
    seen = np.random.default_rng(4).random((2, 1, 150, 70)) > 0.97
    mask = np.where(seen, 0, hidden).astype(np.float32)
    check((2, 150, 70, 4, 2, 32), mask)
    check((2, 150, 70, 4, 2, 32), mask, causal=True)


@given(
    queries=st.integers(1, 300),
    keys=st.integers(1, 300),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    dim=st.sampled_from([8, 24, 32, 64, 130]),
    causal=st.booleans(),
    window=st.sampled_from([0, 1, 7, 129]),
    offset=st.sampled_from([0, 0, 5, 100, -3]),
    bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_drawn_sizes_and_bands(
    queries: int,
    keys: int,
    heads: Any,
    dim: int,
    causal: bool,
    window: int,
    offset: int,
    bias: bool,
) -> None:
    mask = normal(1, heads[0], queries, keys) if bias else None
    check((1, queries, keys, *heads, dim), mask, causal=causal, window=window, offset=offset)


def test_soft_cap() -> None:
    check((1, 40, 60, 2, 2, 16), soft_cap=1.5, causal=True)


@pytest.mark.parametrize("chip", facts.chips())
def test_bands_are_legal_on_every_chip(chip: str) -> None:
    check((1, 40, 40, 2, 1, 16), causal=True, window=9, soft_cap=3.0, target=chip)


def test_keys_that_nobody_sees_are_not_multiplied() -> None:
    """Causal attention of many blocks does about half the products of full attention."""
    q = normal(1, 1024, 1, 128)
    counts = []
    for causal in (False, True):
        with session("trn2") as current:
            kernels.attention(q, q, q, None, 1.0, causal=causal)
        (program,) = [p for launch in current.launches for p in launch.programs]
        counts.append(program.flops())
    assert counts[1] < 0.65 * counts[0]


def test_rows_longer_than_a_step_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key ranges with a maximum each give the same softmax; windows leave some of them unseen."""
    for name in ("attention_prefill.KEYS_PER_STEP",):
        monkeypatch.setattr(f"tenzing.kernels.{name}", 256)
    check((1, 300, 700, 2, 1, 32))
    check((1, 600, 600, 1, 1, 32), causal=True)
    check((1, 600, 600, 1, 1, 32), causal=True, window=200, soft_cap=5.0)
    seen = np.random.default_rng(3).random((1, 1, 300, 700)) > 0.995
    check((1, 300, 700, 2, 1, 32), seen)
    check((1, 300, 700, 2, 1, 32), np.where(seen, 0, -np.inf).astype(np.float32))


def test_keys_that_do_not_fit_are_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenzing.kernels.attention_operands.RESIDENT_SHARE", 0.0)
    monkeypatch.setattr("tenzing.kernels.attention_prefill.KEYS_PER_STEP", 256)
    check((1, 200, 600, 2, 1, 32), causal=True)


@pytest.mark.parametrize("queries", [1, 3])
def test_a_few_queries_of_grouped_heads_over_many_keys(queries: int) -> None:
    seen = np.arange(300) < np.array([270, 31])[:, None]
    sizes = (2, queries, 300, 6, 2, 40)
    check(sizes, seen[:, None, None, :])
    check(sizes, np.where(seen, 0, LOWEST).astype(np.float32)[:, None, None, :])
    check(sizes, soft_cap=3.0, value_width=24)


def test_one_query_at_a_position_reads_only_the_keys_it_sees() -> None:
    for form in ({"causal": True, "offset": 200}, {"causal": True, "offset": 250, "window": 70}):
        check((2, 1, 300, 4, 2, 32), **form)


@pytest.mark.parametrize("queries", [1, 130])
def test_heads_first_is_only_another_layout(queries: int) -> None:
    q, k = normal(1, queries, 4, 16), normal(1, 300, 2, 16, seed=1)
    plain, turned = (
        run(kernels.attention, q, k, k, None, 0.25, heads_first=first) for first in (False, True)
    )
    np.testing.assert_array_equal(plain.transpose(0, 2, 1, 3), turned)
