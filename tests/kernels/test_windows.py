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
    dims = zip(size, taps, stride, pad, dilation, strict=True)
    output = tuple((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in dims)
    return Geometry(taps, output, stride, pad, dilation)


def products(launch) -> int:
    """Matrix products that a launch issues."""
    return launch.programs[0].text().count("nc_matmul(")


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


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
    got = convolution(
        x, np.ascontiguousarray(w.transpose(2, 3, 1, 0)), bias,
        geometry_of(size, taps, stride, pad, dilation), groups, op=nl.relu,
    )  # fmt: skip
    np.testing.assert_allclose(got, expected.numpy(), atol=2e-4, rtol=2e-4)


def test_few_channels_share_the_partitions_with_rows_of_taps() -> None:
    geometry = geometry_of((20, 20), (7, 7), (2, 2), (3, 3), (1, 1))
    launch = convolution.launch(normal(1, 3, 20, 20), normal(7, 7, 3, 8), None, geometry)
    assert products(launch) == 7  # not 49
    assert [f.message for f in analyse(launch.programs[0]).findings] == []


def test_small_groups_multiply_together() -> None:
    geometry = geometry_of((8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    launch = convolution.launch(normal(1, 64, 8, 8), normal(3, 3, 4, 64), None, geometry, 16)
    assert products(launch) == 9  # not 16 times 9


@settings(max_examples=15, deadline=None)
@given(data=st.data(), taps=pairs, stride=pairs)
def test_maximum_and_its_gradient(data, taps, stride) -> None:
    pad = tuple(data.draw(st.integers(0, k // 2)) for k in taps)
    size = tuple(data.draw(st.integers(k, 12)) for k in taps)
    x = normal(5, *size).round(1)  # equal neighbours
    geometry = geometry_of(size, taps, stride, pad, (1, 1))
    source = torch.from_numpy(x).requires_grad_()
    expected = F.max_pool2d(source[None], taps, stride, pad)[0]
    np.testing.assert_array_equal(pool(x, nl.maximum, LOWEST, geometry), expected.detach().numpy())
    grad = normal(*expected.shape, seed=1)
    expected.backward(torch.from_numpy(grad))
    np.testing.assert_allclose(unpool_max(x, grad, geometry), source.grad.numpy(), atol=1e-5)
