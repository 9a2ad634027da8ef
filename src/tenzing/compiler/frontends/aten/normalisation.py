"""ATen normalisations over batches, groups and layers, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.reduction import reduce
from tenzing.compiler.frontends.aten.translator import Result, Translator, aten
from tenzing.compiler.graph import Value

Optional = Value | None


def _channel(t: Translator, vector: Value, like: Value) -> Value:
    """One number per channel, over the whole of ``like`` [N, C, ...]."""
    return t.emit(ops.BroadcastInDim(like.shape, (1,)), t.convert(vector, like.dtype))


def _mul(t: Translator, a: Value, b: Value) -> Value:
    return t.emit(ops.Multiply(), a, b)


def _sub(t: Translator, a: Value, b: Value) -> Value:
    return t.emit(ops.Subtract(), a, b)


def _rstd(t: Translator, variance: Value, epsilon: float) -> Value:
    safe = t.emit(ops.Add(), variance, t.splat(epsilon, variance.type))
    return t.emit(ops.Rsqrt(), safe)


def _scale_and_shift(
    t: Translator, x: Value, mean: Value, rstd: Value, weight: Optional, bias: Optional
) -> Value:
    """(x - mean) * rstd * weight + bias, with one factor and one summand per channel."""
    factor = rstd if weight is None else _mul(t, t.convert(weight, rstd.dtype), rstd)
    lost = _mul(t, mean, factor)
    shift = t.emit(ops.Negate(), lost)
    if bias is not None:
        shift = _sub(t, t.convert(bias, lost.dtype), lost)
    scaled = _mul(t, x, _channel(t, factor, x))
    return t.emit(ops.Add(), scaled, _channel(t, shift, x))


def _moments(t: Translator, x: Value, dims: Sequence[int]) -> tuple[Value, Value]:
    """Mean and biased variance over dims."""
    count = math.prod(x.shape[d] for d in dims)
    kept = [d for d in range(len(x.shape)) if d not in dims]
    total = reduce(t, "add", x, dims)
    mean = _mul(t, total, t.splat(1.0 / count, total.type))
    centred = _sub(t, x, t.emit(ops.BroadcastInDim(x.shape, tuple(kept)), mean))
    squares = reduce(t, "add", _mul(t, centred, centred), dims)
    return mean, _mul(t, squares, t.splat(1.0 / count, squares.type))


def _others(x: Value) -> list[int]:
    return [d for d in range(len(x.shape)) if d != 1]


@aten("_native_batch_norm_legit_no_training.default")
def _batch_norm_fixed(
    t: Translator, x: Value, weight: Optional, bias: Optional, mean: Value, variance: Value,
    momentum: float, epsilon: float,
) -> Result:  # fmt: skip
    out = _scale_and_shift(t, x, mean, _rstd(t, variance, epsilon), weight, bias)
    empty = t.emit(ops.Constant.splat(0.0, (0,), mean.dtype))
    return out, empty, empty


@aten("_native_batch_norm_legit_functional.default")
def _batch_norm(
    t: Translator, x: Value, weight: Optional, bias: Optional, mean: Value, variance: Value,
    training: bool, momentum: float, epsilon: float,
) -> Result:  # fmt: skip
    """Also the running statistics after this batch, as PyTorch updates them."""
    if not training:
        rstd = _rstd(t, variance, epsilon)
        return _scale_and_shift(t, x, mean, rstd, weight, bias), None, None, mean, variance
    own_mean, own_variance = _moments(t, x, _others(x))
    rstd = _rstd(t, own_variance, epsilon)
    out = _scale_and_shift(t, x, own_mean, rstd, weight, bias)
    count = x.type.elements // x.shape[1]
    unbiased = count / max(count - 1, 1)
    spread = _mul(t, own_variance, t.splat(unbiased, own_variance.type))
    new = [
        t.emit(ops.Add(), _mul(t, old, t.splat(1.0 - momentum, old.type)),
               _mul(t, fresh, t.splat(momentum, fresh.type)))
        for old, fresh in ((mean, own_mean), (variance, spread))
    ]  # fmt: skip
    return out, own_mean, rstd, new[0], new[1]


@aten("native_batch_norm.default", "_native_batch_norm_legit.default")
def _native_batch_norm(
    t: Translator, x: Value, weight: Optional, bias: Optional, mean: Optional, variance: Optional,
    training: bool, momentum: float, epsilon: float,
) -> Result:  # fmt: skip
    if not training and mean is not None and variance is not None:
        return _batch_norm_fixed(t, x, weight, bias, mean, variance, momentum, epsilon)
    own_mean, own_variance = _moments(t, x, _others(x))
    rstd = _rstd(t, own_variance, epsilon)
    return _scale_and_shift(t, x, own_mean, rstd, weight, bias), own_mean, rstd


@aten("_native_batch_norm_legit.no_stats")
def _batch_norm_without_stats(
    t: Translator, x: Value, weight: Optional, bias: Optional, training: bool, momentum: float,
    epsilon: float,
) -> Result:  # fmt: skip
    return _native_batch_norm(t, x, weight, bias, None, None, True, momentum, epsilon)


@aten("native_batch_norm_backward.default")
def _batch_norm_backward(
    t: Translator, grad: Value, x: Value, weight: Optional, mean: Optional, variance: Optional,
    own_mean: Optional, own_rstd: Optional, training: bool, epsilon: float, wanted: Sequence[bool],
) -> Result:  # fmt: skip
    dims, count = _others(x), x.type.elements // x.shape[1]
    centre, rstd = own_mean, own_rstd
    if not training and mean is not None and variance is not None:
        centre, rstd = mean, _rstd(t, variance, epsilon)
    assert centre is not None
    assert rstd is not None
    normal = _mul(t, _sub(t, x, _channel(t, centre, x)), _channel(t, rstd, x))
    for_bias = reduce(t, "add", grad, dims)
    for_weight = reduce(t, "add", _mul(t, grad, normal), dims)
    factor = rstd if weight is None else _mul(t, weight, rstd)
    inner = grad
    if training:
        share = t.splat(1.0 / count, for_bias.type)
        inner = _sub(t, grad, _channel(t, _mul(t, for_bias, share), x))
        inner = _sub(t, inner, _mul(t, normal, _channel(t, _mul(t, for_weight, share), x)))
    onto = _mul(t, inner, _channel(t, factor, x))
    return (onto if wanted[0] else None), for_weight, for_bias


@aten("native_group_norm.default")
def _group_norm(
    t: Translator, x: Value, weight: Optional, bias: Optional, batch: int, channels: int,
    size: int, groups: int, epsilon: float,
) -> Result:  # fmt: skip
    rows = t.reshape(x, (batch, groups, channels * size // groups))
    normal = t.reshape(t.emit(ops.LayerNorm(epsilon), rows), x.shape)
    if weight is not None:
        normal = _mul(t, normal, _channel(t, weight, x))
    if bias is not None:
        normal = t.emit(ops.Add(), normal, _channel(t, bias, x))
    if t.used == {0}:
        return normal, None, None
    mean, variance = _moments(t, rows, [2])
    return normal, mean, _rstd(t, variance, epsilon)


@aten("native_group_norm_backward.default")
def _group_norm_backward(
    t: Translator, grad: Value, x: Value, mean: Value, rstd: Value, weight: Optional, batch: int,
    channels: int, size: int, groups: int, wanted: Sequence[bool],
) -> Result:  # fmt: skip
    shape = (batch, groups, channels * size // groups)

    def spread(value: Value) -> Value:
        return t.emit(ops.BroadcastInDim(shape, (0, 1)), value)

    rows = t.reshape(x, shape)
    normal = _mul(t, _sub(t, rows, spread(mean)), spread(rstd))
    flat = t.reshape(normal, x.shape)
    for_weight = reduce(t, "add", _mul(t, grad, flat), _others(x))
    for_bias = reduce(t, "add", grad, _others(x))
    scaled = grad if weight is None else _mul(t, grad, _channel(t, weight, x))
    inner = t.reshape(scaled, shape)
    share = 1.0 / shape[2]
    first = reduce(t, "add", inner, 2)
    second = reduce(t, "add", _mul(t, inner, normal), 2)
    inner = _sub(t, inner, spread(_mul(t, first, t.splat(share, first.type))))
    inner = _sub(t, inner, _mul(t, normal, spread(_mul(t, second, t.splat(share, second.type)))))
    onto = t.reshape(_mul(t, inner, spread(rstd)), x.shape)
    return (onto if wanted[0] else None), for_weight, for_bias
