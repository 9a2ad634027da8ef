"""Money of a choice to the cent, against examples worked by hand in the comments."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fleet import Choice, compare, fleet_for, sensitivity
from tenzing.fleet import economics as e
from tenzing.fleet.comparison import Encoding, Imaging, Serving, Task, Training
from tenzing.fleet.comparison.money import completed, demand_of, elsewhere_of
from tenzing.units import UsdPerHour

# Two instances of 18 $ an hour that make 10,000 output tokens a second together.
CHAT = Serving(prompt_tokens=1000, output_tokens=250)
FLAT: dict[str, float] = {"peak_to_mean": 1, "headroom": 0, "instance_availability": 0.99,
                          "availability": 0.5, "growth_per_month": 0}  # fmt: skip


def choice(**changes: Any) -> Choice:
    given: dict[str, Any] = {
        "instances": 2, "chips": 32, "replicas": 8, "unit": "output tokens", "rate": 10_000.0,
        "rate_low": 5_000.0, "rate_high": 20_000.0, "requests_s": 40.0, "usd_per_hour": 18.0,
        "usd_per_million": 1.0, "usd_per_million_low": 0.5, "usd_per_million_high": 2.0,
    }  # fmt: skip
    return Choice("trn2", "trn2.48xlarge", "trn2", **given | changes)


def test_break_even_of_tokens() -> None:
    # a request: 1,000 tokens at 0.50 $ and 250 at 2.00 $ a million = 0.000 5 + 0.000 5 $ = 0.001 $,
    # so 4.00 $ for a million output tokens. The instances cost 36 $ an hour = 0.01 $ a second:
    # 10 requests, 2,500 output tokens a second. That is 25 % of 10,000, 12.5 % of 20,000, 50 % of
    # 5,000.
    elsewhere = elsewhere_of(CHAT, (0.5, 2.0))
    assert elsewhere is not None
    assert round(elsewhere.per_million.amount, 2) == 4.00
    found = completed(choice(), CHAT, elsewhere, None)
    assert found.usd_per_million_elsewhere == pytest.approx(4.0)
    assert found.break_even_rate == pytest.approx(2_500)
    assert found.break_even_requests_s == pytest.approx(10)
    assert found.break_even_share == pytest.approx(0.25)
    assert found.break_even_share_low == pytest.approx(0.125)
    assert found.break_even_share_high == pytest.approx(0.5)


def test_break_even_of_other_work() -> None:
    # a text of 128 tokens at 0.02 $ a million: 2.56 $ for a million texts. 0.01 $ a second buy
    # 0.01 / 0.000 002 56 = 3,906.25 texts.
    task = Encoding(prompt_tokens=128)
    texts = elsewhere_of(task, (0.02,))
    assert texts is not None
    assert round(texts.per_million.amount, 2) == 2.56
    found = completed(choice(unit="texts", requests_s=10_000.0), task, texts, None)
    assert found.break_even_requests_s == pytest.approx(3906.25)
    images, trained = (elsewhere_of(t, (40_000,)) for t in (Imaging(), Training(1, 1, 1)))
    assert images == trained
    assert images is not None
    assert images.per_million.amount == 40_000


def test_at_break_even_both_cost_the_same() -> None:
    found = completed(choice(), CHAT, elsewhere_of(CHAT, (0.15, 0.6)), None)
    assert found.break_even_rate is not None
    assert found.hourly is not None
    rented = e.usd_per_million(found.hourly, found.break_even_rate)
    assert rented is not None
    assert rented.amount == pytest.approx(found.usd_per_million_elsewhere)


def test_without_a_price_break_even_is_unknown() -> None:
    found = completed(choice(usd_per_hour=None), CHAT, elsewhere_of(CHAT, (1, 1)),
                      demand_of(Serving(1, 1, requests_s=4), FLAT))  # fmt: skip
    assert found.usd_per_million_elsewhere is not None
    assert found.break_even_rate is found.break_even_share is found.usd_per_month is None
    assert found.fleet_instances == 1
    assert sensitivity(choice(usd_per_hour=None)) == ()


@pytest.mark.parametrize(
    ("task", "prices", "word"),
    [
        (CHAT, (1.0,), "two prices"),
        (CHAT, (1.0, 2.0, 3.0), "two prices"),
        (Encoding(8), (1.0, 2.0), "tokens read"),
        (Imaging(), (1.0, 2.0), "images"),
        (CHAT, (0.0, 0.0), "not all of them 0"),
        (CHAT, (-1.0, 1.0), "from 0 on"),
        (CHAT, (math.nan, 1.0), "from 0 on"),
    ],
)
def test_prices_that_are_none_are_refused(task: Task, prices: tuple[float, ...], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        elsewhere_of(task, prices)


def test_a_fleet_for_requests() -> None:
    # one of the two instances serves 20 requests a second: 50 need 2.5, so 3 of 18 $ an hour for
    # 730 hours = 39,420.00 $ a month. Twice as fast 2 are enough, half as fast 5 are needed.
    # Elsewhere 50 requests of 0.001 $ a second are 0.05 $ x 730 x 3,600 = 131,400.00 $.
    task = Serving(1000, 250, requests_s=50)
    asked = demand_of(task, FLAT)
    assert asked is not None
    found = completed(choice(), task, elsewhere_of(task, (0.5, 2.0)), asked)
    assert (found.fleet_instances, found.fleet_spares) == (3, 0)
    assert (found.fleet_instances_low, found.fleet_instances_high) == (2, 5)
    assert found.usd_per_month == pytest.approx(39_420, abs=0.005)
    assert found.usd_per_month_elsewhere == pytest.approx(131_400, abs=0.005)
    assert found.fleet_utilisation == pytest.approx(50 / 60)


def test_a_fleet_is_that_of_the_economics() -> None:
    """One concept: instances for requests are instances for a demand."""
    task = Serving(1000, 250, requests_s=50)
    asked = demand_of(task, {})
    assert asked is not None
    (month,) = e.size_fleet(asked, 20.0, UsdPerHour(18))
    assert fleet_for(choice(), asked) == month
    assert asked.peak_to_mean == facts.economy().number("demand.peak_to_mean")


def test_a_copy_over_several_instances_comes_whole_and_fails_whole() -> None:
    # one copy on two instances serves 40 requests a second: 50 need two copies, four instances.
    # With 0.9 each, a copy works in 0.81 of the hours; both of two in 0.66, two of three in 0.905.
    asked = demand_of(Serving(1, 1, requests_s=50),
                      {**FLAT, "instance_availability": 0.9, "availability": 0.9})  # fmt: skip
    assert asked is not None
    found = fleet_for(choice(replicas=1), asked)
    assert (found.needed, found.spares, found.instances) == (4, 2, 6)
    assert found.cost is not None
    assert round(found.cost.amount, 2) == 6 * 18 * 730


def test_growth_is_sized_for_its_largest_month() -> None:
    asked = demand_of(Serving(1, 1, requests_s=20),
                      {**FLAT, "growth_per_month": 1.0, "months": 3})  # fmt: skip
    assert asked is not None
    assert fleet_for(choice(), asked).needed == 4  # 20, 40, 80 a second on instances of 20


def test_a_forecast_needs_a_demand() -> None:
    with pytest.raises(UsageError, match="needs a demand"):
        compare("llama-3.1-8b", ["trn2.48xlarge"], forecast={"headroom": 0.1})


def test_a_run() -> None:
    # 864 billion tokens at 10,000 a second are 86.4 million seconds, 1,000 days; at 1.00 $ a
    # million they cost 864,000.00 $, at 0.1 J each they are 24 MWh.
    task = Training(4096, 4096, 864 * 10**9)
    found = completed(choice(unit="trained tokens", joules_per_unit=0.1), task, None, None)
    assert found.run_days == pytest.approx(1000)
    assert (found.run_days_low, found.run_days_high) == pytest.approx((500, 2000))
    assert (found.run_usd, found.run_usd_low) == pytest.approx((864_000, 432_000))
    assert found.run_mwh == pytest.approx(24)


def test_sensitivity_is_the_tornado_of_the_economics() -> None:
    # 36 $/h at 10,000 a second: 1.00 $ a million; a price 20 % off: 0.80 to 1.20; busy a quarter of
    # the hours 4.00; at 5,000 a second 2.00, at 20,000 0.50.
    bars = sensitivity(choice())
    assert [bar.name for bar in bars] == ["load", "per_s", "rate"]
    ends = {bar.name: [round(x.amount, 2) for x in (bar.at_low, bar.at_high) if x] for bar in bars}
    assert ends == {"load": [4.0, 1.0], "per_s": [2.0, 0.5], "rate": [0.8, 1.2]}


def test_what_was_assumed_is_told_with_the_answer() -> None:
    """Only what this answer leaned on: an encoder's numbers are not in a chat's."""
    embed = {path for _, path in compare("bert-base-uncased", ["inf2.xlarge"]).leaned}
    chat = {path for _, path in compare("my-model-7b", ["inf2.48xlarge"], requests_s=3).leaned}
    assert "memory.encoder_held" in embed - chat
    assert {"serving.layer_s", "shape.head_dim", "demand.headroom"} <= chat - embed
