"""ONNX normalisations."""

from __future__ import annotations

import math
from typing import Any

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.reduction import mean_of
from tenzing.compiler.frontends.onnx_ops.translator import MICROSOFT, Item, Translator, onnx
from tenzing.compiler.graph import F32, Value

EPSILON = 1e-5
SKIP_EPSILON = 1e-12


@onnx("BatchNormalization")
def _batch_norm(
    t: Translator, x: Value, scale: Value, bias: Value, mean: Value, variance: Value, *,
    epsilon: float = EPSILON, momentum: float = 0.9, training_mode: int = 0, spatial: int = 1,
    is_test: int = 0, consumed_inputs: object = None,
) -> Item:  # fmt: skip
    if training_mode or not spatial:
        return _batch_norm_training(t, x, scale, bias, mean, variance, epsilon, momentum)
    wide = [t.convert(v, x.dtype) for v in (scale, bias, mean, variance)]
    found = t.aten("_native_batch_norm_legit_no_training.default", x.type, x, *wide, 0.0, epsilon)
    return found[0]


def _batch_norm_training(
    t: Translator, x: Value, scale: Value, bias: Value, mean: Value, variance: Value,
    epsilon: float, momentum: float,
) -> Item:  # fmt: skip
    """Statistics of the batch; ONNX's momentum is what stays of the running ones."""
    dims = [d for d in range(len(x.shape)) if d != 1]
    centre = mean_of(t, x, dims)
    apart = t.apply(ops.Subtract(), x, centre)
    spread = mean_of(t, t.emit(ops.Multiply(), apart, apart), dims)
    inverse = t.emit(ops.Rsqrt(), t.apply(ops.Add(), spread, epsilon))
    normal = t.apply(ops.Multiply(), apart, inverse)
    factor, summand = (t.emit(ops.BroadcastInDim(x.shape, (1,)), t.convert(v, x.dtype))
                       for v in (scale, bias))  # fmt: skip
    out = t.emit(ops.Add(), t.emit(ops.Multiply(), normal, factor), summand)
    new = [
        t.emit(ops.Add(), t.apply(ops.Multiply(), old, momentum),
               t.apply(ops.Multiply(), t.convert(t.reshape(v, old.shape), old.dtype), 1 - momentum))
        for old, v in ((mean, centre), (variance, spread))
    ]  # fmt: skip
    return out, *new


@onnx("InstanceNormalization")
def _instance_norm(
    t: Translator, x: Value, scale: Value, bias: Value, *, epsilon: float = EPSILON,
    consumed_inputs: object = None,
) -> Item:  # fmt: skip
    batch, channels, *space = x.shape
    result = t.aten("native_group_norm.default", x.type, x, scale, bias, batch, channels,
                    math.prod(space), channels, epsilon)  # fmt: skip
    return result[0]


@onnx("GroupNormalization", since=21)
def _group_norm(
    t: Translator, x: Value, scale: Value, bias: Value, *, num_groups: int,
    epsilon: float = EPSILON, stash_type: int = 1,
) -> Item:  # fmt: skip
    batch, channels, *space = x.shape
    result = t.aten("native_group_norm.default", x.type, x, scale, bias, batch, channels,
                    math.prod(space), num_groups, epsilon)  # fmt: skip
    return result[0]


def _weights(t: Translator, x: Value, axis: int, *extras: Value | None) -> list[Value] | None:
    """Weight and bias as rows of the normalised dims; None when they are not of those alone."""
    shape = x.shape[axis:]
    found = []
    for extra in extras:
        if extra is not None:
            trimmed = extra.shape[len(extra.shape) - len(shape) :]
            if trimmed != shape or extra.type.elements != math.prod(shape):
                return None
            found.append(t.reshape(t.convert(extra, x.dtype), (math.prod(shape),)))
    return found


@onnx("LayerNormalization")
def _layer_norm(
    t: Translator, x: Value, scale: Value, bias: Value | None = None, *, axis: int = -1,
    epsilon: float = EPSILON, stash_type: int = 1,
) -> Item:  # fmt: skip
    dim = t.axis(axis, len(x.shape))
    extras = _weights(t, x, dim, scale, bias)
    if extras is None:
        return NotImplemented
    rows = t.reshape(x, (*x.shape[:dim], math.prod(x.shape[dim:])))
    out = t.reshape(t.emit(ops.LayerNorm(epsilon), rows, *extras), x.shape)
    if t.outputs == 1:
        return out
    wide = t.convert(x, F32)
    dims = tuple(range(dim, len(x.shape)))
    mean = mean_of(t, wide, dims)
    apart = t.apply(ops.Subtract(), wide, mean)
    variance = mean_of(t, t.emit(ops.Multiply(), apart, apart), dims)
    inverse = t.emit(ops.Rsqrt(), t.apply(ops.Add(), variance, epsilon))
    return out, mean, inverse


@onnx("RMSNormalization", since=23)
def _rms_norm(
    t: Translator, x: Value, scale: Value, *, axis: int = -1, epsilon: float = EPSILON,
    stash_type: int = 1,
) -> Item:  # fmt: skip
    dim = t.axis(axis, len(x.shape))
    extras = _weights(t, x, dim, scale)
    if extras is None:
        return NotImplemented
    rows = t.reshape(x, (*x.shape[:dim], math.prod(x.shape[dim:])))
    return t.reshape(t.emit(ops.RmsNorm(epsilon), rows, *extras), x.shape)


@onnx("SimplifiedLayerNormalization")
def _simplified(t: Translator, x: Value, scale: Value, **named: Any) -> Item:
    return _rms_norm(t, x, scale, **named)


@onnx("SkipLayerNormalization", domain=MICROSOFT)
def _skip_layer_norm(
    t: Translator, x: Value, skip: Value, gamma: Value, beta: Value | None = None,
    bias: Value | None = None, *, epsilon: float = SKIP_EPSILON,
) -> Item:  # fmt: skip
    total = _with_skip(t, x, skip, bias)
    extras = [v for v in (gamma, beta) if v is not None]
    return t.emit(ops.LayerNorm(epsilon), total, *extras), None, None, total


@onnx("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _skip_rms_norm(
    t: Translator, x: Value, skip: Value, gamma: Value, bias: Value | None = None, *,
    epsilon: float = SKIP_EPSILON,
) -> Item:  # fmt: skip
    total = _with_skip(t, x, skip, bias)
    return t.emit(ops.RmsNorm(epsilon), total, gamma), None, None, total


def _with_skip(t: Translator, x: Value, skip: Value, bias: Value | None) -> Value:
    total = x if bias is None else t.apply(ops.Add(), x, bias)
    return t.apply(ops.Add(), total, skip)
