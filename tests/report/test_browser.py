"""Pages in a real browser: they load, complain of nothing, fit a telephone, sort."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tenzing import commands, report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
LONG_KERNEL = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def doubled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in range(0, x.shape[1], 64):
        piece = nl.load(x[:, start : start + 64])
        nl.store(out[:, start : start + 64], nl.add(piece, piece))
    return out

doubled(np.ones((128, 64 * 400), np.float32))
"""
WIDTH_PROBE = (
    "<script>document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth"
    "</script>"
)

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]  # fmt: skip


def load(page: Path, width: int) -> tuple[str, list[str]]:
    """The page as the browser understands it, and what its console says."""
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    script = folder / "doubled.py"
    script.write_text(LONG_KERNEL)
    result = commands.run(str(script), target="trn2")
    return report.write_run_html(result, folder / "report.html", profiled=True)


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = commands.compare("llama-3.1-8b", ["inf2.48xlarge", "trn1.32xlarge", "trn2.48xlarge"])
    return report.write_choices_html(found, tmp_path_factory.mktemp("choices") / "choices.html")


def test_a_comparison_draws_its_plot_and_sorts_its_table(choices: Path, tmp_path: Path) -> None:
    dom, console = load(choices, 1280)
    assert console == []
    assert dom.count('<circle class="c') > 3
    clicked = tmp_path / "clicked.html"
    click = "<script>document.querySelectorAll('table.sortable th')[2].click()</script>"
    clicked.write_text(choices.read_text().replace("</body>", click + "</body>"))
    dom, console = load(clicked, 1280)
    assert console == []
    table = dom[dom.index("<table") : dom.index("</table>")]
    assert 'aria-sort="ascending"' in table
    rates = [
        float(x.replace(",", "")) for x in re.findall(r">([\d,.]+) \([\d,.]+-[\d,.]+\)<", table)
    ]
    shown = rates[:: len(rates) // 3]  # the first range of each of the three rows
    assert shown == sorted(shown)


def test_a_profile_loads_without_a_word_on_the_console(page: Path) -> None:
    dom, console = load(page, 1280)
    assert console == []
    headings = re.findall("<h2>(.*?)</h2>", dom)
    for title in ("Timeline", "Critical path", "SBUF over time", "Transfers by size"):
        assert title in headings
    assert dom.index("doubled.py:") < dom.index("<h2>Timeline")  # the bottleneck comes first


def test_the_console_is_listened_to(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script>undefined_name()</script>")
    assert any("undefined_name" in line for line in load(bad, 1280)[1])


@pytest.mark.parametrize("width", [1280, 500])  # Chromium makes no narrower window
@pytest.mark.parametrize("name", ["page", "choices"])
def test_nothing_is_wider_than_the_window(
    name: str, width: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(name)
    probed = tmp_path / "probed.html"
    probed.write_text(source.read_text().replace("</body>", WIDTH_PROBE + "</body>"))
    found = re.search(r"<title>(\d+) of (\d+)</title>", load(probed, width)[0])
    assert found is not None
    content, window = map(int, found.groups())
    assert content <= window


def test_a_comparison_reads_at_the_width_of_a_telephone(choices: Path, tmp_path: Path) -> None:
    """In a frame of 360 pixels, which is narrower than Chromium makes a window."""
    probe = (
        "<script>var names = document.querySelectorAll('svg.small text.name');"
        "var size = names[0].getBoundingClientRect().height;"
        "var wide = getComputedStyle(document.querySelector('svg.plot')).display;"
        "parent.postMessage([document.documentElement.scrollWidth, innerWidth, names.length,"
        " size, wide].join(' '), '*')</script>"
    )
    (tmp_path / "probed.html").write_text(choices.read_text().replace("</body>", probe + "</body>"))
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<script>onmessage = function (e) { document.title = e.data; }</script>"
        '<iframe src="probed.html" width="360" height="800"></iframe>'
    )
    found = re.search("<title>(.*?)</title>", load(outer, 800)[0])
    assert found is not None
    content, window, names, size, wide = found[1].split()
    assert int(content) <= int(window) <= 360
    assert int(names) == 3  # lines are named, not only coloured
    assert float(size) >= 9  # pixels
    assert wide == "none"  # the plot of a window is not shown beside
