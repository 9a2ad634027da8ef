"""ATen operations on complex numbers, as pairs of real values: the graph has no complex dtype.

Rotary embeddings of several models multiply complex numbers; Fourier transforms become products
with matrices of cosines and sines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.aten.movement import cut
from tenzing.compiler.frontends.aten.translator import (
    RULES,
    Complex,
    Number,
    Translator,
    aten,
    complex_rule,
)
from tenzing.compiler.graph import F32, Value

PART_BY_PART: Final = (
    "view.default", "_unsafe_view.default", "reshape.default", "expand.default", "permute.default",
    "transpose.int", "t.default", "unsqueeze.default", "squeeze.default", "squeeze.dim",
    "squeeze.dims", "slice.Tensor", "select.int", "clone.default", "alias.default",
    "detach.default", "cat.default", "stack.default", "repeat.default", "neg.default",
    "flip.default", "index.Tensor", "index_select.default", "split.Tensor",
    "split_with_sizes.default", "unbind.int", "embedding.default", "_to_copy.default",
)  # fmt: skip
UNITARY: Final = 1  # normalisation of a transform by the root of its size
BY_SIZE: Final = 2
NORMAL_POWER: Final = {0: 0.0, UNITARY: -0.5, BY_SIZE: -1.0}


def part_by_part(overload: str) -> Callable[..., Any]:
    """The rule of a real operation applied to real and imaginary parts."""

    def both(t: Translator, *arguments: Any, **named: Any) -> Any:
        rule: Callable[..., Any] = RULES[overload]
        real, imaginary = (  # two values, or two lists of them
            rule(t, *(_part(a, side) for a in arguments), **named) for side in ("real", "imaginary")
        )
        if isinstance(real, tuple):
            return tuple(map(Complex, real, imaginary))
        return Complex(real, imaginary)

    return both


def _part(argument: Any, side: str) -> Any:
    if isinstance(argument, Complex):
        return getattr(argument, side)
    if isinstance(argument, complex):
        return argument.real if side == "real" else argument.imag
    if isinstance(argument, list):
        return [_part(item, side) for item in argument]
    return argument


for _name in PART_BY_PART:
    complex_rule(_name)(part_by_part(_name))


@complex_rule("_assert_tensor_metadata.default")
def _nothing(t: Translator, *_: object, **__: object) -> None:
    return None


@aten("complex.default")
def _complex(t: Translator, real: Value, imaginary: Value) -> Complex:
    return Complex(*(t.tensor(v, t.result.shape, F32) for v in (real, imaginary)))


@aten("polar.default")
def _polar(t: Translator, size: Value, angle: Value) -> Complex:
    sides = (t.emit(op, angle) for op in (ops.Cosine(), ops.Sine()))
    return Complex(*(t.emit(ops.Multiply(), size, side) for side in sides))


@aten("view_as_complex.default", "view_as_complex_copy.default")
def _view_as_complex(t: Translator, x: Value) -> Complex:
    last = len(x.shape) - 1
    real, imaginary = (t.reshape(cut(t, x, last, i, i + 1), x.shape[:-1]) for i in (0, 1))
    return Complex(real, imaginary)


@complex_rule("view_as_real.default", "view_as_real_copy.default")
def _view_as_real(t: Translator, x: Complex) -> Value:
    thin = (t.reshape(part, (*part.shape, 1)) for part in (x.real, x.imaginary))
    return t.emit(ops.Concatenate(len(x.real.shape)), *thin)


@complex_rule("real.default")
def _real(t: Translator, x: Complex) -> Value:
    return x.real


@complex_rule("imag.default")
def _imaginary(t: Translator, x: Complex) -> Value:
    return x.imaginary


@complex_rule("_conj.default", "conj.default", "_conj_physical.default", "conj_physical.default")
def _conjugate(t: Translator, x: Complex) -> Complex:
    return Complex(x.real, t.emit(ops.Negate(), x.imaginary))


@complex_rule("resolve_conj.default", "resolve_neg.default")
@aten("resolve_conj.default", "resolve_neg.default")
def _resolve(t: Translator, x: Any) -> Any:
    return x


def _has_parts(x: object) -> bool:
    return isinstance(x, Complex | complex)


def _pair(t: Translator, x: Complex | Value | Number | complex) -> Complex:
    """Both parts in the result's shape."""
    parts: tuple[Any, Any] = (x, 0.0)
    if _has_parts(x):
        parts = (_part(x, "real"), _part(x, "imaginary"))
    return Complex(*(t.tensor(part, t.result.shape, F32) for part in parts))


@complex_rule("mul.Tensor")
def _multiply(t: Translator, x: Any, y: Any) -> Complex:
    a, b = _pair(t, x), _pair(t, y)

    def product(left: Value, right: Value) -> Value:
        return t.emit(ops.Multiply(), left, right)

    if not (_has_parts(x) and _has_parts(y)):
        one, other = (a, b.real) if _has_parts(x) else (b, a.real)
        return Complex(product(one.real, other), product(one.imaginary, other))
    straight = t.emit(ops.Subtract(), product(a.real, b.real), product(a.imaginary, b.imaginary))
    crossed = t.emit(ops.Add(), product(a.real, b.imaginary), product(a.imaginary, b.real))
    return Complex(straight, crossed)


