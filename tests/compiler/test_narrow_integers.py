"""Integers of 8 and 16 bits wrap on the chip as the framework's do, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tenzing
from tenzing import compiler
from tenzing.errors import UnsupportedOp

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
DTYPES = [torch.int8, torch.uint8, torch.int16]
STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "from_three": lambda x, y: 3 - x,
    "negate": lambda x, y: -x,
    "absolute": lambda x, y: x.abs(),
    "square": lambda x, y: x**2,
    "power": lambda x, y: x**7,
    "shift": lambda x, y: (x << 3) ^ (y >> 2),
    "largest": torch.maximum,
    "chosen": lambda x, y: torch.where(x < y, x, y),
    "quotient": lambda x, y: torch.div(x, y | 1, rounding_mode="trunc"),
    "floored": lambda x, y: torch.div(x, y | 1, rounding_mode="floor"),
    "remainder": lambda x, y: torch.remainder(x, y | 1),
    "sum": lambda x, y: x.sum(-1, keepdim=True, dtype=x.dtype) + y,
    "column_sum": lambda x, y: x.sum(0, keepdim=True, dtype=x.dtype) - y,
    "running_sum": lambda x, y: x.cumsum(-1, dtype=x.dtype),
    "product": lambda x, y: x.prod(-1, keepdim=True, dtype=x.dtype) + y,
    "by_words": lambda x, y: (x.int() * 77777 + y.int()).to(x.dtype),
    "by_floats": lambda x, y: (x.float() * 3.7).to(x.dtype),
    "mean": lambda x, y: x.float().mean(-1, keepdim=True).to(x.dtype) * y,
}


class Drawn(torch.nn.Module):
    """A program of drawn steps, each of two values that exist; all of them are returned."""

    def __init__(self, seed: int, length: int) -> None:
        super().__init__()
        pick = np.random.default_rng(seed)
        self.steps = [
            (str(pick.choice(list(STEPS))), *(int(n) for n in pick.integers(0, k + 2, 2)))
            for k in range(length)
        ]

    def forward(self, *inputs: Any) -> Any:
        values = list(inputs)
        for name, one, other in self.steps:
            values.append(STEPS[name](values[one], values[other]))
        return values[2:]


def drawn(dtype: Any, seed: int) -> list[Any]:
    limits, generator = torch.iinfo(dtype), np.random.default_rng(seed)
    shapes = ((5, 37), (5, 37))
    return [
        torch.from_numpy(generator.integers(limits.min, limits.max, shape, endpoint=True)).to(dtype)
        for shape in shapes
    ]


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_programs_are_those_of_pytorch(dtype: Any, seed: int, numerics: str) -> None:
    program, inputs = Drawn(seed, 14).eval(), drawn(dtype, seed)
    found = compiler.compile(program, tuple(inputs), numerics=numerics)(*inputs)
    wanted = program(*inputs)
    for step, got, expected in zip(program.steps, found, wanted, strict=True):
        assert got.dtype == expected.dtype, step
        assert torch.equal(got, expected), step


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_step_alone_at_the_limits(dtype: Any) -> None:
    """Each step on all pairs of the least, the largest and what lies around zero."""
    limits = torch.iinfo(dtype)
    edge = torch.tensor(
        [limits.min, limits.min + 1, 0, 1, 2, limits.max - 1, limits.max], dtype=dtype
    )
    x, y = (v.contiguous() for v in torch.meshgrid(edge, edge, indexing="ij"))

    class All(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return [step(x, y) for step in STEPS.values()]

    found = compiler.compile(All().eval(), (x, y))(x, y)
    for name, got, expected in zip(STEPS, found, All()(x, y), strict=True):
        assert torch.equal(got, expected), name


def test_jax_saturates_where_it_converts_floats() -> None:
    jax = pytest.importorskip("jax")
    x = np.array([[300.0, -300.0, 127.6, -0.9, 40000.0, 3.5]], np.float32)
    for dtype in (np.int8, np.uint8, np.int16):

        def convert(x: Any, dtype: Any = dtype) -> Any:
            return x.astype(dtype)

        wanted = np.asarray(jax.jit(convert)(x))
        for numerics in ("graph", "instruction"):
            compiled = tenzing.compile(jax.jit(convert), (x,), numerics=numerics)
            np.testing.assert_array_equal(np.asarray(compiled(x)), wanted)


@pytest.mark.parametrize(
    ("step", "name"),
    [(lambda x: x**x, "power"), (lambda x: x.cumprod(-1, dtype=x.dtype), "cumulative")],
)
def test_what_has_no_exact_form_is_refused_by_name(step: Callable[[Any], Any], name: str) -> None:
    class Step(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return step(x)

    x = torch.ones(3, 4, dtype=torch.int8)
    with pytest.raises(UnsupportedOp, match=f"operation {name}.* of 8 or 16 bits"):
        compiler.compile(Step().eval(), (x,))(x)
