"""Norms, activations and MLPs of a transformer, written by name into a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tenzing.compiler import ops
from tenzing.compiler.graph import F32, Value
from tenzing.compiler.models.author import Author
from tenzing.errors import UnsupportedOp

QUICK_GELU: Final = 1.702  # Hendrycks and Gimpel, "Gaussian error linear units", 2016


@dataclass(frozen=True)
class Norm:
    """A norm of the last dim: ``rms`` or ``layer``; Gemma stores its weights minus one."""

    kind: str = "rms"
    epsilon: float = 1e-6
    minus_one: bool = False

    def write(self, author: Author, x: Value, name: str) -> Value:
        """x normalised and weighted."""
        width = x.shape[-1]
        weight = author.weight(f"{name}.weight", width)
        if self.kind == "layer":
            bias = author.weight(f"{name}.bias", width)
            return author.add(ops.LayerNorm(self.epsilon), x, weight, bias)
        if self.minus_one:
            wide = author.add(ops.Convert(F32), weight)
            weight = author.add(ops.Add(), wide, author.splat(1.0, wide))
            if author.dtype != F32:
                weight = author.add(ops.Convert(author.dtype), weight)
        return author.add(ops.RmsNorm(self.epsilon), x, weight)


def _quick_gelu(author: Author, x: Value) -> Value:
    bent = author.add(ops.Logistic(), author.scaled(x, QUICK_GELU))
    return author.add(ops.Multiply(), x, bent)


def _single(op: ops.Op) -> Callable[[Author, Value], Value]:
    return lambda author, x: author.add(op, x)


ACTIVATIONS: Final[Mapping[str, Callable[[Author, Value], Value]]] = {
    "silu": _single(ops.Silu()), "swish": _single(ops.Silu()), "relu": _single(ops.Relu()),
    "gelu": _single(ops.Gelu()), "gelu_new": _single(ops.Gelu("tanh")),
    "gelu_pytorch_tanh": _single(ops.Gelu("tanh")), "gelu_fast": _single(ops.Gelu("tanh")),
    "quick_gelu": _quick_gelu,
}  # fmt: skip


def activated(author: Author, kind: str, x: Value) -> Value:
    """The activation of a configuration's name."""
    if kind not in ACTIVATIONS:
        raise UnsupportedOp("no builder for this activation", got=kind,
                            allowed=", ".join(ACTIVATIONS))  # fmt: skip
    return ACTIVATIONS[kind](author, x)


@dataclass(frozen=True)
class Mlp:
    """Two linears around an activation, or gated: act(x G) * (x U), then down.

    ``names``: gate, up and down; up and down without a gate; or the gate and up that lie joined in
    one weight, and down.
    """

    width: int
    activation: str = "silu"
    names: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    joined: bool = False
    bias: bool = False
    turned: bool = False

    def write(self, author: Author, x: Value) -> Value:
        """[batch, tokens, hidden]."""
        *first, down = self.names
        wide = [
            author.linear(x, name, self.width * (1 + self.joined), bias=self.bias,
                          turned=self.turned)
            for name in first
        ]  # fmt: skip
        if self.joined:
            last = len(x.shape) - 1
            wide = [author.part(wide[0], last, k * self.width, (k + 1) * self.width)
                    for k in (0, 1)]  # fmt: skip
        inner = activated(author, self.activation, wide[0])
        if len(wide) > 1:
            inner = author.add(ops.Multiply(), inner, wide[1])
        return author.linear(inner, down, x.shape[-1], bias=self.bias, turned=self.turned)


__all__ = ["ACTIVATIONS", "Mlp", "Norm", "activated"]
