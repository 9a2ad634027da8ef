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

from tenzing.errors import Loc
from tenzing.machine import Tenants
from tenzing.report.html import Bars, Cards, Part, Rows, Text, page
from tenzing.report.occupancy import occupancy_note, occupancy_svg
from tenzing.report.picture import (
    IN_DETAIL,
    LANE_HEIGHT,
    MAX_RECTS,
    MAX_ROWS,
    _merge,
    detail_html,
    ticks,
    timeline_svg,
)
from tenzing.report.roofline import Point, Roof, roofline_svg
from tenzing.report.run import run_sections
from tenzing.report.table import Table
from tenzing.timeline import MODEL_TRACK, Timeline

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
    return [r for r in drawn(svg).iter("rect") if r.get("class") != "bed"]


def drawn(html: str) -> Any:
    """The first picture of a piece of a page."""
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


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
    assert float(found[0].get("height")) == pytest.approx(LANE_HEIGHT / 2, abs=0.1)  # half busy
    each = found[0].find("title").text
    assert re.match(r"66[67] instructions, 50% busy, longest copy: 0 ps to ", each)


def test_a_long_program_is_also_shown_in_detail_where_it_starts_and_ends() -> None:
    timeline = Timeline(["Vector"])
    for k in range(MAX_RECTS + 1):
        timeline.add("Vector", "copy" if k else "first", k * 10**6, k * 10**6 + 900_000)
    html = detail_html(timeline)
    check(html)
    assert re.findall("<summary>(.*?)</summary>", html) == [
        "At the start: 0 ps to 64.00 us", "In the middle: 118.00 us to 182.00 us",
        "At the end: 237.00 us to 300.90 us",
    ]  # fmt: skip
    titles = [r.find("title").text for r in rects(html)]
    assert len(titles) == IN_DETAIL
    assert titles[0] == "first: 0 ps to 900.00 ns (900.00 ns)"
    middle = html[html.index("In the middle") :]
    assert rects(middle)[0].find("title").text == "copy: 118.00 us to 118.90 us (900.00 ns)"
    assert {"120", "180"} <= {t.text for t in drawn(middle).iter("text")}
    timeline = Timeline(["Vector"])
    timeline.add("Vector", "copy", 0, 1)
    assert detail_html(timeline) == ""


def held(*tiles: tuple[int, int, int, int]) -> Tenants:
    """Tiles as (from, to, bytes, line)."""
    start, end, size, owner = np.array(tiles, np.int64).T
    owners = tuple(("", Loc("k.py", line)) for line in range(int(owner.max()) + 1))
    return Tenants(start, end, size, owner, owners)


def test_memories_are_drawn_in_layers_up_to_the_fullest_moment() -> None:
    html = occupancy_svg(held((0, 100, 60, 0), (40, 80, 30, 1)), 100, 100)
    check(html)
    picture = drawn(html)
    layers = [[tuple(map(float, point.split(","))) for point in p.get("points").split()]
              for p in picture.iter("polygon")]  # fmt: skip
    top = {number: min(y for _, y in corners) for number, corners in enumerate(layers)}
    base = max(y for _, y in layers[0])
    assert (base - top[1]) / (base - top[0]) == pytest.approx(90 / 60, abs=0.01)
    limit = next(e for e in picture.iter("line") if e.get("class") == "limit")
    assert (base - float(limit.get("y1"))) / (base - top[1]) == pytest.approx(100 / 90, abs=0.01)
    assert [p.find("title").text for p in picture.iter("polygon")] == [
        "k.py:0: 60 B at most", "k.py:1: 30 B at most"]  # fmt: skip
    assert "90 B of 100 B per partition (90%)" in occupancy_note(held((0, 9, 90, 0)), 100, 90)


def test_a_capacity_out_of_sight_is_not_drawn() -> None:
    assert 'class="limit"' not in occupancy_svg(held((0, 100, 10, 0)), 1000, 100)


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 100), st.integers(1, 64),
                       st.integers(0, 11)), min_size=1, max_size=40)
)  # fmt: skip
def test_law_levels_are_what_is_held(tiles: list[tuple[int, int, int, int]]) -> None:
    spans = [(start, start + length, size, owner) for start, length, size, owner in tiles]
    times, levels = held(*spans).levels()
    for when, level in zip(times.tolist(), levels.tolist(), strict=True):
        assert level == sum(size for start, end, size, _ in spans if start <= when < end)
    assert levels[-1] == 0
    check(occupancy_svg(held(*spans), 100, 1000))


def test_rare_names_share_a_colour() -> None:
    timeline = Timeline()
    for k in range(12):
        timeline.add("Vector", f"op{k}", k * 100, k * 100 + 100 - k)
    svg = timeline_svg(timeline)
    legend = svg[svg.index("legend") :]
    assert legend.count("<i class=") == 8
    assert "other" in legend
    assert "op6<" in legend
    assert "op7<" not in legend
    assert {t.text for t in drawn(svg).iter("text") if t.get("class") == "on"} == {
        f"op{k}"
        for k in range(12)  # rectangles are wide enough for their names
    }


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


def test_operations_of_a_model_have_colours_and_a_legend_of_their_own() -> None:
    timeline = Timeline()
    for k in range(8):
        timeline.add("Vector", f"copy{k}", k * 100, k * 100 + 90)
    timeline.add(MODEL_TRACK, "attention", 0, 800, "layers.0")
    svg = timeline_svg(timeline)
    model, instructions = re.findall('<p class="legend">(.*?)</p>', svg)
    assert "attention" in model
    assert "attention" not in instructions
    assert "other" not in instructions  # all eight have a colour, as without the model
    assert next(drawn(svg).iter("text")).text is not None
    first = rects(svg)[0]
    assert first.find("title").text.startswith("attention at layers.0")


def test_spans_that_overlap_carry_no_names() -> None:
    """A name in a rectangle that another one covers would be read as the other's."""
    timeline = Timeline()
    for k in range(MAX_ROWS + 1):
        timeline.add("DMA", "dma_copy", k * 10, 1000 + k)
    assert not [t for t in drawn(timeline_svg(timeline)).iter("text") if t.get("class") == "on"]
