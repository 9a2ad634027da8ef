"""Convolution and pooling kernels equal PyTorch over drawn shapes, and keep the chip's rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenzing.kernels.convolution import convolution
from tenzing.kernels.pooling import LOWEST, pool, unpool_max
from tenzing.kernels.windows import Geometry
from tenzing.machine import analyse
from tenzing.nki import language as nl

from .running import normal

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch


def geometry_of(size, taps, stride, pad, dilation) -> Geometry:
    """Of a volume, or of an image: a volume of one plane."""
    dims = zip(size, taps, stride, pad, dilation, strict=True)
    output = tuple((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in dims)
    ones, zeros = (1,) * (3 - len(size)), (0,) * (3 - len(size))
    return Geometry(
        (*ones, *taps), (*ones, *output), (*ones, *stride), (*zeros, *pad), (*ones, *dilation)
    )


def convolved(x, w, bias, geometry, groups=1, **options):
    """Images or volumes x [n, c, ...] with w [o, c / groups, ...]."""
    turned = np.ascontiguousarray(np.moveaxis(w, (0, 1), (-1, -2)))
    planes = x.reshape(*x.shape[:2], *(1,) * (5 - x.ndim), *x.shape[2:])
    return convolution(
        planes, turned.reshape(*geometry.taps, *turned.shape[-2:]), bias, geometry, groups,
        **options,
    )  # fmt: skip


def products(launch) -> int:
    """Matrix products that a launch issues."""
    return launch.programs[0].text().count("nc_matmul(")


pairs = st.tuples(*[st.integers(1, 3)] * 2)
triples = st.tuples(*[st.integers(1, 3)] * 3)


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(), taps=pairs, stride=pairs, dilation=pairs, images=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 2, 3, 8]), depth=st.sampled_from([1, 2, 7, 70, 130]),
    width=st.sampled_from([1, 3, 40, 130]),
)  # fmt: skip
def test_convolution_of_any_shape(
    data, taps, stride, dilation, images, groups, depth, width
) -> None:
    pad = tuple(data.draw(st.integers(0, k)) for k in taps)
    size = tuple(
        data.draw(st.integers(max(1, (k - 1) * d + 1 - 2 * p), 12))
        for k, d, p in zip(taps, dilation, pad, strict=True)
    )
    x, w = normal(images, groups * depth, *size), normal(groups * width, depth, *taps, seed=1)
    bias = normal(groups * width, seed=2)
    expected = F.relu(F.conv2d(*map(torch.from_numpy, (x, w, bias)), stride, pad, dilation, groups))
    geometry = geometry_of(size, taps, stride, pad, dilation)
    got = convolved(x, w, bias, geometry, groups, op=nl.relu)
    np.testing.assert_allclose(got[:, :, 0], expected.numpy(), atol=2e-4, rtol=2e-4)


@settings(max_examples=15, deadline=None)
@given(
    data=st.data(), taps=triples, stride=triples, dilation=triples, images=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2, 4]), depth=st.sampled_from([1, 3, 70]),
    width=st.sampled_from([1, 3, 40]),
)  # fmt: skip
def test_convolution_of_volumes(data, taps, stride, dilation, images, groups, depth, width) -> None:
    pad = tuple(data.draw(st.integers(0, k)) for k in taps)
    size = tuple(
        data.draw(st.integers(max(1, (k - 1) * d + 1 - 2 * p), 7))
        for k, d, p in zip(taps, dilation, pad, strict=True)
    )
    x, w = normal(images, groups * depth, *size), normal(groups * width, depth, *taps, seed=1)
    expected = F.conv3d(*map(torch.from_numpy, (x, w)), None, stride, pad, dilation, groups)
    got = convolved(x, w, None, geometry_of(size, taps, stride, pad, dilation), groups)
    np.testing.assert_allclose(got, expected.numpy(), atol=2e-4, rtol=2e-4)


def test_few_channels_share_the_partitions_with_rows_of_taps() -> None:
    geometry = geometry_of((20, 20), (7, 7), (2, 2), (3, 3), (1, 1))
    launch = convolution.launch(normal(1, 3, 1, 20, 20), normal(1, 7, 7, 3, 8), None, geometry)
    assert products(launch) == 7  # not 49
    assert [f.message for f in analyse(launch.programs[0]).findings] == []


def test_small_groups_multiply_together() -> None:
    geometry = geometry_of((8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    launch = convolution.launch(normal(1, 64, 1, 8, 8), normal(1, 3, 3, 4, 64), None, geometry, 16)
    assert products(launch) == 9  # not 16 times 9


def check_maximum(x, taps, stride, pad) -> None:
    """Maxima of windows and what their gradient gives, against PyTorch."""
    geometry = geometry_of(x.shape[1:], taps, stride, pad, (1,) * len(taps))
    planes = x.reshape(x.shape[0], *(1,) * (4 - x.ndim), *x.shape[1:])
    source = torch.from_numpy(x).requires_grad_()
    expected = (F.max_pool3d if len(taps) == 3 else F.max_pool2d)(source[None], taps, stride, pad)
    best = pool(planes, nl.maximum, LOWEST, geometry)
    np.testing.assert_array_equal(best.reshape(expected[0].shape), expected[0].detach().numpy())
    grad = normal(*best.shape, seed=1)
    expected.backward(torch.from_numpy(grad).reshape(expected.shape))
    got = unpool_max(planes, grad, geometry)
    np.testing.assert_allclose(got.reshape(x.shape), source.grad.numpy(), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), window=st.one_of(st.tuples(pairs, pairs), st.tuples(triples, triples)))
def test_maximum_and_its_gradient(data, window) -> None:
    taps, stride = window
    pad = tuple(data.draw(st.integers(0, k // 2)) for k in taps)
    size = tuple(data.draw(st.integers(k, 9)) for k in taps)
    check_maximum(normal(5, *size).round(1), taps, stride, pad)  # equal neighbours


@pytest.mark.parametrize(("size", "taps", "stride", "pad"), [
    ((150, 170), (3, 3), (2, 2), (1, 1)), ((9, 60, 50), (3, 2, 3), (1, 2, 2), (1, 0, 1)),
    ((260, 90), (2, 2), (3, 3), (0, 0)),
])  # fmt: skip
def test_gradient_of_the_maximum_over_more_than_the_memory_of_a_partition(
    size, taps, stride, pad
) -> None:
    live = 4 * np.prod(size) * nl.float32.itemsize
    assert live > nl.tile_size.total_available_sbuf_size
    check_maximum(normal(2, *size).round(1), taps, stride, pad)
