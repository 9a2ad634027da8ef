"""Dense copies of strided views equal NumPy's, on every chip, without a transfer of elements."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing import facts, nki
from tenzing.kernels.copies import ELEMENTS_MIN, copied
from tenzing.machine import Options, analyse
from tenzing.nki import Spec, session
from tenzing.units import PS_PER_NS

from .running import run

CHIPS = facts.chips()
BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (BF16, np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.uint8))


@nki.jit
def turned(x: Any, order: tuple[int, ...]) -> Any:
    return copied(x.permute(order))


@nki.jit
def every(x: Any, first: int, step: int) -> Any:
    return copied(x[:, :, first::step])


@nki.jit
def repeated(x: Any, times: int) -> Any:
    rows, columns = x.shape
    return copied(x.ap([[columns, rows], [1, columns], [0, times]]))


def numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 40503 % 65521).reshape(shape).astype(dtype)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_drawn_transposes(data: st.DataObject, dtype: Any) -> None:
    sizes = st.lists(st.sampled_from([1, 2, 5, 16, 40, 130]), min_size=2, max_size=4)
    shape = tuple(data.draw(sizes.filter(lambda found: np.prod(found) < 100_000)))
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbers(shape, dtype)
    np.testing.assert_array_equal(run(turned, x, order), x.transpose(order))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_turned_thinned_and_repeated(chip: str, dtype: Any) -> None:
    x = numbers((3, 130, 90), dtype)
    assert x.size > ELEMENTS_MIN
    for order in ((0, 2, 1), (2, 1, 0), (1, 2, 0)):
        got = run(turned, x, order, target=chip)
        np.testing.assert_array_equal(got, x.transpose(order))
    for first, step in ((0, 2), (1, 2), (2, 3), (0, 40)):
        got = run(every, x, first, step, target=chip)
        np.testing.assert_array_equal(got, x[:, :, first::step])
    y = numbers((200, 30), dtype)
    np.testing.assert_array_equal(
        run(repeated, y, 7, target=chip), np.repeat(y, 7).reshape(200, 30, 7)
    )


def taken_ns(kernel: Any, shape: tuple[int, ...], *args: Any) -> float:
    with session("trn2", Options(values=False)):
        launch = kernel.launch(Spec(shape, BF16), *args)
    return analyse(launch.programs[0]).total_ps / PS_PER_NS


@pytest.mark.parametrize(
    ("kernel", "shape", "args"),
    [(turned, (196, 768), ((1, 0),)), (turned, (64, 256, 128), ((0, 2, 1),)),
     (every, (1, 512, 6144), (1, 2)), (repeated, (512, 64), (64,))],
)  # fmt: skip
def test_no_descriptor_for_every_element(kernel: Any, shape: tuple[int, ...], args: Any) -> None:
    """Copies are several times faster than their elements would pass one by one."""
    chip = facts.chip("trn2")
    elements = np.prod(shape) * (64 if kernel is repeated else 1) // (2 if kernel is every else 1)
    alone = elements * chip.number("dma.descriptor_ns") / chip.integer("dma.engines")
    assert taken_ns(kernel, shape, *args) < alone / 2
