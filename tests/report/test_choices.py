"""What a comparison of silicon says: text, JSON, CSV, the page."""

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest

from tenzing import commands, report
from tenzing.cli import main
from tenzing.fleet import Choice, Comparison
from tenzing.report.plot import Mark, Series, plot_svg

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


def test_unknown_is_never_zero(found: Comparison) -> None:
    broke = [dataclasses.replace(c, usd_per_hour=None, price_date="", usd_per_million=None,
                                 usd_per_million_low=None, usd_per_million_high=None)
             for c in found.choices]  # fmt: skip
    text = report.choices_text(dataclasses.replace(found, choices=tuple(broke)))
    row = next(line for line in text.splitlines() if line.startswith("trn1.32xlarge"))
    assert row.count("unknown") >= 3
    assert "trn1.32xlarge unknown" in text


def test_json_is_one_object_with_every_record_on_request(found: Comparison) -> None:
    short, long = (json.loads(json.dumps(report.choices_json(found, every=e))) for e in (0, 1))
    assert len(short["best"]) == 3
    assert len(long["choices"]) == short["configurations"] == len(found.choices)


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
    marks = [Mark(10.0, 1.0, "a<b", True), Mark(100.0, 0.5)]
    picture = plot_svg([Series("one", marks), Series("none", [])], "ms", "$")
    assert picture.count("<circle") == 2
    assert "a&lt;b" in picture
    assert "none" not in picture
    assert "Nothing to draw" in plot_svg([], "ms", "$")
