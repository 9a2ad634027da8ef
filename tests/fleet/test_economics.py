"""Money and energy to the cent, against examples worked by hand in the comments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fleet import economics as e
from tenzing.units import Hours, Joules, Usd, UsdPerHour, Watts

# A server of 100,000 $ and 10 kW at most, every input given.
INPUTS: dict[str, float] = {
    "usd": 100_000, "peak_w": 10_000, "usd_per_kwh": 0.10, "pue": 1.5, "load_share": 0.8,
    "space_usd_per_kw_month": 100, "network_share": 0.2, "staff_share": 0.03,
    "maintenance_share": 0.02, "depreciation_years": 4, "residual_share": 0.1, "capital_share": 0,
    "utilisation": 0.5, "margin": 0.2,
}  # fmt: skip


def own(**changes: float) -> e.Ownership:
    return e.ownership("", **{**INPUTS, **changes})


def cents(amount: Usd | UsdPerHour | None) -> float:
    assert amount is not None
    return round(amount.amount, 2)


def test_an_hour_of_ones_own() -> None:
    # capital      (120,000 - 10,000) / 4 years            = 27,500 $ a year
    # staff        100,000 x 0.03                          =  3,000
    # maintenance  100,000 x 0.02                          =  2,000
    # energy       10 kW x 0.8 x 1.5 x 8760 h x 0.10 $     = 10,512
    # space        10 kW x 100 $ x 12                      = 12,000
    # together 55,012 $ / 8760 h = 6.2799 $/h; half of the hours have work: 12.5598; of which a
    # provider keeps a fifth: 12.5598 / 0.8 = 15.6998
    yearly = {name: cents(part.over(Hours(8760))) for name, part in own().parts.items() if part}
    assert yearly == {
        "capital": 27_500.0, "staff": 3_000.0, "maintenance": 2_000.0, "energy": 10_512.0,
        "space": 12_000.0,
    }  # fmt: skip
    assert cents(own().per_hour) == 6.28
    assert cents(own().per_used_hour) == 12.56
    assert cents(own().asked) == 15.70
    assert own().assumed == ()


def test_capital_costs_interest() -> None:
    # 1.1^-4 = 0.68301; (120,000 - 10,000 x 0.68301) x 0.1 / (1 - 0.68301) = 35,701.79 $ a year
    capital = own(capital_share=0.1).parts["capital"]
    assert capital is not None
    assert cents(capital.over(Hours(8760))) == 35_701.79


@given(st.floats(0.001, 0.5), st.integers(1, 12), st.floats(0, 1))
def test_payments_return_the_investment(rate: float, years: int, residual: float) -> None:
    """The present value of all payments and of the sale is what was invested."""
    server = own(capital_share=rate, depreciation_years=years, residual_share=residual)
    capital = server.parts["capital"]
    assert capital is not None
    assert server.invested is not None
    yearly = capital.over(Hours(8760)).amount
    paid = sum(yearly / (1 + rate) ** year for year in range(1, years + 1))
    sold = 100_000 * residual / (1 + rate) ** years
    assert paid + sold == pytest.approx(server.invested.amount)


def test_own_or_rent() -> None:
    # rent 20 $/h, given back when idle. Owning pays from 6.2799 / 20 = 31.4 %. At half:
    # 20 x 4380 h = 87,600 $ a year against 55,012: 32,588 saved. Running costs without capital are
    # 27,512: 120,000 / (87,600 - 27,512) = 1.997 years until the investment is back.
    both = e.OwnOrRent(own(), e.rental("any", usd_per_hour=20))
    assert both.break_even_utilisation == pytest.approx(0.31400, abs=5e-6)
    assert cents(both.saved_a_year) == 32_588.00
    assert both.payback_years == pytest.approx(1.99707, abs=5e-6)
    cheap = e.OwnOrRent(own(), e.rental("any", usd_per_hour=5))
    assert cents(cheap.saved_a_year) == -33_112.00  # 5 x 4380 - 55,012
    assert cheap.break_even_utilisation is not None
    assert cheap.break_even_utilisation > 1
    assert cheap.payback_years == math.inf


def test_a_committed_rent_is_paid_when_idle_too() -> None:
    assert cents(e.rental("x", "reserved", usd_per_hour=10, utilisation=0.4).per_used_hour) == 25.0
    assert cents(e.rental("x", "on_demand", usd_per_hour=10, utilisation=0.4).per_used_hour) == 10.0


def test_a_rent_from_the_price_book() -> None:
    price = facts.price("trn1.32xlarge", "on_demand")
    found = e.rental("trn1.32xlarge", "on_demand")
    assert price is not None
    assert found.rate == UsdPerHour(price.usd_per_hour)
    assert (found.date, found.source) == (str(price.date), price.source)


def test_what_is_unknown_stays_unknown() -> None:
    """A missing price is never nothing."""
    nothing = e.ownership("trn2.48xlarge")  # AWS sells no Trainium
    assert nothing.price is None
    assert nothing.per_hour is None
    assert nothing.asked is None
    both = e.OwnOrRent(nothing, e.rental("any", usd_per_hour=20))
    assert both.break_even_utilisation is both.saved_a_year is both.payback_years is None
    powerless = e.ownership("", usd=1000)
    assert powerless.parts["energy"] is None
    assert powerless.per_hour is None
    unpriced = e.OwnOrRent(own(), e.Rental("x", None))
    assert unpriced.break_even_utilisation is unpriced.saved_a_year is None
    assert e.usd_per_million(None, 100) is None
    assert e.joules_per_unit(None, 100) is None
    assert e.break_even(None, Usd(1), 100) is None
    assert e.break_even(UsdPerHour(1), None, 100) is None
    month = e.size_fleet(e.demand(10), 5, None)[0]
    assert month.cost is None


def test_defaults_are_facts() -> None:
    found = e.ownership("p5.48xlarge", pue=1.2)
    assert found.pue == 1.2
    assert "pue" not in found.assumed
    assert {"usd", "peak_w", "usd_per_kwh", "utilisation"} <= set(found.assumed)
    economy = facts.economy()
    assert found.depreciation_years == economy.number("own.depreciation_years")
    for fact in economy.facts.values():
        assert fact.source in facts.sources()
        assert fact.kind in ("published", "derived", "assumed")


@pytest.mark.parametrize(
    "wrong",
    [{"pue": -1.0}, {"utilisation": 0.0}, {"utilisation": 1.5}, {"margin": 1.0}, {"colour": 1.0},
     {"depreciation_years": 0.0}, {"usd": math.inf}, {"usd": math.nan}],
    ids=str,
)  # fmt: skip
def test_wrong_inputs_of_owning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)) + "|no such input"):
        own(**wrong)


def test_tokens() -> None:
    # 36 $/h is 0.01 $/s; 10,000 tokens a second make a million in 100 s: 1 $. 5 kW / 10,000 = 0.5 J
    assert e.usd_per_million(UsdPerHour(36), 10_000) == Usd(pytest.approx(1.00))
    assert e.joules_per_unit(Watts(5_000), 10_000) == Joules(pytest.approx(0.5))
    assert e.usd_per_million(UsdPerHour(36), 0) is None


def test_break_even_load() -> None:
    # at 2 $ a million, 0.01 $/s is 5,000 tokens/s, half of what the machine makes; at 0.50 $ twice
    half = e.break_even(UsdPerHour(36), Usd(2), 10_000)
    twice = e.break_even(UsdPerHour(36), Usd(0.5), 10_000)
    assert half is not None
    assert twice is not None
    assert half.per_s == pytest.approx(5_000)
    assert half.share == pytest.approx(0.5)
    assert half.reachable
    assert twice.share == pytest.approx(2.0)
    assert not twice.reachable


def test_prices_of_prompts_and_answers_together() -> None:
    # four tokens of prompt for one of answer: 0.60 + 4 x 0.15 = 1.20
    assert cents(e.blended(Usd(0.15), Usd(0.60), 1000, 250)) == 1.20
    with pytest.raises(UsageError):
        e.blended(Usd(1), Usd(1), 10, 0)


FORECAST: dict[str, Any] = {
    "peak_to_mean": 2, "growth_per_month": 0.1, "headroom": 0.2, "instance_availability": 0.99,
    "availability": 0.99, "months": 2,
}  # fmt: skip


def test_a_fleet_for_a_forecast() -> None:
    # the peak is 20,000/s; an instance may carry 3,000 x 0.8 = 2,400: 8.33, so 9. All nine work in
    # 0.99^9 = 91.4 % of the hours; nine of ten in 0.99^10 + 10 x 0.01 x 0.99^9 = 99.6 %: one spare.
    # 10 x 12 $/h x 730 h = 87,600 $. Next month 22,000 / 2,400 = 9.17, so 10 and one spare.
    first, second = e.size_fleet(e.demand(10_000, **FORECAST), 3_000, UsdPerHour(12))
    assert (first.needed, first.spares, first.instances) == (9, 1, 10)
    assert cents(first.cost) == 87_600.00
    assert first.utilisation == pytest.approx(1 / 3)
    assert (second.needed, second.spares) == (10, 1)
    assert second.peak_per_s == pytest.approx(22_000)


def test_a_backlog_needs_more_in_the_first_month_only() -> None:
    # 864 million within 4 h are 60,000/s beside 10,000: 70,000 / 3,000 = 23.3, so 24
    found = e.demand(10_000, **FORECAST, backlog=864e6, clear_within=Hours(4))
    first, second = e.size_fleet(found, 3_000, None)
    assert (first.needed, second.needed) == (24, 10)
    slack = e.demand(10_000, **FORECAST, backlog=864e6, clear_within=Hours(24))
    assert e.size_fleet(slack, 3_000, None)[0].needed == 9  # 20,000 / 3,000 is less than the peak


def test_an_exact_fit_needs_no_further_instance() -> None:
    exact = {**FORECAST, "headroom": 0.1, "growth_per_month": 0.0, "availability": 0.0}
    assert e.size_fleet(e.demand(1.35, **exact), 3.0, None)[0].needed == 1  # 2.7 / 2.7


@given(st.integers(1, 300), st.floats(0.5, 0.9999), st.floats(0.5, 0.9999))
def test_spares_are_the_fewest_that_suffice(needed: int, works: float, target: float) -> None:
    def enough(count: int) -> float:
        return sum(math.comb(count, k) * works**k * (1 - works) ** (count - k)
                   for k in range(needed, count + 1))  # fmt: skip

    extra = e.spares(needed, works, target)
    assert enough(needed + extra) >= target - 1e-9
    assert extra == 0 or enough(needed + extra - 1) < target + 1e-9


@pytest.mark.parametrize(
    "wrong",
    [{"peak_to_mean": 0.5}, {"headroom": 1.0}, {"months": 0}, {"backlog": -1.0}, {"moon": 1},
     {"availability": 1.0}, {"clear_within": Hours(0)}, {"growth_per_month": math.nan}],
    ids=str,
)  # fmt: skip
def test_wrong_forecasts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        e.demand(10, **wrong)
    with pytest.raises(UsageError):
        e.size_fleet(e.demand(10), 0, None)


def generation(year: float, rate: float | None, speed: float) -> e.Generation:
    return e.Generation("x", "gpu", year, UsdPerHour(rate) if rate else None, speed)


def test_price_performance_by_year() -> None:
    # 100 TFLOP/s for 36 $/h: 100 x 3600 / 36 = 10,000 TFLOP for a dollar
    assert generation(2020, 36, 100).work_per_usd == pytest.approx(10_000)
    assert generation(2020, None, 100).work_per_usd is None
    # twice as much for a dollar every two years: the square root of 2 a year
    points = [generation(2018, 1, 10), generation(2020, 1, 20), generation(2022, 2, 80)]
    assert e.yearly_gain(points) == pytest.approx(math.sqrt(2) - 1)
    assert e.yearly_gain([*points[:1], generation(2020, None, 20)]) is None


def test_generations_come_with_launch_and_price() -> None:
    found = e.generations()
    assert [g.launched for g in found] == sorted(g.launched for g in found)
    names = {g.instance for g in found}
    assert {"trn1.32xlarge", "inf2.48xlarge", "trn2.48xlarge"} <= names
    trn2 = next(g for g in found if g.instance == "trn2.48xlarge")
    assert trn2.launched == pytest.approx(2024 + 11 / 12)
    assert trn2.speed == pytest.approx(16 * facts.accelerator("trn2").bf16_tflops)
    assert [g.speed for g in e.generations({"trn1.32xlarge": 7.0})] == [7.0]


@dataclass(frozen=True)
class Case:
    rate: UsdPerHour
    tokens_per_s: float
    load: float


def cost(case: Case) -> Usd | None:
    return e.usd_per_million(case.rate / case.load, case.tokens_per_s)


def test_one_input_at_a_time() -> None:
    # 36 $/h, 10,000 tokens/s at half load: 2 $. The price moves it by 0.40 each way, the speed to
    # 2 / 1.1 and 2 / 0.9, the load to 1 $ (always busy) and 4 $ (a quarter).
    case = Case(UsdPerHour(36), 10_000, 0.5)
    bars = e.tornado(cost, case, {"rate": e.around(case.rate, 0.2),
                                  "tokens_per_s": e.around(10_000, 0.1),
                                  "load": (0.25, 1.0)})  # fmt: skip
    assert [bar.name for bar in bars] == ["load", "rate", "tokens_per_s"]
    assert [(cents(b.at_low), cents(b.at_high)) for b in bars] == [
        (4.00, 1.00), (1.60, 2.40), (2.22, 1.82),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no such input; got colour"):
        e.tornado(cost, case, {"colour": (1, 2)})


def test_a_bill_is_the_same_arithmetic() -> None:
    # every core for itself, one item in 1 ms: 1000 items/s and core
    bill = e.bill_for("trn1", 1_000_000_000)
    assert bill is not None
    assert bill.usd_per_hour is not None
    assert bill.items_per_s == pytest.approx(1000 * bill.cores)
    assert bill.usd_per_million == pytest.approx(bill.usd_per_hour / 3600 / bill.items_per_s * 1e6)


def test_the_largest_fleets_are_sized_too() -> None:
    """Far beyond ten thousand the sum leaves out its tails: as the normal distribution says."""
    needed, works, target = 10**7, 0.995, 0.999
    extra = e.spares(needed, works, target)
    middle = needed / works
    normal = middle + 3.0902 * math.sqrt(middle * works * (1 - works)) / works - needed
    assert extra == pytest.approx(normal, rel=1e-3)
