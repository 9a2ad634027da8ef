"""Activation functions against the standard library and against their own derivatives."""

import math
import pickle

import numpy as np
import pytest

from tenzing.errors import UsageError
from tenzing.isa import numerics

ACTIVATION = numerics.ACTIVATION
POINTS = np.concatenate(
    [np.linspace(-12, 12, 4801), [0, -0.0, 1e-30, -1e-30, 1e-8, 30, -30, 88, -88, 100, -100]]
).astype(np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def gelu_tanh(x: float) -> float:
    # (1 + tanh u) / 2 cancels for negative u; its other form does not
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


REFERENCE = {
    "copy": lambda x: x,
    "square": lambda x: x * x,
    "relu": lambda x: max(x, 0.0),
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "exp": lambda x: math.exp(x) if x < 709 else math.inf,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "mish": lambda x: x * math.tanh(max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_apprx_tanh": gelu_tanh,
    "gelu_apprx_sigmoid": lambda x: x * sigmoid(1.702 * x),
    "erf": math.erf,
    "erf_dx": lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x),
    "arctan": math.atan,
    "gelu_dx": lambda x: normal_cdf(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "silu_dx": lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x),
    "gelu_apprx_sigmoid_dx": lambda x: (
        sigmoid(1.702 * x) + 1.702 * x * sigmoid(1.702 * x) * sigmoid(-1.702 * x)
    ),
}
POSITIVE = {
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "reciprocal": lambda x: 1 / x,
}


def within_one_step(found: np.ndarray, expected: list[float]) -> None:
    with np.errstate(all="ignore"):
        rounded = np.array(expected, np.float64).astype(np.float32)
        below, above = (np.nextafter(rounded, np.float32(end)) for end in (-np.inf, np.inf))
    bad = ~((found >= below) & (found <= above))
    # where two terms cancel, the reference itself is only good to float64
    bad &= ~np.isclose(found, rounded, rtol=0, atol=1e-15)
    assert not bad.any(), list(zip(found[bad][:5], rounded[bad][:5], strict=True))
    assert np.mean(found == rounded) > 0.999


@pytest.mark.parametrize("name", REFERENCE)
def test_values(name: str) -> None:
    found = ACTIVATION[name](POINTS)
    assert found.dtype == np.float32
    within_one_step(found, [REFERENCE[name](float(x)) for x in POINTS])


@pytest.mark.parametrize("name", POSITIVE)
def test_values_of_functions_of_positive_numbers(name: str) -> None:
    points = np.exp2(np.linspace(-100, 100, 3001)).astype(np.float32)
    within_one_step(ACTIVATION[name](points), [POSITIVE[name](float(x)) for x in points])


def test_every_function_is_tested_here() -> None:
    assert set(ACTIVATION) == {*REFERENCE, *POSITIVE, "prelu", "sin"}


@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        ("gelu", "gelu_dx"),
        ("silu", "silu_dx"),
        ("gelu_apprx_sigmoid", "gelu_apprx_sigmoid_dx"),
        ("erf", "erf_dx"),
    ],
)
def test_derivatives_are_slopes(function: str, derivative: str) -> None:
    centres = np.linspace(-6, 6, 241)
    step = 1 / 64
    rise = [REFERENCE[function](x + step) - REFERENCE[function](x - step) for x in centres]
    slope = ACTIVATION[derivative](centres.astype(np.float32))
    assert np.allclose(slope, np.array(rise) / (2 * step), atol=2e-4)


def test_sine_follows_the_documented_cubic_outside_its_range() -> None:
    sine = ACTIVATION["sin"]
    inside = np.linspace(-math.pi, math.pi, 1001).astype(np.float32)
    assert np.allclose(sine(inside), np.sin(inside.astype(np.float64)), atol=2e-7)
    assert sine(np.float32([9.0])) == pytest.approx(27.65, abs=0.01)  # the published example
    assert sine(np.float32([-9.0])) == -sine(np.float32([9.0]))
    beyond = sine(np.float32([3.1415925, 3.1415930, 3.15]))
    assert np.all(np.diff(beyond) < 0)


def test_parametric_relu_takes_its_slope() -> None:
    x = np.float32([[-2, 4]])
    prelu = ACTIVATION["prelu"]
    assert prelu(x, 0.25).tolist() == [[-0.5, 4]]
    assert prelu(x).tolist() == [[0, 4]]
    assert prelu(np.float32([[-2], [-2]]), np.float32([[1], [3]])).tolist() == [[-2], [-6]]


