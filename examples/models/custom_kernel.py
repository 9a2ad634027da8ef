"""A kernel of one's own inside a PyTorch model: one node, with a gradient, in the program."""

from __future__ import annotations

import torch

import tenzing
from tenzing import nki
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


@nki.jit
def scaled(x, factor: float):
    """``x`` times a number, for at most 128 rows."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nisa.dma_copy(dst=out, src=tile)
    return out


def gradient(given, x, factor):
    return operation(given, factor), None


operation = tenzing.torch.custom_kernel(
    scaled, lambda x, factor: torch.empty_like(x), backward=gradient
)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(16, 16)

    def forward(self, x):
        return operation(self.linear(x), 0.5) + x


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 16)
    compiled = tenzing.compile(Net().eval(), (x,))
    print(compiled.text())
    print(compiled.compare(x))
    net = Net()
    net(x).sum().backward()
    print("gradient of the bias:", net.linear.bias.grad[0].item())


if __name__ == "__main__":
    main()