def _linear(op: ops.Op) -> Callable[..., Complex]:
    def rule(t: Translator, x: Any, y: Any) -> Complex:
        a, b = _pair(t, x), _pair(t, y)
        return Complex(t.emit(op, a.real, b.real), t.emit(op, a.imaginary, b.imaginary))

    return rule


complex_rule("add.Tensor")(_linear(ops.Add()))
complex_rule("sub.Tensor")(_linear(ops.Subtract()))


@complex_rule("div.Tensor")
def _divide(t: Translator, x: Any, y: Any) -> Complex:
    if isinstance(y, complex) and y:
        return _multiply(t, x, 1 / y)
    if isinstance(y, Complex):
        raise t.unsupported("division by a complex number")
    a, b = _pair(t, x), _pair(t, y)
    return Complex(*(t.emit(ops.Divide(), part, b.real) for part in (a.real, a.imaginary)))


@complex_rule("abs.default")
def _absolute(t: Translator, x: Complex) -> Value:
    squares = (t.emit(ops.Multiply(), part, part) for part in (x.real, x.imaginary))
    return t.emit(ops.Sqrt(), t.emit(ops.Add(), *squares))


@complex_rule("angle.default")
def _angle(t: Translator, x: Complex) -> Value:
    return t.emit(ops.Atan2(), x.imaginary, x.real)


# -- Fourier transforms ------------------------------------------------------------------------


def _waves(rows: int, columns: int, size: int, scale: Any) -> tuple[Any, Any]:
    """Cosines and sines of ``2 pi r c / size`` as [rows, columns], times ``scale``."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % size / size
    cosine, sine = (f(2.0 * math.pi * turns) * scale for f in (np.cos, np.sin))
    return cosine.astype(np.float32), sine.astype(np.float32)


def _product(t: Translator, x: Value, dim: int, matrix: Any) -> Value:
    """x with the lines along ``dim`` multiplied by ``matrix`` [size, results]."""
    order = [*(d for d in range(len(x.shape)) if d != dim), dim]
    turned = t.transpose(x, order)
    weights = t.emit(ops.Constant.of(matrix))
    done = t.emit(ops.DotGeneral(((), ()), ((len(order) - 1,), (0,))), turned, weights)
    return t.transpose(done, [order.index(d) for d in range(len(order))])


def _transformed(t: Translator, x: Complex, dim: int, forward: bool, scale: float) -> Complex:
    size = x.real.shape[dim]
    cosine, sine = _waves(size, size, size, scale)
    sine = -sine if forward else sine
    real_part, imaginary_part = x.real, x.imaginary

    def both(first: Value, one: Any, second: Value, other: Any) -> Value:
        return t.emit(ops.Add(), _product(t, first, dim, one), _product(t, second, dim, other))

    return Complex(
        both(real_part, cosine, imaginary_part, -sine),
        both(real_part, sine, imaginary_part, cosine),
    )


def _scale(size: int, normalisation: int) -> float:
    return float(size ** NORMAL_POWER[normalisation])


@aten("_fft_c2c.default")
@complex_rule("_fft_c2c.default")
def _complex_transform(
    t: Translator, x: Complex | Value, dims: Sequence[int], normalisation: int, forward: bool
) -> Complex:
    """Dim by dim; a real tensor converted to complex numbers arrives as it was."""
    if isinstance(x, Value):
        x = Complex(x, t.splat(0.0, x.type))
    for dim in dims:
        scale = _scale(x.real.shape[dim], normalisation)
        x = _transformed(t, x, t.dim(dim, len(x.real.shape)), forward, scale)
    return x


@aten("_fft_r2c.default")
def _real_transform(
    t: Translator, x: Value, dims: Sequence[int], normalisation: int, onesided: bool
) -> Complex:
    *others, last = (t.dim(dim, len(x.shape)) for dim in dims)
    size = x.shape[last]
    count = size // 2 + 1 if onesided else size
    cosine, sine = _waves(size, count, size, _scale(size, normalisation))
    pair = Complex(_product(t, x, last, cosine), _product(t, x, last, -sine))
    return _complex_transform(t, pair, others, normalisation, True)


@complex_rule("_fft_c2r.default")
def _back_transform(
    t: Translator, x: Complex, dims: Sequence[int], normalisation: int, size: int
) -> Value:
    """Half a spectrum stands for a whole one: all but its ends count twice."""
    *others, last = (t.dim(dim, len(x.real.shape)) for dim in dims)
    x = _complex_transform(t, x, others, normalisation, False)
    count = size // 2 + 1
    times = np.full((count, 1), 2.0)
    times[0] = 1.0
    if size % 2 == 0:
        times[-1] = 1.0
    cosine, sine = _waves(count, size, size, times * _scale(size, normalisation))
    real, imaginary = (cut(t, part, last, 0, count) for part in (x.real, x.imaginary))
    return t.emit(
        ops.Subtract(), _product(t, real, last, cosine), _product(t, imaginary, last, sine)
    )
