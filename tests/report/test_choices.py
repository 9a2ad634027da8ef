"""What a comparison of silicon says: text, JSON, CSV, the page."""

import csv
import dataclasses
import datetime
import itertools
import json
import re
from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing import commands, report
from tenzing.cli import main
from tenzing.fleet import Choice, Comparison
from tenzing.report.choices import prices_note
from tenzing.report.choices_words import answer, dollars, verdict
from tenzing.report.plot import Frame, Mark, Series, plot_svg, spaced

ON = "inf2.48xlarge,trn1.32xlarge,inf2.xlarge"


@pytest.fixture(scope="module")
def found() -> Comparison:
    return commands.compare("llama-3.1-70b", ON.split(","), requests_s=10)


def test_no_target_is_dropped(found: Comparison) -> None:
    text = report.choices_text(found)
    for name in ON.split(","):
        assert name in text
    assert "inf2.xlarge: does not fit" in text
    assert "assumed: chat: prompt_tokens 1024" in text
    assert "prices: " in text


def test_unknown_is_never_zero() -> None:
    found = commands.compare("llama-3.1-8b", ["trn3-gen1-ultraserver"], requests_s=10,
                             usd_per_million=(0.1, 0.4))  # fmt: skip
    text = report.choices_text(found)
    row = next(line for line in text.splitlines() if line.startswith("trn3-gen1"))
    assert row.count("unknown") >= 6  # money, break-even, month
    assert "trn3-gen1-ultraserver unknown" in text
    assert not re.search(r"\$0(\.0+)?(?![.\d])", text)


def test_json_is_one_object_with_every_record_on_request(found: Comparison) -> None:
    short, long = (json.loads(json.dumps(report.choices_json(found, every=e))) for e in (0, 1))
    assert len(short["best"]) == 3
    assert len(long["choices"]) == short["configurations"] == len(found.choices)


def test_the_age_of_a_price_is_shown(found: Comparison) -> None:
    """A price of ten days ago, whatever day it is."""
    day = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=10)
    (best, *_) = found.best
    old = dataclasses.replace(best, price_date=str(day), term="on_demand")
    assert prices_note([old]) == f"prices: {best.instance} on demand of {day} (10 days old)"
    assert "unknown (known: " in prices_note([dataclasses.replace(best, price_date="")])


