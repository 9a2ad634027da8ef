"""Views of tensors walk memory as NumPy views do, and never leave their tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing import nki
from tenzing.errors import KernelError, OutOfBounds
from tenzing.nki import language

nl: Any = language


def numbers(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def viewed(array: Any, view: Any, *, on_chip: bool = False) -> Any:
    """The contents of ``view(tensor)``, seen from inside a kernel."""
    seen: list[Any] = []

    def kernel(x: Any) -> None:
        tensor = nl.load(x) if on_chip else x
        seen.append(view(tensor).numpy())

    nki.jit(kernel)(array)
    return seen[0]


@st.composite
def indexed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape and a basic index of it that selects something."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    items: list[Any] = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        items.append(
            draw(st.sampled_from([start, slice(None), slice(start, stop), slice(start, stop, 2)]))
        )
    return shape, tuple(items)


@given(indexed())
def test_hbm_indexing_is_numpy_indexing(case: Any) -> None:
    shape, index = case
    expected = numbers(*shape)[index]
    result = viewed(numbers(*shape), lambda t: t[index])
    np.testing.assert_array_equal(result.reshape(-1), np.asarray(expected).reshape(-1))


@given(indexed())
def test_on_chip_indexing_keeps_the_partition_dim(case: Any) -> None:
    shape, index = case
    expected = np.asarray(numbers(*shape)[index])
    result = viewed(numbers(*shape), lambda t: t[index], on_chip=True)
    np.testing.assert_array_equal(result.reshape(-1), expected.reshape(-1))
    assert result.ndim >= 2


def test_other_ways_to_index() -> None:
    x = numbers(4, 6)
    for view, expected in (
        (lambda t: t[..., 2], x[..., 2]),
        (lambda t: t[1], x[1]),
        (lambda t: t[-1, -2], x[-1:, -2]),
        (lambda t: t[:, None, 0:3], x[:, None, 0:3]),
        (lambda t: t[nl.ds(1, 2), nl.ds(3, 3)], x[1:3, 3:6]),
        (lambda t: t.slice(1, 0, 6, 3), x[:, ::3]),
        (lambda t: t.select(0, 2), x[2]),
        (lambda t: list(t)[3], x[3]),
    ):
        np.testing.assert_array_equal(viewed(x, view).reshape(-1), expected.reshape(-1))


def test_views_of_shape() -> None:
    x = numbers(4, 6, 2)
    for view, expected in (
        (lambda t: t.permute((0, 2, 1)), x.transpose(0, 2, 1)),
        (lambda t: t.expand_dim(1), x[:, None]),
        (lambda t: t.expand_dim(1).squeeze_dim(1), x),
        (lambda t: t.reshape_dim(1, (2, -1)), x.reshape(4, 2, 3, 2)),
        (lambda t: t.flatten_dims(1, 2), x.reshape(4, 12)),
        (lambda t: t.reshape((4, -1, 3)), x.reshape(4, 4, 3)),
        (lambda t: t[:, 0:1].broadcast(1, 3), np.broadcast_to(x[:, 0:1], (4, 3, 2))),
        (
            lambda t: t.rearrange(("p", ("a", "b"), "c"), ("p", "c", ("a", "b")), {"a": 3}),
            x.transpose(0, 2, 1),
        ),
        (
            lambda t: t.rearrange(("p", ("a", "b"), "c"), ("a", "p", ("b", "c")), {"b": 3}),
            x.reshape(4, 2, 6).transpose(1, 0, 2),
        ),
        (lambda t: t.view(nl.int16), x.view(np.int16)),
        (lambda t: t.view("uint8").view(nl.int32), x),
    ):  # fmt: skip
        np.testing.assert_array_equal(viewed(x, view), expected)


def test_access_patterns_walk_the_root() -> None:
    x = numbers(4, 24)
    pattern = [[24, 4], [12, 2], [3, 4]]
    expected = np.lib.stride_tricks.as_strided(x, (4, 2, 4), [s * 4 for s, _ in pattern])
    for on_chip in (False, True):
        np.testing.assert_array_equal(viewed(x, lambda t: t.ap(pattern), on_chip=on_chip), expected)
        moved = viewed(x, lambda t: t.ap([[24, 2], [1, 8]], offset=24 + 3), on_chip=on_chip)
        np.testing.assert_array_equal(moved, x[1:3, 3:11])


def test_a_tile_describes_itself() -> None:
    def kernel(x: Any) -> None:
        tile = nl.load(x)
        part = tile[:, 0:4:2]
        assert (part.shape, part.ndim, part.size, len(part)) == ((4, 2), 2, 8, 4)
        assert part.get_pattern() == [[6, 4], [2, 2]]
        assert part.strides == (6, 2)
        assert not part.is_contiguous()
        assert tile.is_contiguous()
        assert not tile.is_indirect()
        assert tile.itemsize == 4
        assert tile.buffer == nl.sbuf
        assert "4x6 int32 in SBUF" in repr(tile)

    nki.jit(kernel)(numbers(4, 6))


# -- failing paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda t: t[4, 0], "index 4 of dim 0 leaves a tensor of shape"),
        (lambda t: t[:, 0:7], "slice 0:7:1 of dim 1 leaves a tensor"),
        (lambda t: t[:, 3:3], "slice 3:3:1 of dim 1"),
        (lambda t: t[0, 0, 0], "3 indices for a tensor of 2 dims"),
        (lambda t: t.ap([[6, 4], [1, 7]]), "access pattern reaches"),
        (lambda t: t.ap([[6, 4], [1, 6]], offset=1), "access pattern reaches"),
    ],
)
def test_views_outside_the_tensor(view: Any, message: str) -> None:
    with pytest.raises(OutOfBounds, match=message):
        viewed(numbers(4, 6), view)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda t: t["x"], "a tensor index must be an integer"),
        (lambda t: t.permute((1, 0)), "permute"),
        (lambda t: t.broadcast(1, 3), "a free dim of size 1"),
        (lambda t: t.squeeze_dim(1), "squeeze of dim 1"),
        (lambda t: t.reshape_dim(1, (4, -1)), "does not split"),
        (lambda t: t.reshape((2, 12)), "changes the partition dim"),
        (lambda t: t[:, 0:4].view(nl.float32).reshape((4, 3)), "cannot be viewed"),
        (lambda t: t[:, 0:3].view("uint8")[:, 0:3].view(nl.int32), "cannot be viewed as"),
        (lambda t: t.vector_select(0, t), "dim 0 of an HBM tensor"),
        (lambda t: bool(t), "no truth value"),
    ],
)
def test_views_the_chip_cannot_walk(view: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        viewed(numbers(4, 6), view, on_chip=True)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 4), "has no elements"), ((129, 4), r"129 partitions; allowed: 1 to 128")],
)
def test_tiles_the_chip_does_not_have(shape: Any, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        nki.jit(lambda: nl.ndarray(shape, nl.float32))()
