"""Convolutions, pools, resizing and channel norms mean what PyTorch means, gradients too."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from tenzing.compiler.frontends import torch_compile  # noqa: E402
from tenzing.errors import UnsupportedOp  # noqa: E402

from .test_aten import agree, draw  # noqa: E402

pytestmark = pytest.mark.torch


def test_convolutions_of_every_form() -> None:
    x, w = draw(2, 4, 9, 8), draw(6, 4, 3, 2, seed=1)
    grouped, depth = draw(6, 2, 3, 2, seed=2), draw(8, 1, 3, 3, seed=3)
    agree(
        {
            "plain": lambda x, w, *_: F.conv2d(x, w),
            "strided": lambda x, w, *_: F.conv2d(x, w, torch.arange(6.0), (2, 1), (1, 0)),
            "dilated": lambda x, w, *_: F.conv2d(x, w, dilation=(2, 3), padding=2),
            "same": lambda x, w, *_: F.conv2d(x, w, padding="same"),
            "grouped": lambda x, _, g, __: F.conv2d(x, g, groups=2),
            "depthwise": lambda x, _, __, d: F.conv2d(x, d, groups=4, padding=1),
            "line": lambda x, w, *_: F.conv1d(x[:, :, 0], w[..., 0], stride=2, padding=1),
            "volume": lambda x, w, *_: F.conv3d(x[:, None], w[:, :1, None], padding=(0, 1, 0)),
            "alone": lambda x, w, *_: F.conv2d(x[0], w),
        },
        x, w, grouped, depth, tolerance=2e-5,
    )  # fmt: skip


def test_transposed_convolutions() -> None:
    x, w = draw(2, 4, 5, 6), draw(4, 3, 3, 2, seed=1)
    agree(
        {
            "plain": lambda x, w: F.conv_transpose2d(x, w),
            "strided": lambda x, w: F.conv_transpose2d(x, w, None, (2, 3), 1, (1, 2)),
            "grouped": lambda x, w: F.conv_transpose2d(x, w, torch.ones(6), 2, groups=2),
            "dilated": lambda x, w: F.conv_transpose2d(x, w, dilation=2, padding=(1, 0)),
            "line": lambda x, w: F.conv_transpose1d(x[:, :, 0], w[..., 0], stride=2),
        },
        x, w, tolerance=2e-5,
    )  # fmt: skip


def test_pools() -> None:
    agree(
        {
            "max": lambda x: F.max_pool2d(x, 3, 2, 1),
            "max_ceil": lambda x: F.max_pool2d(x, (2, 3), 2, ceil_mode=True),
            "max_dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=2),
            "max_indices": lambda x: F.max_pool2d(x.round(), 3, 2, 1, return_indices=True)[1],
            "max_line": lambda x: F.max_pool1d(x[:, :, 0], 2),
            "avg": lambda x: F.avg_pool2d(x, 3, 2, 1),
            "avg_inside": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "avg_ceil": lambda x: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True),
            "avg_divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
            "avg_line": lambda x: F.avg_pool1d(x[:, :, 0], 3, 1),
            "global": lambda x: F.adaptive_avg_pool2d(x, 1),
            "adaptive": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
            "adaptive_line": lambda x: F.adaptive_avg_pool1d(x[:, :, 0], 4),
            "adaptive_max": lambda x: F.adaptive_max_pool2d(x[..., :8], (3, 2)),
        },
        draw(2, 4, 9, 11),
    )


def resized(**options: Any) -> Any:
    return lambda x: F.interpolate(x, **options)


def test_resizing() -> None:
    agree(
        {
            "double": resized(scale_factor=2),
            "nearest": resized(size=(4, 13)),
            "nearest_exact": resized(size=(4, 13), mode="nearest-exact"),
            "bilinear": resized(size=(11, 5), mode="bilinear"),
            "bilinear_corners": resized(size=(11, 5), mode="bilinear", align_corners=True),
            "bilinear_factor": resized(scale_factor=1.7, mode="bilinear"),
            "bicubic": resized(size=(11, 5), mode="bicubic"),
            "bicubic_factor": resized(
                scale_factor=2.3, mode="bicubic", recompute_scale_factor=False
            ),
            "smooth": resized(size=(3, 9), mode="bilinear", antialias=True),
            "smooth_cubic": resized(size=(3, 9), mode="bicubic", antialias=True),
            "line": lambda x: F.interpolate(x[:, :, 0], size=10, mode="linear"),
        },
        draw(2, 3, 6, 7), tolerance=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_sampling_on_a_grid(mode: str, padding: str) -> None:
    def sampled(align: bool) -> Any:
        return lambda x, grid: F.grid_sample(x, grid, mode, padding, align)

    cases = {"corners": sampled(True), "plain": sampled(False)}
    agree(cases, draw(2, 3, 5, 6), draw(2, 4, 7, 2, seed=1) * 0.8, tolerance=2e-5)


def test_sampling_of_volumes() -> None:
    cases = {"linear": lambda x, grid: F.grid_sample(x, grid, align_corners=False)}
    agree(cases, draw(2, 3, 4, 5, 6), draw(2, 3, 2, 4, 3, seed=1) * 0.8, tolerance=2e-5)


def test_rearrangements_of_images() -> None:
    agree(
        {
            "shuffle": lambda x: F.pixel_shuffle(x, 2),
            "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
            "unfold": lambda x: F.unfold(x, (3, 2), padding=1, stride=2),
            "reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
            "replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
            "circular": lambda x: F.pad(x, (1, 2, 1, 0), mode="circular"),
            "roll": lambda x: torch.roll(x, (2, -1), (2, 3)),
        },
        draw(2, 4, 6, 8),
    )


def test_norms_over_channels() -> None:
    x, row = draw(2, 6, 5, 4), draw(6, seed=1)
    agree(
        {
            "batch": lambda x, r: F.batch_norm(x, r, r * r + 1, r, r + 1),
            "bare": lambda x, r: F.batch_norm(x, r, r * r + 1),
            "group": lambda x, r: F.group_norm(x, 3, r, r + 1),
            "instance": lambda x, r: F.instance_norm(x),
        },
        x, row, tolerance=1e-5,
    )  # fmt: skip


def test_an_uneven_adaptive_maximum_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOp, match="adaptive maximum"):
        agree({"adaptive_max": lambda x: F.adaptive_max_pool2d(x, (3, 2))}, draw(1, 2, 9, 9))


GRADIENTS = {
    "conv": lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 0)),
    "conv_dilated_bias": lambda x, w: F.conv2d(x, w, w.sum((1, 2, 3)), 1, 2, (1, 2)),
    "conv_grouped": lambda x, w: F.conv2d(x, w[:, :2], None, 2, 1, groups=2),
    "depthwise": lambda x, w: F.conv2d(x, w[:4, :1], None, 1, 1, groups=4),
    "transposed": lambda x, w: F.conv_transpose2d(x, w[:4], None, 2, 1, 1),
    "transposed_grouped": lambda x, w: F.conv_transpose2d(x, w[:4], None, 2, groups=2),
    "max_pool": lambda x, w: F.max_pool2d(x, 3, 2, 1),
    "max_pool_of_equals": lambda x, w: F.max_pool2d(F.relu(x - 2), 3, 1, 1),
    "avg_pool": lambda x, w: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "global_pool": lambda x, w: F.adaptive_avg_pool2d(x, 1),
    "adaptive_pool": lambda x, w: F.adaptive_avg_pool2d(x, (3, 4)),
    "bilinear": lambda x, w: F.interpolate(x, size=(5, 11), mode="bilinear"),
    "nearest": lambda x, w: F.interpolate(x, scale_factor=2),
    "bicubic": lambda x, w: F.interpolate(x, size=(5, 11), mode="bicubic"),
    "batch_norm": lambda x, w: F.batch_norm(x, None, None, w[:4, 0, 0, 0], None, True),
    "group_norm": lambda x, w: F.group_norm(x, 2, w[:4, 0, 0, 0], w[:4, 1, 0, 0]),
    "reflect": lambda x, w: F.pad(x, (1, 2, 3, 0), mode="reflect"),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    function = GRADIENTS[name]
    results = []
    for run in (function, torch.compile(function, backend=torch_compile.make_backend())):
        torch._dynamo.reset()
        inputs = [draw(2, 4, 8, 9).requires_grad_(), draw(6, 4, 3, 3, seed=1).requires_grad_()]
        out = run(*inputs)
        (out * draw(*out.shape, seed=5)).sum().backward()
        results.append([out.detach(), *(x.grad for x in inputs if x.grad is not None)])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=2e-4, atol=2e-4)
