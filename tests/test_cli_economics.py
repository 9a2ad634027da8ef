"""``tenzing economics``: what it prints, its JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tenzing import cli

GIVEN = [
    "economics", "mine", "--usd-per-hour", "20", "--per-s", "10000", "--usd-per-million", "2",
    "--demand", "10000", "--forecast", "months=2", "--forecast", "instance_availability=0.99",
    "--forecast", "availability=0.99", "--forecast", "growth_per_month=0.1",
    *(f"--own={name}={value}" for name, value in {
        "usd": 100_000, "peak_w": 10_000, "usd_per_kwh": 0.10, "pue": 1.5, "load_share": 0.8,
        "space_usd_per_kw_month": 100, "network_share": 0.2, "staff_share": 0.03,
        "maintenance_share": 0.02, "depreciation_years": 4, "residual_share": 0.1,
        "capital_share": 0, "utilisation": 0.5, "margin": 0.2}.items()),
]  # fmt: skip


def test_the_example_worked_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """The server of tests/fleet/test_economics.py, which shows the arithmetic."""
    assert cli.main([*GIVEN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert round(found["own"]["usd_per_hour"], 2) == 6.28
    assert round(found["own"]["usd_per_hour_asked"], 2) == 15.70
    assert round(found["usd_saved_a_year"], 2) == 32_588.00
    # 20 $/h / 3600 / 10,000 a second x a million = 0.5556 $; owned 12.5598 / 36 = 0.3489 $
    assert round(found["usd_per_million"]["rent"], 4) == 0.5556
    assert round(found["usd_per_million"]["own"], 4) == 0.3489
    assert found["joules_per_unit"] == pytest.approx(0.8)  # 8 kW / 10,000
    assert found["break_even"]["share"] == pytest.approx(20 / 3600 / 2e-6 / 10_000)
    # peak 20,000 / (10,000 x 0.8) = 2.5, so 3; three of four work in 99.94 % of the hours
    first = found["months"][0]
    assert (first["needed"], first["spares"]) == (3, 1)
    assert round(first["usd"], 2) == 4 * 20 * 730
    assert found["assumed"] == ["peak_to_mean", "headroom"]


def test_the_same_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(GIVEN) == 0
    told = capsys.readouterr().out
    for words in ("$6.28", "$12.56", "owning is cheaper from 31%", "$32,588.00", "2.0 years",
                  "$0.56 a million rented, $0.35 owned, 0.8 J each", "fleet for the demand",
                  "one input at a time", "assumed, each can be given"):  # fmt: skip
        assert words in told


def test_unknown_is_said_and_is_not_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["economics", "trn2.48xlarge"]) == 0
    told = capsys.readouterr().out
    assert "whether owning is cheaper is unknown, for lack of: a price of such a server" in told
    assert "from unknown" not in told
    assert "$0.00" not in told
    assert cli.main(["economics", "trn2.48xlarge", "--own", "usd=300000"]) == 0
    told = capsys.readouterr().out
    assert "owning is cheaper from" in told
    assert "for lack of" not in told


@pytest.mark.parametrize(
    ("words", "lacking", "options"),
    [
        (["mine", "--usd-per-hour", "20"], "a price of such a server, its power",
         "--own usd=DOLLARS, --own peak_w=WATTS"),
        (["trn3-gen1-ultraserver", "--own", "usd=1e6"], "a price to rent it at",
         "--usd-per-hour DOLLARS"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_option(
    words: list[str], lacking: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["economics", *words]) == 0
    told = capsys.readouterr().out
    assert f"is unknown, for lack of: {lacking}\n  next: give {options}\n" in told
    assert "from unknown" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "is no instance we know"),
        (["p5.48xlarge", "--demand", "5"], "needs the throughput"),
        (["p5.48xlarge", "--own", "colour=1"], "no such input of owning"),
        (["p5.48xlarge", "--per-s", "0"], "per_s; got 0"),
        (["p5.48xlarge", "--per-s", "1", "--demand", "1", "--forecast", "moon=1"], "no such input"),
        (["p5.48xlarge", "--own", "utilisation=2"], "a share from 0 to 1"),
        (["p5.48xlarge", "--usd-per-hour", "nan"], "usd_per_hour; got nan"),
    ],
)  # fmt: skip
def test_what_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["economics", *words]) == 2
    assert told in capsys.readouterr().err


def test_regions_by_users(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["regions", "trn1.32xlarge", "--users", "New York=3,40.0:-83.0", "--most-ms", "40"]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "us-east-1" in told.splitlines()[2] or "us-east-2" in told.splitlines()[2]
    assert "(too far)" in told
    assert "unknown" in told
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["offered"] is True
    assert {row["usd_per_hour"] for row in found if row["offered"] is None} == {None}
    assert cli.main(["regions", "trn1.32xlarge", "--users", "Atlantis"]) == 2
    assert "no place of this name" in capsys.readouterr().err


def test_generations_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """p4d.24xlarge of 2020-11 at 21.96 $/h, p5.48xlarge of 2023-07 at 55.04 $/h: 9,000 and 27,000
    units a second are 1,475,410 and 1,765,988 for a dollar; 20 % more in 2.67 years, 7 % a year."""
    words = ["generations", "--per-s", "p4d.24xlarge=9000", "--per-s", "p5.48xlarge=27000"]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    old, new = found["generations"]
    assert (old["launched"], new["launched"]) == ("2020-11", "2023-07")
    for row, speed in ((old, 9000), (new, 27000)):
        assert row["per_usd"] == pytest.approx(speed * 3600 / row["usd_per_hour"])
    years = 2 + 8 / 12
    gain = (new["per_usd"] / old["per_usd"]) ** (1 / years) - 1
    assert found["yearly_gain"]["gpu"] == pytest.approx(gain)
    assert cli.main(["generations"]) == 0
    told = capsys.readouterr().out
    assert "PFLOP for a dollar" in told
    assert "neuron: +" in told
    assert cli.main(["generations", "--region", "mars"]) == 2
