"""ONNX activation functions; those without a rule here are ONNX's own functions."""

from __future__ import annotations

from typing import Any

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.translator import MICROSOFT, Item, Translator, onnx
from tenzing.compiler.graph import Value

PRODUCT_TERMS = 3


@onnx("Gelu", since=20)
def _gelu(t: Translator, x: Value, *, approximate: str = "none") -> Item:
    return t.emit(ops.Gelu(approximate), x)


@onnx("Gelu", domain=MICROSOFT)
def _exact_gelu(t: Translator, x: Value) -> Item:
    return t.emit(ops.Gelu(), x)


@onnx("BiasGelu", domain=MICROSOFT)
def _bias_gelu(t: Translator, x: Value, bias: Value) -> Item:
    return t.emit(ops.Gelu(), t.apply(ops.Add(), x, bias))


@onnx("FastGelu", domain=MICROSOFT)
def _fast_gelu(t: Translator, x: Value, bias: Value | None = None) -> Item:
    return t.emit(ops.Gelu("tanh"), x if bias is None else t.apply(ops.Add(), x, bias))


@onnx("QuickGelu", domain=MICROSOFT)
def _quick_gelu(t: Translator, x: Value, *, alpha: float = 1.702) -> Item:
    return _swish(t, x, alpha=alpha)


@onnx("Swish", since=24)
def _swish(t: Translator, x: Value, *, alpha: float = 1.0) -> Item:
    if alpha == 1.0:
        return t.emit(ops.Silu(), x)
    gate = t.emit(ops.Logistic(), t.apply(ops.Multiply(), x, alpha))
    return t.emit(ops.Multiply(), x, gate)


@onnx("Softplus")
def _softplus(t: Translator, x: Value) -> Item:
    return t.emit(ops.Softplus(), x)


@onnx("LeakyRelu")
def _leaky_relu(t: Translator, x: Value, *, alpha: float = 0.01, **_: Any) -> Item:
    return t.aten("leaky_relu.default", x.type, x, alpha)


@onnx("PRelu")
def _p_relu(t: Translator, x: Value, slope: Value, **_: Any) -> Item:
    """A slope of one number per channel stood without its unit dims before version 7."""
    if len(slope.shape) == 1 and slope.shape[0] > 1 and t.opset < 7:  # noqa: PLR2004
        slope = t.reshape(slope, (*slope.shape, *(1 for _ in x.shape[2:])))
    return _sloped(t, x, slope)


def _sloped(t: Translator, x: Value, slope: Value) -> Value:
    positive = t.apply(ops.Compare("ge"), x, 0)
    low = t.apply(ops.Multiply(), x, slope)
    return t.emit(ops.Select(), positive, x, low)


@onnx("Elu")
def _elu(t: Translator, x: Value, *, alpha: float = 1.0, **_: Any) -> Item:
    return t.aten("elu.default", x.type, x, alpha)


@onnx("Selu")
def _selu(
    t: Translator, x: Value, *, alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875, **_: Any,
) -> Item:  # fmt: skip
    return t.aten("elu.default", x.type, x, alpha, gamma)


@onnx("HardSigmoid")
def _hard_sigmoid(
    t: Translator, x: Value, *, alpha: float = 0.2, beta: float = 0.5, **_: Any
) -> Item:
    line = t.apply(ops.Add(), t.apply(ops.Multiply(), x, alpha), beta)
    return t.apply(ops.Clamp(), 0.0, line, 1.0)
