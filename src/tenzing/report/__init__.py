"""Words and pictures: results as text, JSON, HTML and traces. Nothing is computed here."""

from tenzing.report.buckets import advice_json, advice_text
from tenzing.report.choices import choices_json, choices_text, write_choices_csv
from tenzing.report.choices_page import write_choices_html
from tenzing.report.difference import difference_text, read_profile
from tenzing.report.economics import (
    economics_json,
    economics_text,
    generations_json,
    generations_text,
)
from tenzing.report.html import write_html
from tenzing.report.launches import (
    comparison_json,
    comparison_table,
    comparison_text,
    findings_json,
    findings_text,
    profile_json,
    profile_text,
    run_result_json,
    run_result_text,
    write_run_explorer,
    write_run_html,
    write_run_perfetto,
)
from tenzing.report.leaning import leaning_json, leaning_text
from tenzing.report.measured import measured_text
from tenzing.report.profile import profile_summary
from tenzing.report.regions import regions_json, regions_text
from tenzing.report.run import error_json, run_json, run_summary
from tenzing.report.saved import saved_json, saved_text
from tenzing.report.scores import score_text
from tenzing.report.table import Table, table

__all__ = [
    "Table", "advice_json", "advice_text", "choices_json", "choices_text", "comparison_json",
    "comparison_table", "comparison_text", "difference_text", "economics_json", "economics_text",
    "error_json", "findings_json", "findings_text", "generations_json", "generations_text",
    "leaning_json", "leaning_text", "measured_text", "profile_json", "profile_summary",
    "profile_text", "read_profile", "regions_json", "regions_text", "run_json", "run_result_json",
    "run_result_text", "run_summary", "saved_json", "saved_text", "score_text", "table",
    "write_choices_csv", "write_choices_html", "write_html", "write_run_explorer", "write_run_html",
    "write_run_perfetto",
]  # fmt: skip
