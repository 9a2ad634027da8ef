"""What the repository's texts must not say, and the commands they name that must exist."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED_FOLDERS = {
    ".git", ".venv", "build", "dist", "out", "__pycache__", ".hypothesis", ".pytest_cache",
    ".mypy_cache", ".ruff_cache", ".import_linter_cache",
}  # fmt: skip
BINARY_SUFFIXES = {".png", ".npy", ".npz", ".safetensors", ".so", ".pyc", ".gz", ".onnx"}

# Spelled in pieces so that this file passes its own test.
BANNED = {
    "a path of one machine": re.compile(r"(?<![\w.~}\])-])/(?:" + r"work|tmp|root|home/\w+)/"),
    "a package registry's host": re.compile(
        r"\b(?:" + r"pypi\.|files\.python" + r"hosted\.|registry\.npm|conda\.anaconda\.)\w+", re.I
    ),
    "a leftover conflict mark": re.compile(r"^(?:<{7}|>{7}) ", re.M),
}


def text_files() -> Iterator[Path]:
    stack = [ROOT]
    while stack:
        for path in sorted(stack.pop().iterdir()):
            if path.is_dir() and path.name not in SKIPPED_FOLDERS:
                stack.append(path)
            elif path.is_file() and path.suffix not in BINARY_SUFFIXES:
                yield path


@pytest.mark.parametrize("what", BANNED)
def test_nothing_banned_is_said(what: str) -> None:
    found = []
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in BANNED[what].finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match.group()}")
    assert not found, f"{what}: {found}"


@pytest.mark.parametrize(
    ("what", "line", "caught"),
    [
        ("a path of one machine", "see /" + "work/main", True),
        ("a path of one machine", "frame/" + "work/x", False),
        ("a package registry's host", "py" + "pi.org", True),
        ("a package registry's host", "PyPI has it", False),
        ("a leftover conflict mark", "<<<<<" + "<< HEAD", True),
    ],
)
def test_banned_patterns_catch_what_they_name(what: str, line: str, caught: bool) -> None:
    assert bool(BANNED[what].search(line)) is caught


def documents() -> list[Path]:
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
    return [*found, *sorted((ROOT / "docs").rglob("*.md"))]


def code_in(text: str) -> str:
    """The fenced blocks and inline code of a Markdown text."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_make_targets_named_in_the_docs_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    code = code_in(path.read_text(encoding="utf-8"))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", code, re.M))
    assert named <= targets, f"no such make target: {sorted(named - targets)}"


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    broken = [x for x in links if "://" not in x and not (path.parent / x).exists()]
    assert not broken, f"{path.name} links to files that are not there: {broken}"


def test_make_targets_are_declared_phony() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))


def test_frameworks_are_pinned_exactly_and_never_in_the_core() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.split(r"[<>=~! ]", need)[0] for need in project["dependencies"]}
    assert core <= {"numpy", "ml_dtypes"}
    assert all("==" in need for need in project["optional-dependencies"]["torch"])
