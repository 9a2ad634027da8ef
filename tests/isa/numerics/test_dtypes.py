"""Names, sizes and ranges of the data types."""

import ml_dtypes
import numpy as np
import pytest

from tenzing.errors import UsageError
from tenzing.isa import numerics


@pytest.mark.parametrize("name", numerics.DTYPES)
def test_a_name_leads_to_its_dtype_and_back(name: str) -> None:
    found = numerics.dtype(name)
    assert numerics.name(found) == name
    assert numerics.dtype(found) is found
    assert numerics.dtype(f"torch.{name}") == found


def test_dtypes_are_distinct_and_hash_apart() -> None:
    assert len(set(numerics.DTYPES.values())) == len(numerics.DTYPES)
    assert numerics.dtype("tfloat32") != np.dtype(np.float32)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (np.float32, "float32"),
        (float, "float32"),
        (int, "int32"),
        (bool, "bool_"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype("<u2"), "uint16"),
        ("bool", "bool_"),
        ("nl.float8_e4m3fn", "float8_e4m3fn"),
    ],
)
def test_other_spellings(given: object, name: str) -> None:
    assert numerics.name(numerics.dtype(given)) == name


@pytest.mark.parametrize(
    ("given", "narrower"), [("float64", "float32"), (np.int64, "int32"), ("torch.int64", "int32")]
)
def test_wider_types_are_refused_with_the_type_to_use(given: object, narrower: str) -> None:
    with pytest.raises(UsageError, match="there is no NKI data type") as caught:
        numerics.dtype(given)
    assert caught.value.finding.next_step == f"convert the tensor to {narrower}"


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="allowed: float32, tfloat32, bfloat16"):
        numerics.dtype("float31")


def test_itemsize_of_packed_types_counts_four_elements() -> None:
    sizes = {name: numerics.itemsize(kind) for name, kind in numerics.DTYPES.items()}
    assert sizes["float8_e4m3fn_x4"] == 4
    assert sizes["float4_e2m1fn_x4"] == 2
    assert sizes["tfloat32"] == 4
    assert sizes["bool_"] == 1


def test_floats_integers_and_the_rest() -> None:
    floats = {name for name, kind in numerics.DTYPES.items() if numerics.is_float(kind)}
    integers = {name for name, kind in numerics.DTYPES.items() if numerics.is_integer(kind)}
    packed = {name for name, kind in numerics.DTYPES.items() if numerics.is_packed(kind)}
    assert integers == {"int8", "int16", "int32", "uint8", "uint16", "uint32"}
    assert packed == {"float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4"}
    assert set(numerics.DTYPES) - floats - integers - packed == {"bool_"}


@pytest.mark.parametrize(
    ("name", "largest", "normal", "eps"),
    [
        ("float8_e4m3", 240.0, 2.0**-6, 2.0**-3),
        ("float8_e4m3fn", 448.0, 2.0**-6, 2.0**-3),
        ("float8_e5m2", 57344.0, 2.0**-14, 2.0**-2),
        ("bfloat16", 3.3895313892515355e38, 2.0**-126, 2.0**-7),
        ("float16", 65504.0, 2.0**-14, 2.0**-10),
        ("tfloat32", (2 - 2.0**-10) * 2.0**127, 2.0**-126, 2.0**-10),
        ("float32", (2 - 2.0**-23) * 2.0**127, 2.0**-126, 2.0**-23),
    ],
)
def test_ranges(name: str, largest: float, normal: float, eps: float) -> None:
    info = numerics.finfo(name)
    assert (info.max, info.min, info.smallest_normal, info.eps) == (largest, -largest, normal, eps)


def test_finfo_of_an_integer_is_refused() -> None:
    with pytest.raises(UsageError, match="floating-point"):
        numerics.finfo("int8")
