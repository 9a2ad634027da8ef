"""Conversions against ml_dtypes, NumPy and exact rational arithmetic."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.errors import UsageError
from tenzing.isa import numerics

FLOAT8 = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2")
SMALL_FLOATS = (*FLOAT8, "bfloat16", "float16")
INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")


def every_pattern(kind: np.dtype) -> np.ndarray:
    unsigned = np.dtype(f"u{kind.itemsize}")
    return np.arange(2 ** (8 * kind.itemsize), dtype=unsigned).view(kind)


def hard_float32() -> np.ndarray:
    """Random bits, and for every short float: its neighbours and the halfway points between."""
    generator = np.random.default_rng(7)
    bits = [generator.integers(0, 2**32, 200_000, dtype=np.uint32)]
    upper = np.arange(2**16, dtype=np.uint32) << 16
    bits += [upper, upper | 0x8000, upper | 0x7FFF, upper | 0x8001, upper | 1, upper | 0xFFFF]
    half = every_pattern(np.dtype(np.float16)).astype(np.float32).view(np.uint32)
    bits += [half, half | 0x1000, half | 0x0FFF, half | 0x1001]
    return np.concatenate(bits).view(np.float32)


HARD = hard_float32()


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits, any NaN equal to any other."""
    found, expected = (np.asarray(x, np.float32) for x in (found, expected))
    equal = found.view(np.uint32) == expected.view(np.uint32)
    return bool(np.all(equal | (np.isnan(found) & np.isnan(expected))))


@pytest.mark.parametrize("name", [*SMALL_FLOATS, "float8_e8m0fnu"])
def test_upcast_of_every_bit_pattern(name: str) -> None:
    patterns = every_pattern(numerics.dtype(name))
    assert same(numerics.f32(patterns), patterns.astype(np.float32))


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_rounding_agrees_with_ml_dtypes(name: str) -> None:
    kind = numerics.dtype(name)
    target = np.empty(HARD.shape, kind)
    numerics.store(target, HARD)
    with np.errstate(all="ignore"):
        expected = HARD.astype(kind)
    assert same(target.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_rounding_picks_the_nearest_and_the_even_one_on_a_tie(name: str) -> None:
    kind = numerics.dtype(name)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = np.unique(every_pattern(kind).astype(np.float64))
    values = values[np.isfinite(values)]
    middles = (values[1:] + values[:-1]) / 2  # exact in float64 and in float32
    found = numerics.round_to(middles.astype(np.float32), name).astype(np.float64)
    assert np.all((found == values[1:]) | (found == values[:-1]))
    target = np.empty(middles.shape, kind)
    numerics.store(target, middles.astype(np.float32))
    assert not np.any(target.view(f"u{kind.itemsize}") & 1)
    for toward, chosen in ((np.inf, values[1:]), (-np.inf, values[:-1])):
        beside = np.nextafter(middles.astype(np.float32), np.float32(toward))
        assert np.array_equal(numerics.round_to(beside, name), chosen.astype(np.float32))


@pytest.mark.parametrize("name", [*SMALL_FLOATS, "tfloat32"])
def test_bits_survive_the_round_trip(name: str) -> None:
    exact = numerics.round_to(HARD, name)
    assert same(numerics.round_to(exact, name), exact)


def test_tfloat32_keeps_ten_mantissa_bits() -> None:
    rounded = numerics.round_to(HARD, "tfloat32")
    finite = np.isfinite(rounded)
    assert not np.any(rounded[finite].view(np.uint32) & 0x1FFF)
    error = np.abs(rounded[finite].astype(np.float64) - HARD[finite])
    normal = np.abs(HARD[finite]) >= 2.0**-126
    assert np.all(error[normal] <= np.abs(HARD[finite][normal].astype(np.float64)) * 2.0**-11)
    half = np.float32(1 + 2.0**-11)
    assert numerics.round_to(half, "tfloat32") == 1
    assert numerics.round_to(np.float32(1 + 3 * 2.0**-11), "tfloat32") == np.float32(1 + 2.0**-9)
    assert np.isinf(numerics.round_to(np.float32(3.4028235e38), "tfloat32"))


@pytest.mark.parametrize(
    ("name", "beyond", "result"),
    [
        ("float8_e4m3", 249.0, np.inf),
        ("float8_e4m3", -1e9, -np.inf),
        ("float8_e4m3fn", 480.0, np.nan),
        ("float8_e5m2", 61440.0, np.inf),
        ("bfloat16", 3.4e38, np.inf),
        ("float16", 65520.0, np.inf),
    ],
)
def test_overflow_and_saturation(name: str, beyond: float, result: float) -> None:
    value = np.float32([beyond])
    assert same(numerics.round_to(value, name), np.float32([result]))
    largest = np.copysign(numerics.finfo(name).max, beyond)
    assert numerics.round_to(value, name, saturate=True) == np.float32(largest)
    assert np.isnan(numerics.round_to(np.float32([np.nan]), name, saturate=True)).all()
    infinity = np.float32([np.inf])
    assert numerics.round_to(infinity, name, saturate=True) == np.float32(abs(largest))


@pytest.mark.parametrize("name", INTEGERS)
def test_floats_become_integers_by_rounding_to_even_and_saturating(name: str) -> None:
    limits = np.iinfo(name)
    values = np.concatenate(
        [
            HARD[::16],
            np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 254.5, 255.5, 1e30, -1e30]),
            np.float32([2**31, -(2**31), 2**32, 4294967040, 2147483520, np.inf, -np.inf]),
        ]
    )
    target = np.empty(values.shape, name)
    numerics.store(target, values)
    for value, found in zip(values.tolist(), target.tolist(), strict=True):
        if value != value:
            assert found == 0
        else:
            clamped = min(max(value, -(2.0**40)), 2.0**40)
            assert found == min(max(round(clamped), limits.min), limits.max)