@pytest.mark.parametrize("function", ACTIVATION.values())
def test_nan_in_means_nan_out_and_infinities_have_limits(function: object) -> None:
    found = function(np.float32([np.nan, 1.0]))
    assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("exp", 0, np.inf),
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("softplus", 0, np.inf),
        ("mish", 0, np.inf),
        ("silu", 0, np.inf),
        ("silu_dx", 0, 1),
        ("gelu", 0, np.inf),
        ("gelu_dx", 0, 1),
        ("gelu_apprx_tanh", 0, np.inf),
        ("gelu_apprx_sigmoid", 0, np.inf),
        ("gelu_apprx_sigmoid_dx", 0, 1),
        ("erf", -1, 1),
        ("erf_dx", 0, 0),
    ],
)
def test_limits_at_infinity(name: str, below: float, above: float) -> None:
    assert ACTIVATION[name](np.float32([-np.inf, np.inf])).tolist() == [below, above]


@pytest.mark.parametrize("function", ACTIVATION.values())
def test_shape_and_strides_do_not_matter(function: numerics.ActivationFunction) -> None:
    values = (np.arange(3 * 5000, dtype=np.float32).reshape(3, 5000) + 1) / 5000
    plain = function(values)
    assert plain.shape == values.shape
    assert np.array_equal(function(values[:, ::2]), plain[:, ::2])
    assert np.array_equal(function(values.T), plain.T)
    assert np.array_equal(function(values[1, 7]), plain[1, 7])
    half = numerics.round_to(values, "bfloat16")
    typed = np.empty(values.shape, numerics.dtype("bfloat16"))
    numerics.store(typed, values)
    assert np.array_equal(function(typed), function(half))


# --- the error function in float64 --------------------------------------------------------------


def test_erf_is_accurate_to_float64() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 0, 2000)])
    expected = np.array([math.erf(v) for v in x])
    error = np.abs(numerics.erf(x) - expected)
    assert np.all(error <= 1e-15 * np.abs(expected))


def test_erfc_keeps_its_relative_accuracy_in_the_tail() -> None:
    x = np.linspace(-6, 11, 3001)
    expected = np.array([math.erfc(v) for v in x])
    relative = np.abs(numerics.erfc(x) - expected) / expected
    assert relative.max() < 1e-9
    assert relative[x < 4].max() < 1e-13
    assert numerics.erfc(np.array([13.0, np.inf, -np.inf])).tolist() == [0, 0, 2]


# --- lookup ---------------------------------------------------------------------------------------


class Marked:
    """Like a function of the language that names its function."""

    nki_op = "gelu"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("exp", "exp"),
        ("nl.gelu_apprx_tanh", "gelu_apprx_tanh"),
        ("identity", "copy"),
        (np.exp, "exp"),
        (np.tanh, "tanh"),
        (np.log, "log"),
        (np.sqrt, "sqrt"),
        (np.square, "square"),
        (np.abs, "abs"),
        (np.copy, "copy"),
        (np.sign, "sign"),
        (np.arctan, "arctan"),
        (math.erf, "erf"),
        (abs, "abs"),
        (Marked(), "gelu"),
        (ACTIVATION["silu"], "silu"),
    ],
)
def test_what_stands_for_a_function(given: object, name: str) -> None:
    assert numerics.activation(given) is ACTIVATION[name]


@pytest.mark.parametrize("given", ["swish2", None, 3, np.cosh, lambda x: x])
def test_what_does_not(given: object) -> None:
    with pytest.raises(UsageError, match=r"not an activation function; got .*; allowed: copy"):
        numerics.activation(given)


def test_tables_and_exactness() -> None:
    free = {name for name, function in ACTIVATION.items() if function.table is None}
    assert free == {"copy", "square", "relu", "prelu", "abs", "sign"}
    assert all(pickle.loads(pickle.dumps(f)) is f for f in ACTIVATION.values())
    assert all(f.table in (None, f.name) for f in ACTIVATION.values())
    assert all((f.exactness == "exact") == (f.table is None) for f in ACTIVATION.values())
    assert ACTIVATION["log"].valid_range == (2.0**-64, 2.0**64)
