"""One analysed program as text, JSON and page parts: nothing lost, nothing invented."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tenzing import facts
from tenzing.errors import Finding, LegalityError, Loc, UsageError
from tenzing.report import error_json, run_json, run_summary
from tenzing.report.html import page
from tenzing.report.run import run_sections


def test_summary_says_time_engines_memory_and_label(make_analysis: Any) -> None:
    chip = facts.chip("trn2")
    text = run_summary(make_analysis())
    sbuf = chip.integer("sbuf.bytes_per_partition") // 1024
    for words in (
        "AWS Trainium2, one NeuronCore (simulated)",
        "time     110.00 us on the device: 100.00 us program, 10.00 us launch",
        f"39.3 TFLOPS; MFU 50.0% of {chip.number('core.peak_bf16_tflops'):.1f} (bf16)",
        "HBM 16.0 MiB read, 1.0 MiB written; MBU 25.0%",
        f"SBUF     96.0 KiB of {sbuf}.0 KiB per partition needed",
        "Tensor  50.00 us  50.0%",
        "DMA     75.00 us  75.0%",
        "assumed facts: none",
    ):
        assert words in text
    assert "finding" not in text


def test_summary_lists_the_assumed_facts_that_were_used(make_analysis: Any) -> None:
    analysis = make_analysis()
    path = next(p for p, f in analysis.chip.items() if f.kind == "assumed" and f.unit != "flag")
    assert path not in run_summary(analysis)
    fact = analysis.chip.fact(path)
    analysis.chip.used.add(path)
    assert f"{path} = {fact.text()}" in run_summary(analysis)
    assert [f["fact"] for f in run_json(analysis)["assumed_facts"]] == [path]


def test_a_program_without_matrix_products_has_no_roofline(make_analysis: Any) -> None:
    analysis = make_analysis(flops=0, mfu=0.0)
    assert "no matrix product" in run_summary(analysis)
    text = page("t", run_sections(analysis))
    assert "Roofline" not in text
    assert "of the bf16 peak" not in text
    text = page("t", run_sections(make_analysis()))
    assert "Roofline" in text
    assert "of the bf16 peak" in text


def test_an_engine_without_work_is_idle(make_analysis: Any) -> None:
    text, html = run_summary(make_analysis()), page("t", run_sections(make_analysis()))
    assert re.search(r"^Vector +idle +0\.0%$", text, re.MULTILINE)
    assert "0.0% · idle" in html
    assert " 0 ps" not in text
    assert "· 0 ps" not in html


def test_an_overfull_memory_is_shouted(make_analysis: Any) -> None:
    capacity = facts.chip("trn2").integer("psum.bytes_per_partition")
    assert "DOES NOT FIT" in run_summary(make_analysis(psum_peak_bytes=capacity + 1))
    assert "DOES NOT FIT" not in run_summary(make_analysis(psum_peak_bytes=capacity))


def test_findings_are_in_text_json_and_page(make_analysis: Any) -> None:
    finding = Finding("capacity", "SBUF <is> full", Loc("k.py", 7, "k"), "use smaller tiles",
                      [("allocated", Loc("k.py", 3))])  # fmt: skip
    analysis = make_analysis(findings=[finding])
    text = run_summary(analysis)
    assert "1 finding: on the chip this would fail" in text
    assert "- capacity: SBUF <is> full\n  at k.py:7\n  allocated at k.py:3" in text
    assert run_json(analysis)["findings"] == [{
        "rule": "capacity", "message": "SBUF <is> full",
        "where": {"file": "k.py", "line": 7, "function": "k"},
        "related": [{"label": "allocated", "file": "k.py", "line": 3, "function": ""}],
        "next_step": "use smaller tiles",
    }]  # fmt: skip
    html = page("t", run_sections(analysis))
    assert "SBUF &lt;is&gt; full" in html
    assert "Next: use smaller tiles" in html


def test_json_is_plain_and_carries_units(make_analysis: Any) -> None:
    plain = json.loads(json.dumps(run_json(make_analysis())))
    assert plain["label"] == "simulated"
    assert plain["latency_ps"] == 110_000_000
    assert plain["busy_ps"] == {"Tensor": 50_000_000, "Vector": 0, "DMA": 75_000_000}
    assert plain["instructions"] == 3


def test_the_roofline_names_what_limits(make_analysis: Any) -> None:
    low = page("t", run_sections(make_analysis(flops=10**6)))
    high = page("t", run_sections(make_analysis(hbm_read_bytes=1000, hbm_write_bytes=0)))
    assert "memory sets the bf16 ceiling" in low
    assert "arithmetic sets the bf16 ceiling" in high


@pytest.mark.parametrize(
    ("error", "count"),
    [(UsageError("bad", got=1, next_step="do so"), 0),
     (LegalityError([Finding("legality", "a"), Finding("legality", "b")]), 2)],
)  # fmt: skip
def test_errors_as_json(error: Any, count: int) -> None:
    plain = json.loads(json.dumps(error_json(error)))
    assert plain["message"] == error.finding.message
    assert len(plain.get("findings", [])) == count


def test_the_whole_summary(make_analysis: Any, golden: Any) -> None:
    golden(run_summary(make_analysis()))


def test_time_comes_with_its_interval(make_analysis: Any) -> None:
    analysis = make_analysis()
    assert "90.00 us to 130.00 us" in run_summary(analysis)
    found = run_json(analysis)["interval_80"]
    assert found["low_ps"] < analysis.latency_ps < found["high_ps"]
    assert found["class"] == "dma"
