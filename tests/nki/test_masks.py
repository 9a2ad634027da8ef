"""Masks of the older language: only the part inside is read, computed and written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing import nki as current
from tenzing.errors import KernelError, OutOfBounds
from tenzing.nki import older as nki
from tenzing.nki.older import isa, language
from tenzing.nki.older.masks import Span, spans

nl: Any = language
nisa: Any = isa
F32 = np.float32


@nki.jit
def double_in_tiles(x: Any) -> Any:
    rows, columns = x.shape
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for k in nl.affine_range(-(-rows // 128)):
        i = k * 128 + nl.arange(128)[:, None]
        j = nl.arange(64)[None, :]
        inside = (i < rows) & (j < columns)
        tile = nl.load(x[i, j], mask=inside)
        result = nisa.tensor_scalar(tile, np.multiply, 2.0, mask=inside)
        nl.store(out[i, j], value=result, mask=inside)
    return out


@given(st.integers(1, 300), st.integers(1, 64))
def test_tiles_that_hang_over_the_edge(rows: int, columns: int) -> None:
    x = np.arange(rows * columns, dtype=F32).reshape(rows, columns)
    np.testing.assert_array_equal(double_in_tiles(x), 2 * x)


def test_only_the_inside_is_moved_and_computed() -> None:
    with current.session("trn2") as session:
        double_in_tiles(np.ones((130, 40), F32))
    (program,) = session.launches[0].programs
    sizes = [program.template(i).layouts[0].shape for i in range(len(program))]
    assert sizes == [(128, 40)] * 3 + [(2, 40)] * 3


def test_what_is_outside_stays_unwritten() -> None:
    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:4, 0:8]
        tile = nl.load(x[i, j], mask=i < 2)
        out = nl.ndarray((4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out, tile)
        return out

    result = nki.jit(kernel)(np.ones((4, 8), F32))
    assert (result[:2] == 1).all()
    assert np.isnan(result[2:]).all()


def test_a_lower_bound_moves_the_start() -> None:
    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:4, 0:8]
        out = nl.zeros((4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out[i, j], nl.load(x), mask=(j >= 3) & (j - 1 <= 5) & (2 * i > 1))
        return out

    x = np.ones((4, 8), F32)
    expected = np.zeros((4, 8))
    expected[1:, 3:7] = 1
    np.testing.assert_array_equal(nki.jit(kernel)(x), expected)


def test_a_store_wholly_outside_does_nothing() -> None:
    def kernel(x: Any) -> Any:
        i, j = nl.mgrid[0:4, 0:8]
        out = nl.zeros((4, 8), dtype=nl.float32, buffer=nl.shared_hbm)
        nl.store(out[i + 4, j], nl.load(x), mask=i + 4 < 4)
        return out

    assert (nki.jit(kernel)(np.ones((4, 8), F32)) == 0).all()


@given(st.integers(-4, 4), st.integers(-8, 8), st.integers(-20, 20))
def test_spans_are_the_indices_a_condition_leaves(step: int, offset: int, bound: int) -> None:
    index = nl.arange(9) * step + offset
    for mask, holds in (
        (index < bound, lambda v: v < bound),
        (index <= bound, lambda v: v <= bound),
        (index > bound, lambda v: v > bound),
        (index >= bound, lambda v: v >= bound),
    ):
        (span,) = spans(mask)
        left = [k for k in range(9) if holds(k * step + offset)]
        assert list(range(span.start, span.start + span.count)) == left or not left
        assert span.count == len(left)
        assert span.clips == (len(left) < 9)
        assert isinstance(span, Span)


# -- failing paths ---------------------------------------------------------------------------------


def outside(x: Any) -> Any:
    return x[2 + nl.arange(4)[:, None], nl.arange(8)[None, :]]


@pytest.mark.parametrize(
    "use",
    [
        nl.load,
        lambda v: nl.load(v) + 1,
        lambda v: v + 1,
        lambda v: nisa.tensor_copy(v),
        lambda v: nl.load(v, mask=nl.arange(4)[:, None] < 3),
        lambda v: v.shape,
        lambda v: v[0],
    ],
)
def test_without_a_mask_the_index_is_an_error_at_its_line(use: Any) -> None:
    with pytest.raises(OutOfBounds, match=r"index tensor reaches 2\.\.5 in dim 0|2\.\.4") as caught:
        nki.jit(lambda x: use(outside(x)))(np.ones((4, 8), F32))
    assert caught.value.loc is not None
    assert caught.value.loc.function in ("outside", "<lambda>")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda i, j: i < j, "one grid dim at a time"),
        (lambda i, j: True, "must be a condition on index tensors; got bool"),
        (lambda i, j: i < 0, "the mask leaves nothing"),
        (lambda i, j: nl.mgrid[0:4, 0:8, 0:2][0] < 2, "the mask has 3 dims"),
    ],
)
def test_masks_that_are_not_rectangles(mask: Any, message: str) -> None:
    def kernel(x: Any) -> None:
        i, j = nl.mgrid[0:4, 0:8]
        nl.load(x[i, j], mask=mask(i, j))

    with pytest.raises(KernelError, match=message):
        nki.jit(kernel)(np.ones((4, 8), F32))
