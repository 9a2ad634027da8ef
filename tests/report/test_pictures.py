"""Pages and pictures: self-contained, well-formed, bounded in size, true to the spans."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.report.html import Bars, Cards, Part, Rows, Text, page
from tenzing.report.picture import MAX_RECTS, MAX_ROWS, _merge, ticks, timeline_svg
from tenzing.report.roofline import Point, Roof, roofline_svg
from tenzing.report.run import run_sections
from tenzing.report.table import Table
from tenzing.timeline import Timeline

VOID = {"meta", "br", "img", "input", "link"}


class Balance(HTMLParser):
    """Checks that every tag is closed in order and collects what could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag in ("script", "link", "iframe", "img"):
            self.fetched.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(text: str) -> None:
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert parser.fetched == []
    assert "url(" not in text
    assert "@import" not in text


def test_a_full_page_is_self_contained_and_well_formed(make_analysis: Any) -> None:
    check(page("<title>", [
        Part("a & b", "lead"), *run_sections(make_analysis()), Text("words"), Cards([("l", "v")]),
        Rows(Table.of(["<th>"], [["<td>"]])), Bars("b", [("x", 1.5, "w")]),
    ], "lead", "foot"))  # fmt: skip


def test_user_words_are_escaped() -> None:
    text = page("<b>", [Rows(Table.of(["<i>"], [["<u>&"]], "<s>", "l"), "<q>")])
    for raw in ("<b>", "<i>", "<u>", "<s>", "<q>"):
        assert raw not in text


def test_bars_stay_in_their_bed() -> None:
    text = Bars("b", [("over", 1.5, ""), ("under", -1.0, "")]).html()
    assert re.findall(r"width:([\d.]+)%", text) == ["100.00", "0.00"]


def rects(svg: str) -> list[Any]:
    root = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
    return [r for r in root.iter("rect") if r.get("class") != "bed"]


def test_a_span_is_drawn_where_it_is() -> None:
    timeline = Timeline()
    timeline.add("Tensor", "<matmul>", 0, 500, "k.py:1")
    timeline.add("Tensor", "copy", 500, 1000)
    left, right = rects(timeline_svg(timeline))
    assert float(left.get("width")) == pytest.approx(float(right.get("width")), abs=0.02)
    assert float(right.get("x")) == pytest.approx(
        float(left.get("x")) + float(left.get("width")), abs=0.02
    )
    assert left.find("title").text == "<matmul> at k.py:1: 0 ps to 500 ps (500 ps)"
    assert left.get("class") != right.get("class")


def test_an_empty_timeline_is_a_picture() -> None:
    assert rects(timeline_svg(Timeline(["Tensor"]))) == []


def test_deep_overlap_shares_a_row() -> None:
    timeline = Timeline()
    for k in range(MAX_ROWS + 1):
        timeline.add("DMA", "dma_copy", k, 100 + k)
    heights = {float(r.get("height")) for r in rects(timeline_svg(timeline))}
    assert len(heights) == 1
    assert len(rects(timeline_svg(timeline))) == MAX_ROWS + 1


def test_a_million_spans_stay_small() -> None:
    count = 200_000
    timeline = Timeline(["Vector"])
    start = np.arange(count) * 10
    name = np.full(count, timeline.intern("copy"))
    timeline.extend(start, start + 5, np.zeros(count, np.int64), name)
    found = rects(timeline_svg(timeline))
    assert len(found) <= MAX_RECTS
    assert float(found[0].get("opacity")) == pytest.approx(0.5, abs=0.01)  # half busy, half pale
    assert found[0].find("title").text.startswith("200 instructions, longest copy")


def test_rare_names_share_a_colour() -> None:
    timeline = Timeline()
    for k in range(12):
        timeline.add("Vector", f"op{k}", k * 100, k * 100 + 100 - k)
    svg = timeline_svg(timeline)
    assert svg.count("<i class=") == 8
    assert "other" in svg
    assert "op6<" in svg
    assert "op7<" not in svg


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 1000)), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_law_merging_keeps_extent_and_time(spans: list[tuple[int, int]], limit: int) -> None:
    start = np.array(sorted(s for s, _ in spans))
    end = start + np.array([n for _, n in spans])
    total = int(end.max()) + 1
    merged = _merge(start, end, total, limit)
    assert len(merged.start) <= max(limit, min(len(spans), limit))
    assert int(merged.count.sum()) == len(spans)
    assert (merged.start.min(), merged.end.max()) == (start.min(), end.max())
    assert ((merged.share >= 0) & (merged.share <= 1)).all()


@given(st.floats(1e-3, 1e9))
def test_law_ticks_are_few_and_inside(highest: float) -> None:
    found = ticks(highest)
    assert found[0] == 0
    assert found[-1] <= highest * (1 + 1e-9)
    assert 4 <= len(found) <= 10


@given(st.floats(1e-6, 1e7), st.floats(1e-6, 1e4))
def test_law_the_roofline_holds_its_point(intensity: float, tflops: float) -> None:
    svg = roofline_svg([Roof("bf16", 78.6, 716.0)], [Point("p", intensity, tflops)])
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    dot = next(root.iter("circle"))
    assert 0 <= float(dot.get("cx", "nan")) <= width
    assert 0 <= float(dot.get("cy", "nan")) <= height


def test_the_ridge_is_where_memory_meets_arithmetic() -> None:
    assert Roof("x", 71.6, 716.0).ridge == pytest.approx(100.0)