def test_bool_is_whether_it_differs_from_zero() -> None:
    target = np.empty(5, np.bool_)
    numerics.store(target, np.float32([0, -0.0, 1e-45, np.nan, -3]))
    assert target.tolist() == [False, False, True, True, True]


def test_integers_of_another_size_pass_through_float32() -> None:
    source = np.array([2**24 + 1, -5, 70000, 255], np.int32)
    target = np.empty(4, np.uint16)
    numerics.store(target, source)
    assert target.tolist() == [65535, 0, 65535, 255]
    wide = np.empty(4, np.uint32)
    numerics.store(wide, source)
    assert wide.tolist() == [2**24, 0, 70000, 255]


def test_python_and_64_bit_integers_are_exact_and_clamped() -> None:
    target = np.empty(2, np.int32)
    numerics.store(target, 2**24 + 1)
    assert target.tolist() == [2**24 + 1] * 2
    numerics.store(target, np.array([2**40, 2**24 + 1]))
    assert target.tolist() == [2**31 - 1, 2**24 + 1]
    numerics.store(target, -(2**99))
    assert target.tolist() == [-(2**31)] * 2


@pytest.mark.parametrize("name", numerics.DTYPES)
def test_the_same_dtype_is_a_copy_of_bits_whatever_the_strides(name: str) -> None:
    kind = numerics.dtype(name)
    generator = np.random.default_rng(1)
    high = 2 if name == "bool_" else 256
    raw = generator.integers(0, high, (6, 8 * kind.itemsize), dtype=np.uint8)
    source = raw.view(kind)
    memory = np.zeros((6, 20 * kind.itemsize), np.uint8)
    target = memory.view(kind)[::2, 1:17:2]
    numerics.store(target, source[1::2])
    assert target.tobytes() == source[1::2].tobytes()
    numerics.store(target.T, source[::2].T)
    assert target.tobytes() == source[::2].tobytes()


@pytest.mark.parametrize(
    "name", [n for n, k in numerics.DTYPES.items() if not numerics.is_packed(k)]
)
def test_strided_targets_and_sources_and_broadcasts(name: str) -> None:
    kind = numerics.dtype(name)
    values = np.random.default_rng(2).standard_normal((10, 12)).astype(np.float32) * 9
    plain = numerics.round_to(np.ascontiguousarray(values[::2, 1::3].T), name)
    target = np.zeros((8, 20), kind)[::2, ::4]
    numerics.store(target, values[::2, 1::3].T)
    assert same(numerics.f32(target), plain)
    numerics.store(target, values[:4, :1])
    assert same(
        numerics.f32(target), np.broadcast_to(numerics.round_to(values[:4, :1], name), (4, 5))
    )
    numerics.store(target, 1.0)
    assert np.all(numerics.f32(target) == 1)
    single = np.zeros((), kind)
    numerics.store(single, 2.0)
    assert numerics.f32(single) == (1 if name == "bool_" else 2)


def test_float32_is_not_copied() -> None:
    values = np.ones((3, 4), np.float32)
    assert numerics.f32(values) is values
    assert numerics.f32(values.T).base is values


def test_numbers_and_scalars_become_float32() -> None:
    for value in (2, 2.0, True, np.float64(2), ml_dtypes.bfloat16(2)):
        found = numerics.f32(value)
        assert found.dtype == np.float32
        assert found == float(value)
    assert np.isinf(numerics.f32(1e300))


@given(st.integers(-(2**31), 2**31 - 1))
def test_int32_becomes_the_nearest_float32(number: int) -> None:
    assert numerics.f32(np.array([number], np.int32))[0] == np.float32(number)


# --- packed types -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "element"),
    [
        ("float8_e4m3fn_x4", ml_dtypes.float8_e4m3fn),
        ("float8_e5m2_x4", ml_dtypes.float8_e5m2),
        ("float4_e2m1fn_x4", ml_dtypes.float4_e2m1fn),
    ],
)
def test_packed_elements_round_like_ml_dtypes_and_clamp(packed: str, element: type) -> None:
    values = np.random.default_rng(3).standard_normal((8, 64)).astype(np.float32) * 3
    halves = np.arange(-32, 32, dtype=np.float32) / 4  # has every tie of the 4-bit type
    values[0] = halves
    largest = float(ml_dtypes.finfo(element).max)
    found = numerics.pack(values, packed)
    assert found.shape == (8, 16)
    expected = np.clip(values, -largest, largest).astype(element).astype(np.float32)
    assert np.array_equal(numerics.unpack(found), expected)
    large = numerics.unpack(numerics.pack(np.full((1, 4), 1e9, np.float32), packed))
    assert np.all(large == largest)


def test_packed_types_hold_zeros_and_copies_and_nothing_else() -> None:
    kind = numerics.dtype("float4_e2m1fn_x4")
    target = np.frombuffer(b"\xff" * 8, np.uint8).copy().view(kind)
    numerics.store(target, 0)
    assert target.tobytes() == bytes(8)
    with pytest.raises(UsageError, match="only be filled with 0"):
        numerics.store(target, 1.0)
    with pytest.raises(UsageError, match="unpack them first"):
        numerics.f32(target)
    with pytest.raises(UsageError, match="in fours"):
        numerics.pack(np.zeros((2, 6), np.float32), kind)
    with pytest.raises(UsageError, match="unpack needs a packed type"):
        numerics.unpack(np.zeros(4, np.float32))
