"""Error functions written out with arithmetic, found by trying them."""

import math

import numpy as np
import pytest

from tenzing.compiler.graph import F32, Graph, GraphBuilder, Value
from tenzing.compiler.ops import (
    Abs,
    Add,
    Constant,
    Divide,
    Exponential,
    Multiply,
    Negate,
    Sign,
    Subtract,
)
from tenzing.compiler.passes import DeadCode, RecogniseErf
from tenzing.compiler.reference import run

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: error below 1.5e-7.
SLOPE = 0.3275911
COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def spelled(first: float = COEFFICIENTS[0], *, complement: bool = False) -> Graph:
    """sign(x) (1 - polynomial(1 / (1 + p |x|)) exp(-x x)), or one minus that."""
    builder = GraphBuilder("spelled")
    x = builder.input("x", (4, 64), F32)

    def number(value: float) -> Value:
        return builder.add(Constant.splat(value, x.shape, F32))

    size = builder.add(Abs(), x)
    line = builder.add(Add(), number(1), builder.add(Multiply(), number(SLOPE), size))
    t = builder.add(Divide(), number(1), line)
    total = builder.add(Multiply(), number(first), t)
    for coefficient in COEFFICIENTS[1:]:
        total = builder.add(Multiply(), builder.add(Add(), total, number(coefficient)), t)
    square = builder.add(Multiply(), x, x)
    bell = builder.add(Exponential(), builder.add(Negate(), square))
    tail = builder.add(Multiply(), total, bell)
    found = builder.add(
        Multiply(), builder.add(Sign(), x), builder.add(Subtract(), number(1), tail)
    )
    if complement:
        found = builder.add(Subtract(), number(1), found)
    return builder.build([found])


@pytest.mark.parametrize(("complement", "names"), [(False, {"erf"}), (True, {"erf", "subtract"})])
def test_an_expansion_is_the_error_function(complement: bool, names: set[str]) -> None:
    graph = spelled(complement=complement)
    after = DeadCode().apply(RecogniseErf().apply(graph))
    assert {node.op.name for node in after.nodes} - {"constant"} == names
    x = np.linspace(-6, 6, 256, dtype=np.float32).reshape(4, 64)
    erf = np.vectorize(math.erf)(x)
    (found,) = run(after, [x], {})
    np.testing.assert_allclose(found, 1 - erf if complement else erf, atol=1e-6)


def test_another_function_stays_as_it_is() -> None:
    graph = spelled(1.061)
    assert RecogniseErf().apply(graph) is graph
