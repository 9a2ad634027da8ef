"""Runs of several kernels: tables, money, comparisons, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenzing import report
from tenzing.errors import Finding, KernelError, UsageError
from tenzing.fleet import Bill
from tenzing.report.launches import DETAILED, PICTURED


def test_one_kernel_is_told_in_full_with_money(make_run: Any) -> None:
    text = report.run_result_text(make_run("gemm"))
    assert text.startswith("gemm at main.py:9\nAWS Trainium2, one NeuronCore (simulated)")
    assert "money: 1,163,636 executions a second on trn2.48xlarge, all 128 cores busy; " in text
    assert "$8.537 per million at $35.76 an hour (capacity block, 2026-08)" in text


def test_of_many_kernels_the_slowest_are_told(make_run: Any) -> None:
    run = make_run(*(f"k{n}" for n in range(DETAILED + 2)))
    for number, kernel in enumerate(run.kernels):
        kernel.analyses[0].latency_ps += number
    text = report.run_result_text(run)
    assert text.startswith("Kernels\nkernel")
    assert "\nk0 at main.py" not in text
    assert text.count("(simulated)") == DETAILED
    assert text.index("k2 at main") < text.index("k4 at main")


def test_findings_of_kernels_not_told_are_still_told(make_run: Any) -> None:
    run = make_run(*"abcdef")
    run.kernels[5].analyses[0].latency_ps -= 1
    run.kernels[5].analyses[0].findings.append(Finding("races", "tile read while written"))
    assert "elsewhere, 1 finding" in report.run_result_text(run)
    assert "tile read while written" in report.run_result_text(run)


def test_a_script_without_kernels_says_so(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    words = "no NKI kernel was launched"
    assert words in report.run_result_text(run)
    assert words in report.findings_text(run)
    assert words in report.profile_text(run, tmp_path)
    assert f"next: call a kernel in {run.path}, or name a model" in report.run_result_text(run)
    assert words in report.comparison_text(["trn2"], [run])
    assert words in report.write_run_html(run, tmp_path / "r.html").read_text()
    assert json.loads(report.write_run_perfetto(run, tmp_path / "t.json").read_text())


def test_no_price_is_said_not_invented(make_run: Any) -> None:
    unpriced = Bill("trn3.x", 16, 10.0, None, None, "unknown", "", "")
    assert "all 16 cores busy; no public price" in report.run_result_text(
        make_run("k", bill=unpriced)
    )
    assert "no instance with this chip is known" in report.run_result_text(make_run("k", bill=None))
    text = report.comparison_text(["trn3"], [make_run("k", bill=unpriced)])
    assert text.splitlines()[3].split()[-4:] == ["10", "unknown", "unknown", "0"]


def test_agreement_keeps_its_digits(make_run: Any) -> None:
    run = make_run("net")
    run.agreement = {"cosine": 0.999987}
    assert "cosine   0.999987" in report.run_result_text(run)


def test_check_counts_kernels_or_lists_findings(make_run: Any) -> None:
    assert "nothing found in 2 kernels" in report.findings_text(make_run("a", "b"))
    bad = make_run("a", findings=[Finding("legality", "tile too wide")])
    assert "- legality: tile too wide" in report.findings_text(bad)
    assert report.findings_json(bad)["findings"][0]["rule"] == "legality"


def test_profile_ranks_lines_and_names_files(make_run: Any) -> None:
    text = report.profile_text(make_run("gemm"), Path("out"))
    assert "gemm.py:4 in gemm             1  DMA     65.00 us" in text
    assert "DMA 80%, start 20%" in text
    assert "ui.perfetto.dev" in text
    plain = json.loads(json.dumps(report.profile_json(make_run("gemm"))))
    assert plain["kernels"][0]["longest_waits"][0]["waiting_for_ps"]["DMA"] == 40_000_000


def test_comparison_lists_refusals_with_their_reason(make_run: Any) -> None:
    error = KernelError("fp8 is not known", allowed="bf16", next_step="use trn2")
    text = report.comparison_text(["trn2", "trn1"], [make_run("gemm"), error])
    assert "trn1 refuses: kernel: fp8 is not known; allowed: bf16" in text
    assert "capacity block 2026-08" in text
    plain = report.comparison_json(["trn2", "trn1"], [make_run("gemm"), error])
    assert plain["targets"]["trn1"]["error"]["next_step"] == "use trn2"
    assert plain["targets"]["trn2"]["kernels"][0]["bill"]["usd_per_million"] == 8.5367


def test_comparison_rows_may_lack_columns() -> None:
    assert report.comparison_table([{"chip": "a", "ms": 1.5}, {"chip": "b", "W": 3}]).splitlines()[
        2:
    ] == ["a         1.5  unknown", "b     unknown        3"]


def test_files_are_written(make_run: Any, tmp_path: Path) -> None:
    run = make_run("a", "b")
    html = report.write_run_html(run, tmp_path / "r.html").read_text()
    assert html.count('aria-label="engines over time"') == 2
    trace = json.loads(report.write_run_perfetto(run, tmp_path / "t.json").read_text())
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(slices) == 6
    assert {e["pid"] for e in slices} == {1, 2}
    # the second kernel starts when the first one's program has ended
    assert min(e["ts"] for e in slices if e["pid"] == 2) == pytest.approx(100, abs=1e-3)


def test_a_page_of_many_kernels_pictures_the_slowest(make_run: Any, tmp_path: Path) -> None:
    html = report.write_run_html(make_run(*["k"] * (PICTURED + 1)), tmp_path / "r.html").read_text()
    assert html.count('aria-label="engines over time"') == PICTURED
    assert f"Of {PICTURED + 1} kernels the {PICTURED} slowest follow." in html


def test_an_unwritable_folder_is_refused(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*r\.html"):
        report.write_run_html(make_run("a"), tmp_path / "absent" / "r.html")
