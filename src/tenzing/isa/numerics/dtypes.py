"""The data types of NKI as NumPy dtypes, and what each can represent.

``tfloat32`` is a distinct four-byte dtype whose elements hold float32 bits already rounded to 10
mantissa bits. The ``_x4`` types pack four elements of 8 or 4 bits into one; they are carried
around as opaque bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np

from tenzing.errors import UsageError

DType: TypeAlias = np.dtype[Any]

BITS_PER_BYTE: Final = 8


def _named(label: str, element: str, count: int = 1) -> DType:
    """A dtype that is none of NumPy's own: one record field that carries the name."""
    return np.dtype([(label, element, (count,) if count > 1 else ())])


FLOAT32: Final[DType] = np.dtype(np.float32)
TFLOAT32: Final[DType] = _named("tfloat32", "<f4")
BOOL: Final[DType] = np.dtype(np.bool_)

DTYPES: Final[dict[str, DType]] = {
    "float32": FLOAT32,
    "tfloat32": TFLOAT32,
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "bool_": BOOL,
    "float8_e5m2_x4": _named("float8_e5m2_x4", "u1", 4),
    "float8_e4m3fn_x4": _named("float8_e4m3fn_x4", "u1", 4),
    "float4_e2m1fn_x4": _named("float4_e2m1fn_x4", "u1", 2),
}
PACKED: Final = ("float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4")

_ALIASES: Final = {"bool": "bool_", "float": "float32", "int": "int32"}
_NAMES: Final = {value: key for key, value in DTYPES.items()}
_WIDER: Final = {
    "float64": "float32",
    "int64": "int32",
    "uint64": "uint32",
    "double": "float32",
    "long": "int32",
}


def dtype(given: object) -> DType:
    """The NKI dtype that ``given`` names.

    Accepts a dtype, a NumPy or ``ml_dtypes`` scalar type, a Python type, or a name with or without
    a prefix (``"torch.bfloat16"``). Raises UsageError for a type that the chip does not have.
    """
    if isinstance(given, np.dtype) and given in _NAMES:
        return given
    text = _name_of(given)
    found = DTYPES.get(_ALIASES.get(text, text))
    if found is None:
        narrower = _WIDER.get(text)
        raise UsageError(
            f"there is no NKI data type {text!r}",
            allowed=", ".join(DTYPES),
            next_step=f"convert the tensor to {narrower}" if narrower else "",
        )
    return found


def _name_of(given: object) -> str:
    if isinstance(given, np.dtype):
        return given.name
    if isinstance(given, type):
        return given.__name__
    return str(given).rpartition(".")[2]


def name(given: DType) -> str:
    """The NKI name of a dtype; NumPy's own name when the chip does not have it."""
    return _NAMES.get(given) or given.name


def itemsize(given: DType) -> int:
    """Bytes of one element; a packed element of four counts as one."""
    return given.itemsize


def is_float(given: DType) -> bool:
    """Whether elements are floating-point numbers (packed types excluded)."""
    return given in _FLOATS


def is_integer(given: DType) -> bool:
    """Whether elements are signed or unsigned integers; ``bool_`` is neither."""
    return given.kind in "iu"


def is_packed(given: DType) -> bool:
    """Whether one element packs four smaller ones."""
    return name(given) in PACKED


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Range and precision of a floating-point type; all values are exact."""

    name: str
    bits: int
    mantissa_bits: int
    max: float
    min: float
    smallest_normal: float
    smallest_subnormal: float
    eps: float
    has_infinity: bool


def _info(label: str, given: DType) -> FloatInfo:
    limits = ml_dtypes.finfo(FLOAT32 if label == "tfloat32" else given)  # type: ignore[no-untyped-call]
    mantissa = TFLOAT32_MANTISSA_BITS if label == "tfloat32" else limits.nmant
    largest = float(limits.max)
    if label == "tfloat32":
        top = float(np.exp2(limits.maxexp - 1.0))
        largest = top * (2.0 - 2.0**-mantissa)
    normal = float(limits.smallest_normal)
    return FloatInfo(
        name=label,
        bits=given.itemsize * BITS_PER_BYTE,
        mantissa_bits=int(mantissa),
        max=largest,
        min=0.0 if label == "float8_e8m0fnu" else -largest,
        smallest_normal=normal,
        smallest_subnormal=normal * 2.0**-mantissa,
        eps=2.0**-mantissa,
        has_infinity=label not in ("float8_e4m3fn", "float8_e8m0fnu"),
    )


TFLOAT32_MANTISSA_BITS: Final = 10

_FLOATS: Final[dict[DType, FloatInfo]] = {
    value: _info(key, value)
    for key, value in DTYPES.items()
    if key.startswith(("float", "bfloat", "tfloat")) and key not in PACKED
}


def finfo(given: object) -> FloatInfo:
    """Range and precision of a floating-point dtype; UsageError for any other."""
    found = _FLOATS.get(dtype(given))
    if found is None:
        allowed = ", ".join(info.name for info in _FLOATS.values())
        raise UsageError("finfo needs a floating-point type", got=given, allowed=allowed)
    return found
