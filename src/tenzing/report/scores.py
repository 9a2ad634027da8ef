"""A score report as a table for people."""

from __future__ import annotations

from tenzing.fleet.scoring import Report, Score
from tenzing.report.table import table

HEADER = ("", "median", "90th", "signed", "in 80 %", "ordered", "predicted", "configurations")


def score_text(report: Report) -> str:
    """Overall and every stratum, one line each; errors are |ln(predicted/published)|."""
    rows = [_row("overall", report.overall)]
    for title, strata in (("", report.file), ("", report.accelerator), ("", report.phase)):
        rows += [_row(f"{title}{name}", score) for name, score in strata.items()]
    return table(HEADER, rows)


def _row(name: str, score: Score) -> tuple[str, ...]:
    return (
        name, _number(score.median_abs_ln_ratio), _number(score.p90_abs_ln_ratio),
        _number(score.signed_median, "+.3f"), _share(score.coverage_80), _share(score.ordering),
        _share(score.predicted_share), str(score.groups),
    )  # fmt: skip


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


__all__ = ["score_text"]
