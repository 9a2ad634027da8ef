"""Convolutions, pooling, resizing and norms of PyTorch, forward and backward, on the chip."""

from __future__ import annotations

import pytest

from tenzing import compiler
from tenzing.compiler.frontends.torch_compile import make_backend

from ..modules import Wrap, normal

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch


CONVOLUTIONS = {
    "plain": ((2, 3, 9, 8), (5, 3, 3, 3), {}),
    "strided_padded": ((2, 3, 9, 8), (5, 3, 3, 2), {"stride": 2, "padding": 1}),
    "dilated": ((1, 4, 11, 9), (6, 4, 3, 3), {"dilation": 2, "padding": (2, 1)}),
    "grouped": ((2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2}),
    "depthwise": ((2, 6, 7, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    "depthwise_twice": ((1, 3, 7, 7), (6, 1, 2, 2), {"groups": 3}),
    "patches": ((2, 3, 8, 12), (5, 3, 4, 4), {"stride": 4}),
    "pointwise": ((2, 130, 5, 5), (140, 130, 1, 1), {}),
    "line": ((2, 3, 17), (4, 3, 5), {"stride": 2, "padding": 2}),
    "line_depthwise": ((2, 4, 17), (4, 1, 4), {"groups": 4, "padding": 3}),
    "wide": ((1, 2, 3, 600), (3, 2, 2, 2), {}),
    "volume": ((2, 3, 5, 6, 7), (4, 3, 3, 2, 3), {"stride": (1, 2, 1), "padding": (1, 0, 1)}),
    "volume_dilated": ((1, 4, 7, 6, 7), (6, 2, 3, 2, 2), {"dilation": (2, 1, 2), "groups": 2}),
    "volume_depthwise": ((2, 4, 5, 6, 6), (4, 1, 3, 3, 3), {"groups": 4, "padding": 1}),
    "tubelets": ((1, 3, 4, 8, 8), (5, 3, 2, 4, 4), {"stride": (2, 4, 4)}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str) -> None:
    shape, kernel, options = CONVOLUTIONS[name]
    function = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(shape)]
    module = Wrap(lambda x, w, b: function(x, w, b, **options)).eval()
    inputs = normal(*shape), normal(*kernel, seed=1), normal(kernel[0], seed=2)
    got = compiler.compile(module, inputs)(*inputs)
    torch.testing.assert_close(got, module(*inputs), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [
    {"stride": 2}, {"stride": (2, 1), "padding": 1, "output_padding": (1, 0)}, {"groups": 2},
    {"dilation": 2, "stride": 3},
])  # fmt: skip
def test_transposed_convolution(options: dict) -> None:
    module = Wrap(lambda x, w: F.conv_transpose2d(x, w, **options)).eval()
    inputs = normal(2, 4, 5, 6), normal(4, 3, 3, 2, seed=1)
    got = compiler.compile(module, inputs)(*inputs)
    torch.testing.assert_close(got, module(*inputs), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [
    {"stride": (2, 1, 2), "padding": 1, "output_padding": (1, 0, 1)}, {"groups": 2},
])  # fmt: skip
def test_transposed_convolution_of_volumes(options: dict) -> None:
    module = Wrap(lambda x, w: F.conv_transpose3d(x, w, **options)).eval()
    inputs = normal(2, 4, 3, 5, 4), normal(4, 3, 2, 3, 2, seed=1)
    got = compiler.compile(module, inputs)(*inputs)
    torch.testing.assert_close(got, module(*inputs), atol=2e-5, rtol=1e-5)


VOLUME_POOLS = {
    "max": lambda x: F.max_pool3d(x, (2, 3, 2), 2, (1, 1, 0)),
    "max_indices": lambda x: F.max_pool3d(x.round(), 2, 2, return_indices=True)[1],
    "average": lambda x: F.avg_pool3d(x, 2, (1, 2, 2), count_include_pad=False, padding=1),
    "adaptive": lambda x: F.adaptive_avg_pool3d(x, (2, 3, 2)),
    "global": lambda x: F.adaptive_avg_pool3d(x, 1),
    "adaptive_max": lambda x: F.adaptive_max_pool3d(x, (1, 3, 2)),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "trilinear": lambda x: F.interpolate(x, size=(5, 7, 3), mode="trilinear"),
}


@pytest.mark.parametrize("name", VOLUME_POOLS)
def test_pooling_and_resizing_of_volumes(name: str) -> None:
    module = Wrap(VOLUME_POOLS[name]).eval()
    inputs = (normal(2, 3, 4, 6, 6),)
    got = compiler.compile(module, inputs)(*inputs)
    torch.testing.assert_close(got, module(*inputs), atol=1e-5, rtol=1e-5)


VOLUME_GRADIENTS = {
    "convolution": lambda x, w: F.conv3d(x, w, None, (1, 2, 1), 1),
    "transposed": lambda x, w: F.conv_transpose3d(x, w[:3], None, (2, 1, 1), 1),
    "max": lambda x, w: F.max_pool3d(x, 3, 2, 1),
    "average": lambda x, w: F.avg_pool3d(x, (2, 3, 2), 2, 1, ceil_mode=True),
}


@pytest.mark.parametrize("name", VOLUME_GRADIENTS)
def test_gradients_of_volumes(name: str) -> None:
    results = []
    compiled = torch.compile(VOLUME_GRADIENTS[name], backend=make_backend())
    torch._dynamo.reset()
    for run in (VOLUME_GRADIENTS[name], compiled):
        inputs = [normal(2, 3, 4, 6, 5).requires_grad_(), normal(4, 3, 3, 3, 2, seed=1)]
        inputs[1].requires_grad_()
        out = run(*inputs)
        (out * normal(*out.shape, seed=5)).sum().backward()
        results.append([out.detach(), *(x.grad for x in inputs if x.grad is not None)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


POOLS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "max_line": lambda x: F.max_pool1d(x[:, :, 0], 3, 2),
    "average": lambda x: F.avg_pool2d(x, 2),
    "average_padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average_uncounted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, size=(11, 5), mode="bilinear"),
    "bilinear_corners": lambda x: F.interpolate(x, (4, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, size=(10, 9), mode="bicubic"),
    "group_norm": lambda x: F.group_norm(x, 2),
    "instance_norm": lambda x: F.instance_norm(x),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_and_resizing(name: str) -> None:
    module = Wrap(POOLS[name]).eval()
    inputs = (normal(2, 4, 7, 7),)
    got = compiler.compile(module, inputs)(*inputs)
    torch.testing.assert_close(got, module(*inputs), atol=1e-5, rtol=1e-5)


class Net(torch.nn.Module):
    """Every kind of window layer that has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 8, 3, padding=1, groups=8),
            torch.nn.GroupNorm(2, 8),
            torch.nn.Conv2d(8, 6, 3, dilation=2, padding=2, groups=2, bias=False),
            torch.nn.AvgPool2d(2),
            torch.nn.ConvTranspose2d(6, 4, 2, stride=2),
            torch.nn.Upsample(scale_factor=2, mode="bilinear"),
            torch.nn.AdaptiveAvgPool2d(2),
        )

    def forward(self, x):
        return self.layers(x).flatten(1)


@pytest.mark.parametrize("training", [False, True])
def test_gradients(training: bool) -> None:
    net, x = Net().train(training), normal(4, 3, 12, 12).requires_grad_()
    (net(x) ** 2).sum().backward()
    expected = {n: p.grad.clone() for n, p in net.named_parameters()} | {"x": x.grad.clone()}
    other = Net().train(training)
    y = x.detach().clone().requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(other, backend=make_backend())
    (compiled(y) ** 2).sum().backward()
    got = {n: p.grad for n, p in other.named_parameters()} | {"x": y.grad}
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) + 1e-3
        error = float((got[name] - gradient).abs().max()) / scale
        assert error < 1e-4, (name, error)


def test_batch_norm_disappears_at_inference() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
    ).eval()
    net[1].running_mean.copy_(normal(8))
    net[1].running_var.copy_(normal(8, seed=1).abs() + 0.5)
    x = normal(2, 3, 8, 8)
    compiled = compiler.compile(net, (x,))
    kinds = compiled.graph.count()
    assert kinds["convolution"] == 1
    assert "multiply" not in str([n.op.name for n in compiled.graph.nodes])
    torch.testing.assert_close(compiled(x), net(x), atol=1e-5, rtol=1e-5)
