"""ONNX operations that multiply matrices."""

from __future__ import annotations

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.onnx_ops.translator import MICROSOFT, Item, Translator, onnx
from tenzing.compiler.graph import F32, TensorType, Value, is_float

MATRIX_RANK = 2
ARROW = "->"


@onnx("MatMul")
def _matmul(t: Translator, x: Value, y: Value) -> Item:
    return product(t, x, y)


def product(t: Translator, x: Value, y: Value) -> Value:
    """NumPy's matmul."""
    left = x.shape if len(x.shape) > 1 else (1, *x.shape)
    right = y.shape if len(y.shape) > 1 else (*y.shape, 1)
    lead = np.broadcast_shapes(left[:-2], right[:-2])
    rows = left[-2:-1] if len(x.shape) > 1 else ()
    columns = right[-1:] if len(y.shape) > 1 else ()
    result: Value = t.aten(
        "matmul.default", TensorType((*lead, *rows, *columns), x.dtype), x, y
    )  # fmt: skip
    return result


@onnx("Gemm")
def _gemm(
    t: Translator, x: Value, y: Value, bias: Value | None = None, *, alpha: float = 1.0,
    beta: float = 1.0, transA: int = 0, transB: int = 0, broadcast: int = 0,
) -> Item:  # fmt: skip
    left = t.transpose(x, (1, 0)) if transA else x
    if alpha == 1.0 and is_float(x.dtype):
        layout = "nk" if transB else "kn"
        width = y.shape[0] if transB else y.shape[1]
        if bias is not None and beta == 1.0 and bias.shape in ((width,), (1, width)):
            return t.emit(ops.Linear(layout), left, y, t.reshape(bias, (width,)))
        total = t.emit(ops.Linear(layout), left, y)
    else:
        total = product(t, left, t.transpose(y, (1, 0)) if transB else y)
        total = t.apply(ops.Multiply(), total, alpha)
    if bias is None:
        return total
    added = bias if beta == 1.0 else t.apply(ops.Multiply(), bias, beta)
    return t.apply(ops.Add(), total, added)


@onnx("FusedMatMul", domain=MICROSOFT)
def _fused_matmul(
    t: Translator, x: Value, y: Value, *, alpha: float = 1.0, transA: int = 0, transB: int = 0,
    transBatchA: int = 0, transBatchB: int = 0,
) -> Item:  # fmt: skip
    if transBatchA or transBatchB:
        raise t.unsupported("a product with transposed batch dims")
    left, right = (turned(t, v) if flag else v for v, flag in ((x, transA), (y, transB)))
    total = product(t, left, right)
    return total if alpha == 1.0 else t.apply(ops.Multiply(), total, alpha)


def turned(t: Translator, x: Value) -> Value:
    """x with its last two dims exchanged."""
    rank = len(x.shape)
    return t.transpose(x, (*range(rank - 2), rank - 1, rank - 2))


@onnx("Einsum", since=12)
def _einsum(t: Translator, *values: Value, equation: str) -> Item:
    given, arrow, wanted = equation.replace(" ", "").partition(ARROW)
    terms = given.split(",")
    letters = _letters(t, terms, values)
    if not arrow:
        flat = "".join(letters)
        wanted = "".join(sorted(c for c in set(flat) if flat.count(c) == 1 and c.islower()))
        wanted = "..." + wanted if "..." in given else wanted
    output = wanted.replace("...", _hidden(terms, values))
    total, left = values[0], letters[0]
    total, left = _diagonal(t, total, left)
    for index, (value, term) in enumerate(zip(values[1:], letters[1:], strict=True)):
        right, own = _diagonal(t, value, term)
        later = set(output).union(*letters[index + 2 :])
        total, left = _pair(t, (total, left), (right, own), later)
    total, left = _summed(t, total, left, set(output))
    return t.transpose(total, [left.index(c) for c in output])


def _hidden(terms: list[str], values: tuple[Value, ...]) -> str:
    """Capital letters for the dims behind an ellipsis."""
    depth = max(
        (len(v.shape) - len(term.replace("...", "")) for term, v in zip(terms, values, strict=True)
         if "..." in term), default=0,
    )  # fmt: skip
    return "".join(chr(ord("A") + d) for d in range(depth))


def _letters(t: Translator, terms: list[str], values: tuple[Value, ...]) -> list[str]:
    hidden = _hidden(terms, values)
    found = []
    for term, value in zip(terms, values, strict=True):
        depth = len(value.shape) - len(term.replace("...", ""))
        found.append(term.replace("...", hidden[len(hidden) - depth :]))
        if len(found[-1]) != len(value.shape):
            raise t.unsupported("an einsum term that does not fit its tensor", got=term)
    return found


def _diagonal(t: Translator, x: Value, term: str) -> tuple[Value, str]:
    """One dim for each letter."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            one = term.index(letter)
            other = term.index(letter, one + 1)
            size = x.shape[one]
            rest = [n for d, n in enumerate(x.shape) if d not in (one, other)]
            kind = x.type.with_shape((*rest, size))
            x = t.aten("diagonal.default", kind, x, 0, one, other)
            term = "".join(c for d, c in enumerate(term) if d not in (one, other)) + letter
    return x, term


def _summed(t: Translator, x: Value, term: str, kept: set[str]) -> tuple[Value, str]:
    dims = tuple(d for d, c in enumerate(term) if c not in kept)
    if not dims:
        return x, term
    return t.emit(ops.Reduce("add", dims), x), "".join(c for c in term if c in kept)


def _pair(
    t: Translator, one: tuple[Value, str], other: tuple[Value, str], later: set[str]
) -> tuple[Value, str]:
    """The product of two terms, summed over letters that nobody needs later."""
    x, left = _summed(t, *one, later | set(other[1]))
    y, right = _summed(t, *other, later | set(left))
    shared = [c for c in left if c in right]
    batch, contract = [c for c in shared if c in later], [c for c in shared if c not in later]
    pairs = [(tuple(left.index(c) for c in chosen), tuple(right.index(c) for c in chosen))
             for chosen in (batch, contract)]  # fmt: skip
    total = t.emit(ops.DotGeneral(pairs[0], pairs[1]), x, y)
    free = [c for term in (left, right) for c in term if c not in shared]
    return total, "".join([*batch, *free])


@onnx("MatMulInteger", since=10)
def _matmul_integer(
    t: Translator, x: Value, y: Value, x_zero: Value | None = None, y_zero: Value | None = None
) -> Item:
    """Products of 8-bit numbers: exact in float32 up to 2^24."""
    left, right = _shifted(t, x, x_zero, -1), _shifted(t, y, y_zero, -2)
    return t.convert(product(t, left, right), np.dtype(np.int32))


def _shifted(t: Translator, x: Value, zero: Value | None, axis: int) -> Value:
    wide = t.convert(x, F32)
    if zero is None:
        return wide
    point = t.convert(zero, F32)
    if len(point.shape) == 1 and point.shape[0] > 1 and axis == -1:
        point = t.reshape(point, (*point.shape, 1))
    return t.apply(ops.Subtract(), wide, point)