def test_prices_elsewhere_are_in_text_json_csv_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text of 128 tokens at 0.02 $ a million tokens: 2.56 $ for a million texts."""
    words = ["compare", "all-MiniLM-L6-v2", "--on", "inf2.xlarge", "--usd-per-million", "0.02",
             "--requests", "100", "--no-simulate", "--csv", str(tmp_path / "all.csv"), "--html",
             str(tmp_path / "page.html")]  # fmt: skip
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "$0.02 a million tokens are $2.56 a million texts" in text
    assert "break-even requests/s" in text
    assert "twice as many in the busiest hour" in text
    # 100 texts of 0.000 002 56 $ a second are 672.77 $ a month of 730 hours
    assert "Buying one by one costs less: $672.77." in text
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    best = printed["best"][0]
    hourly = best["usd_per_hour"]
    assert best["break_even_rate"] == pytest.approx(hourly / 3600 / 2.56e-6)
    assert printed["elsewhere"] == {"usd_per_million_tokens": [0.02], "usd_per_million": 2.56}
    assert {f["fact"] for f in printed["assumed_facts"]} >= {"economy: demand.peak_to_mean"}
    assert printed["frontiers"][0]["choices"]
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(r["break_even_rate"]) == pytest.approx(hourly / 3600 / 2.56e-6, rel=1e-4)
               for r in rows)  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    assert "break-even" in page
    assert "$2.56" in page


def test_csv_holds_every_field(found: Comparison, tmp_path: Path) -> None:
    path = report.write_choices_csv(found, tmp_path / "all.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in dataclasses.fields(Choice)]
    assert len(rows) == len(found.choices)


def test_the_page_stands_alone(found: Comparison, tmp_path: Path) -> None:
    page = report.write_choices_html(found, tmp_path / "page.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "does not fit" in page
    assert page.count('<table class="sortable">') == 2


def test_the_answer_comes_first(found: Comparison, tmp_path: Path) -> None:
    cheapest = min((c for c in found.best if c.status == "ok"),
                   key=lambda c: c.usd_per_million or 0)  # fmt: skip
    said = answer(found)
    bill = min((c for c in found.best if c.status == "ok"), key=lambda c: c.usd_per_month or 0)
    assert said.startswith(f"{bill.fleet_instances} {bill.instance} serve 10 requests/s for $")
    assert f"{cheapest.instance} makes a million output tokens for " in said
    assert "the least of those that can at a known price (2 of 3 targets)" in said
    page = report.write_choices_html(found, tmp_path / "page.html").read_text()
    body = page[page.index("<main>") :]
    assert body.index(escape(said)) < body.index("<section")
    assert said in report.choices_text(found)


def test_an_answer_without_a_price_or_without_a_fit_says_so() -> None:
    unpriced = commands.compare("llama-3.1-8b", ["trn3-gen1-ultraserver"])
    assert answer(unpriced).startswith("No price is known; trn3-gen1-ultraserver makes the most")
    assert ("price unknown", "trn3-gen1-ultraserver") in verdict(unpriced)
    full = commands.compare("llama-3.1-405b", ["inf2.xlarge"])
    assert answer(full) == "llama-3.1-405b runs on none of the targets asked."
    assert dict(verdict(full))["left out, and why"].startswith("inf2.xlarge: a rank needs")
    slow = commands.compare("llama-3.1-8b", ["inf2.48xlarge"], tpot_ms=0.1)
    assert "no target keeps the limits" in answer(slow)


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0.58, "$0.58"), (0.5926, "$0.593"), (0.0107, "$0.0107"), (1.2, "$1.20"), (2.555, "$2.56"),
     (80_358.2, "$80,358"), (2_353_490.0, "$2.35 million"), (0.0, "$0.00")],
)  # fmt: skip
def test_dollars_keep_the_digits_that_matter(amount: float, said: str) -> None:
    assert dollars(amount) == said


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "llama-3.1-8b", "--on", "trn2.48xlarge", "--task", "chat", "--ttft", "0.5s",
             "--output", "1k", "--no-simulate", "--json"]  # fmt: skip
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sizes"]["ttft_ms"] == 500
    assert printed["sizes"]["output_tokens"] == 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "p9.huge"], "neither an instance nor an accelerator"),
        (["--on", ""], "no targets"),
        (["--on", "trn2.48xlarge", "--term", "forever"], "price term"),
        (["--on", "inf2.xlarge", "--prefix-hit", "3"], "a share"),
        (["--on", "inf2.xlarge", "--usd-per-million", "3"], "of input and of output"),
        (["--on", "inf2.xlarge", "--forecast", "headroom=0.1"], "needs a demand"),
    ],
)
def test_wrong_words_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "llama-3.1-8b", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_script_takes_no_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "kernel.py"
    script.write_text("")
    assert main(["compare", str(script), "--task", "chat"]) == 2
    assert "executed, not planned" in capsys.readouterr().err


def test_when_nothing_fits_the_command_says_so_with_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", "llama-3.1-405b", "--on", "inf2.xlarge", "--no-simulate"]) == 2
    assert "does not fit" in capsys.readouterr().out


def test_a_plot_has_a_mark_a_point_and_says_when_it_is_empty() -> None:
    marks = [Mark(10.0, 1.0, "a<b", True, (5.0, 20.0), (0.5, 2.0)), Mark(100.0, 0.5)]
    picture = plot_svg([Series("one", marks), Series("none", [])], Frame("ms", "$"))
    assert picture.count("<circle") == 2
    assert picture.count(" range") == 2  # the interval of each direction
    assert "a&lt;b" in picture
    assert ">one</text>" in picture
    assert "none" not in picture
    assert "Nothing to draw" in plot_svg([], Frame("ms", "$"))


@given(st.lists(st.floats(0, 300), max_size=8).map(sorted))
def test_names_do_not_touch_and_stay_inside(wanted: list[float]) -> None:
    places = spaced(wanted, 15, 0, 300)
    assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(places))
    assert all(0 <= p <= 300 for p in places)
