"""Every code block and command of the written documentation runs and says what the page shows.

In a page, run in order in one empty folder with ``examples`` beside it:

- a ``python`` block whose first line is ``# name.py`` is saved under that name, any other is run;
- each line of an ``sh`` block that starts with ``tenzing`` is run and must exit with 0, or with the
  status in the fence: ``sh exit=2``;
- each line of a ``text`` block must occur in the output of the block before it. Numbers and spaces
  may differ, since facts are refined; a line of three dots stands for anything.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DERIVED = "reference"
# `make check` runs these tests before any framework is installed; `make test` runs them with all.
MISSING_EXTRA = 'pip install "tenzing['  # how a command says that its framework is absent
FRAMEWORKS = ("torch", "keras", "jax", "onnx")
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
FILE_NAME = re.compile(r"# (\w+\.py)\n")
NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d[\d,.]*(e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the expected exit status and its text."""

    language: str
    status: int
    text: str


def pages() -> list[Path]:
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [p for p in found if DERIVED not in p.relative_to(ROOT).parts and blocks(p)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run or compared."""
    found = []
    for info, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        language, _, rest = info.partition(" ")
        status = int(rest.removeprefix("exit=")) if rest.startswith("exit=") else 0
        found.append(Block(language, status, text))
    return [b for b in found if b.language in ("python", "sh", "text")]


def plain(line: str) -> str:
    """A line without what may change: numbers become ``#``, runs of spaces or dashes shrink."""
    return re.sub(r"-{3,}", "---", " ".join(NUMBER.sub("#", line).split()))


def run(words: list[str], folder: Path, status: int) -> str:
    result = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    output = result.stdout + result.stderr
    if result.returncode != status and MISSING_EXTRA in output:
        pytest.skip(output.strip().splitlines()[-1].strip())
    assert result.returncode == status, f"{words} exited with {result.returncode}:\n{output}"
    return output


def execute(block: Block, folder: Path) -> str:
    """The output of a ``python`` or ``sh`` block."""
    if block.language == "python":
        name = FILE_NAME.match(block.text)
        if name:
            (folder / name[1]).write_text(block.text, encoding="utf-8")
            return ""
        (folder / "block.py").write_text(block.text, encoding="utf-8")
        return run(["block.py"], folder, block.status)
    lines = [line for line in block.text.splitlines() if line.startswith("tenzing ")]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    return "".join(run(["-m", "tenzing.cli", *words], folder, block.status) for words in commands)


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT / "docs").as_posix())
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    found = blocks(page)
    for framework in FRAMEWORKS:
        if any(framework in block.text for block in found):
            pytest.importorskip(framework, reason=f"the page uses {framework}")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    output = ""
    for block in found:
        if block.language != "text":
            output = execute(block, tmp_path)
            continue
        said = "\n".join(map(plain, output.splitlines()))
        shown = [line for line in block.text.splitlines() if line.strip() not in ("", "...")]
        missing = [line for line in shown if plain(line) not in said]
        assert not missing, f"not in the output: {missing}\n{output}"


def test_pages_are_found_and_reached_from_the_index() -> None:
    """A page nobody links to is a page nobody reads."""
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text(encoding="utf-8")
    linked = {(docs / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index)}
    wanted = {p for p in docs.rglob("*.md") if p.name != "index.md" and p.parent.name != "chips"}
    lost = sorted(p.relative_to(docs).as_posix() for p in wanted - linked)
    assert not lost, f"link them in docs/index.md: {lost}"
