"""Conversion between data types: exact upcast to float32, rounding on write.

Rounding is to nearest, ties to even, the default of every NeuronCore. Conversion to an integer
rounds to nearest even and saturates (NKI release notes); there NaN becomes 0, which is our choice.
Overflow goes to infinity, or to NaN in a type that has none. What the engines do with an overflow
to an 8-bit float is not published; this is what ``ml_dtypes`` does and what makes kernels clip
before they quantize. Two different chip types convert through float32, integers included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from numbers import Integral
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError
from tenzing.isa.numerics.dtypes import (
    BOOL,
    DTYPES,
    FLOAT32,
    PACKED,
    TFLOAT32,
    DType,
    dtype,
    finfo,
    is_float,
    is_packed,
    name,
)

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]

HALF_WORD: Final = 16
TF32_DROPPED_BITS: Final = 13
LONG_BYTES: Final = 8

_UNSIGNED: Final[dict[int, DType]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
}
_CODED: Final = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float16")


# --- to float32 -------------------------------------------------------------------------------


@cache
def _decode_table(code: DType) -> Float32:
    """The float32 of every bit pattern of an 8- or 16-bit float."""
    unsigned = _UNSIGNED[code.itemsize]
    patterns = np.arange(np.iinfo(unsigned).max + 1, dtype=unsigned)
    with np.errstate(all="ignore"):
        return patterns.view(code).astype(np.float32)


def _decode(value: Array) -> Float32:
    table = _decode_table(value.dtype)
    # every index is in range; "wrap" only spares NumPy its bounds check
    return table.take(value.view(_UNSIGNED[value.itemsize]), mode="wrap")


def _unwrap(value: Array) -> Float32:
    found: Float32 = value["tfloat32"]
    return found


_UPCAST: Final[dict[DType, Callable[[Array], Float32]]] = {
    **{DTYPES[code]: _decode for code in _CODED},
    TFLOAT32: _unwrap,
}


def f32(value: object) -> Float32:
    """``value`` as float32: exact for every float type, nearest for 32-bit integers.

    Any shape and strides; a float32 array is returned as it is, tfloat32 as a view. Packed types
    have no elementwise float32 form and raise UsageError; use :func:`unpack`.
    """
    if isinstance(value, np.ndarray):
        kind = value.dtype
        if kind == FLOAT32:
            return value
        convert = _UPCAST.get(kind)
        if convert is not None:
            return convert(value)
        if is_packed(kind):
            raise UsageError(f"{name(kind)} packs four elements; unpack them first")
        return _narrow(value)
    if isinstance(value, np.generic):
        return f32(np.asarray(value))
    return _narrow(np.asarray(value, np.float64))


def _narrow(value: Array) -> Float32:
    if value.dtype.kind != "f":
        return value.astype(np.float32)
    with np.errstate(over="ignore"):
        return value.astype(np.float32)


# --- rounding on write ------------------------------------------------------------------------


def _write_plain(target: Array, value: Float32) -> None:
    target[...] = value


def _write_tfloat32(target: Array, value: Float32) -> None:
    bits = np.ascontiguousarray(value).view(np.uint32).reshape(value.shape)
    kept_odd = (bits >> TF32_DROPPED_BITS) & 1
    half = (1 << (TF32_DROPPED_BITS - 1)) - 1
    rounded = (bits + (kept_odd + np.uint32(half))) & ~np.uint32((1 << TF32_DROPPED_BITS) - 1)
    result = rounded.view(np.float32)
    target["tfloat32"][...] = np.where(np.isnan(value), np.float32(np.nan), result)


@cache
def _encode_table(code: DType) -> NDArray[np.uint8]:
    """The 8-bit float of every float32 that has only its upper 16 bits."""
    upper = np.arange(1 << HALF_WORD, dtype=np.uint32) << HALF_WORD
    with np.errstate(all="ignore"):
        return upper.view(np.float32).astype(code).view(np.uint8)


def _write_float8(target: Array, value: Float32) -> None:
    # Keep the upper half and fold the lower one into its last bit ("round to odd"): at least two
    # bits beyond the result's precision survive, so rounding from there equals rounding directly.
    bits = value.view(np.uint32)
    index = (bits >> HALF_WORD).astype(np.uint16)
    index |= bits.astype(np.uint16) != 0
    target.view(np.uint8)[...] = _encode_table(target.dtype).take(index, mode="wrap")


def _write_bool(target: Array, value: Float32) -> None:
    np.not_equal(value, 0, out=target)


def _write_integer(target: Array, value: Float32) -> None:
    limits = np.iinfo(target.dtype)
    rounded = np.asarray(np.rint(value))
    lost = np.isnan(rounded)
    if lost.any():
        rounded = np.where(lost, np.float32(0), rounded)
    beyond = np.float32(float(limits.max) + 1.0)  # exact, and the largest 32-bit integer is not
    too_large = rounded >= beyond
    np.clip(rounded, limits.min, np.nextafter(beyond, np.float32(0)), out=rounded)
    target[...] = rounded
    if too_large.any():
        target[np.broadcast_to(too_large, target.shape)] = limits.max


def _write_scale(target: Array, value: Float32) -> None:
    target[...] = value.astype(target.dtype)


_WRITE: Final[dict[DType, Callable[[Array, Float32], None]]] = {
    FLOAT32: _write_plain,
    DTYPES["bfloat16"]: _write_plain,  # ml_dtypes rounds to nearest even and keeps NaN
    DTYPES["float16"]: _write_plain,  # so does NumPy
    TFLOAT32: _write_tfloat32,
    BOOL: _write_bool,
    DTYPES["float8_e8m0fnu"]: _write_scale,
    **{DTYPES[k]: _write_float8 for k in ("float8_e4m3", "float8_e4m3fn", "float8_e5m2")},
    **{DTYPES[k]: _write_integer for k in DTYPES if k.startswith(("int", "uint"))},
}


@np.errstate(all="ignore")
def store(target: Array, value: object, *, saturate: bool = False) -> None:
    """Write ``value`` (an array that broadcasts to ``target``, or a number) into ``target``.

    The same dtype is a copy of bits. Everything else goes through float32 and is rounded as the
    module says. ``saturate`` clamps to the largest finite number of a float type instead of
    overflowing. A 64-bit integer array or a Python integer is an exact number: into an integer
    type it is clamped, not rounded.
    """
    kind = target.dtype
    if isinstance(value, np.ndarray):
        if value.dtype == kind:
            _copy_bits(target, value)
            return
        if value.dtype.kind in "iu" and value.itemsize == LONG_BYTES and kind.kind in "iu":
            limits = np.iinfo(kind)
            target[...] = np.clip(value, limits.min, limits.max)
            return
    elif isinstance(value, Integral) and kind.kind in "iu":
        limits = np.iinfo(kind)
        target[...] = min(max(int(value), int(limits.min)), int(limits.max))
        return
    if is_packed(kind):
        _fill_packed(target, value)
        return
    rounded = f32(value)
    if saturate and is_float(kind):
        limit = np.float32(finfo(kind).max)
        rounded = np.clip(rounded, -limit, limit)
    _WRITE[kind](target, rounded)


def _copy_bits(target: Array, value: Array) -> None:
    unsigned = _UNSIGNED.get(target.itemsize)
    if unsigned is None or target.dtype.kind not in "Vf" or target.dtype.fields is not None:
        target[...] = value
    else:
        target.view(unsigned)[...] = value.view(unsigned)


def _fill_packed(target: Array, value: object) -> None:
    if isinstance(value, np.ndarray) or value != 0:
        raise UsageError(
            f"{name(target.dtype)} can only be filled with 0",
            next_step="write its elements with pack()",
        )
    target[...] = np.zeros((), target.dtype)


def round_to(value: object, kind: object, *, saturate: bool = False) -> Float32:
    """``value`` rounded to dtype ``kind`` and brought back to float32, same shape."""
    source = f32(value)
    stored: Array = np.empty(source.shape, dtype(kind))
    store(stored, source, saturate=saturate)
    return f32(stored)


# --- packed elements of the MX formats --------------------------------------------------------

FOUR_BIT: Final = "float4_e2m1fn_x4"
FOUR_BIT_VALUES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # e2m1: OCP MX, section 5.3.3
NIBBLE: Final = 4
PACK: Final = 4


def unpack(packed: Array) -> Float32:
    """The float32 elements of a packed array: the last dim becomes four times as long."""
    label = name(packed.dtype)
    if label not in PACKED:
        raise UsageError("unpack needs a packed type", got=label, allowed=", ".join(PACKED))
    raw = np.ascontiguousarray(packed[label])
    if label == FOUR_BIT:
        codes = np.stack([raw & 0xF, raw >> NIBBLE], axis=-1)
        sign = np.where(codes & len(FOUR_BIT_VALUES), np.float32(-1), np.float32(1))
        elements = np.asarray(FOUR_BIT_VALUES, np.float32)[codes % len(FOUR_BIT_VALUES)] * sign
    else:
        elements = f32(raw.view(DTYPES[label.removesuffix("_x4")]))
    whole: Float32 = elements.reshape(*packed.shape[:-1], packed.shape[-1] * PACK)
    return whole


def pack(elements: Float32, kind: object) -> Array:
    """Round and clamp float32 ``elements`` into a packed dtype; four of the last dim become one.

    Lower-index elements take the lower bits.
    """
    packed = dtype(kind)
    label = name(packed)
    if label not in PACKED or elements.shape[-1] % PACK:
        raise UsageError(
            "pack needs a packed type and a last dim in fours",
            got=f"{label} with {elements.shape[-1]} elements",
            allowed=", ".join(PACKED),
        )
    if label == FOUR_BIT:
        codes = _four_bit_codes(elements)
        raw = codes[..., 0::2] | (codes[..., 1::2] << NIBBLE)
    else:
        element = np.empty(elements.shape, DTYPES[label.removesuffix("_x4")])
        store(element, elements, saturate=True)
        raw = element.view(np.uint8)
    whole: Array = np.ascontiguousarray(raw).view(packed)
    return whole


def _four_bit_codes(elements: Float32) -> NDArray[np.uint8]:
    values = np.asarray(FOUR_BIT_VALUES, np.float32)
    middles = (values[1:] + values[:-1]) / 2
    size = np.abs(elements)
    code = np.searchsorted(middles, size, side="left")
    # a tie belongs to the even code
    tie = (code < len(middles)) & (size == middles[np.minimum(code, len(middles) - 1)])
    code = np.where(tie & (code % 2 == 1), code + 1, code)
    sign = np.signbit(elements).astype(np.uint8)
    sign <<= NIBBLE - 1
    sign |= code.astype(np.uint8)
    return sign
