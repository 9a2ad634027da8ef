"""Quantities: like mixes with like only, and products have names."""

from __future__ import annotations

import operator
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenzing.units import Hours, Joules, Quantity, Usd, UsdPerHour, UsdPerKwh, Watts

ONE_OF_EACH = (Hours(2.0), Usd(2.0), UsdPerHour(2.0), Joules(2.0), Watts(2.0), UsdPerKwh(2.0))
OPERATIONS = (operator.add, operator.sub, operator.truediv, operator.lt)


@pytest.mark.parametrize("a", ONE_OF_EACH, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("b", [*ONE_OF_EACH, 2.0], ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_only_like_mixes(operation: Callable[..., Any], a: Quantity, b: Any) -> None:
    if type(a) is type(b) or (operation is operator.truediv and isinstance(b, float)):
        operation(a, b)
        return
    with pytest.raises(TypeError):
        operation(a, b)


@pytest.mark.parametrize("a", ONE_OF_EACH, ids=lambda a: type(a).__name__)
def test_quantities_do_not_multiply(a: Quantity) -> None:
    with pytest.raises(TypeError):
        a * a  # type: ignore[operator]


def test_arithmetic() -> None:
    assert Usd(1.25) + Usd(2.5) - Usd(0.75) == Usd(3.0)
    assert 3 * Usd(1.5) == Usd(1.5) * 3 == Usd(4.5)
    assert Usd(3.0) / Usd(1.5) == 2.0
    assert Usd(3.0) / 2 == Usd(1.5)
    assert -Watts(3.0) < Watts(0.0)


def test_products_by_name() -> None:
    # 500 W for 3 h are 1.5 kWh, at 0.08 $/kWh 12 cents; 24 $ a day are 1 $/h
    assert Watts(500).over(Hours(3)) == Joules(5_400_000)
    assert Watts(500).over(Hours(3)).kwh == 1.5
    assert UsdPerKwh(0.08).of(Watts(500).over(Hours(3))).amount == pytest.approx(0.12)
    assert Usd(24).per(Hours(24)) == UsdPerHour(1.0)
    assert UsdPerHour(1.5).over(Hours(4)) == Usd(6.0)


@pytest.mark.parametrize(
    ("amount", "text"), [(1234.567, "$1,234.57"), (-0.5, "-$0.50"), (0.001, "$0.00"), (0, "$0.00")]
)
def test_money_is_shown_to_the_cent(amount: float, text: str) -> None:
    assert str(Usd(amount)) == text
    assert str(UsdPerHour(amount)) == f"{text}/h"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "good"),
    [("Usd(1) + Usd(2)", True), ("Usd(1) + UsdPerHour(2)", False), ("Watts(1) + 1.0", False),
     ("Watts(1).over(Usd(2))", False), ("Usd(1) / Watts(2)", False)],
)  # fmt: skip
def test_a_type_checker_sees_it(tmp_path: Path, line: str, good: bool) -> None:
    pytest.importorskip("mypy", reason="needs the check extra")
    file = tmp_path / "money.py"
    file.write_text(f"from tenzing.units import *\n{line}\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", file], check=False, text=True,
                          capture_output=True, cwd=Path(__file__).parents[1])  # fmt: skip
    assert (done.returncode == 0) == good, done.stdout
