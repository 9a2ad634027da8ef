"""Files and functions stay small enough to read in one go."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "src", "tests", "native", "tools", "examples", "benchmarks", "calibration", "conformance",
)  # fmt: skip
SUFFIXES = {".py", ".pyi", ".cpp", ".hpp", ".h"}
MOST_LINES = 800
P95_FUNCTION_LINES = 50

# path -> why it may be longer. An entry that is no longer needed fails the test below.
EXCEPTIONS: dict[str, str] = {}

FORBIDDEN_STEMS = ("base", "utils", "util", "helpers", "helper", "common", "manager", "misc")


def code_files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and not {"build", "__pycache__"} & set(path.parts):
                yield path


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_stay_within_the_budget() -> None:
    counts = {path.relative_to(ROOT).as_posix(): line_count(path) for path in code_files()}
    assert counts, "no code files found: the folders in this test are wrong"
    too_long = {p: n for p, n in counts.items() if n > MOST_LINES and p not in EXCEPTIONS}
    assert not too_long, f"over {MOST_LINES} lines; split by concept: {too_long}"
    unneeded = [p for p in EXCEPTIONS if counts.get(p, 0) <= MOST_LINES]
    assert not unneeded, f"exceptions no longer needed, remove them: {unneeded}"


def test_no_file_is_named_after_nothing() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in code_files()
        if path.stem.lstrip("_") in FORBIDDEN_STEMS
        or path.stem.startswith("base_")
        or path.parent.name in FORBIDDEN_STEMS
    ]
    assert not found, f"name the concept instead: {found}"


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in code_files()
        if path.suffix == ".py" and path.is_relative_to(ROOT / "src")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if len(lengths) < 2:
        pytest.skip("too few functions to speak of a percentile")
    assert statistics.quantiles(lengths, n=20)[-1] <= P95_FUNCTION_LINES


def test_frontends_import_late_only_their_framework() -> None:
    """Elsewhere ruff's PLC0415 forbids imports inside functions."""
    frameworks = {
        "torch", "transformers", "jax", "jaxlib", "tensorflow", "keras", "onnx", "onnxruntime",
    }  # fmt: skip
    frontends = ROOT / "src" / "tenzing" / "compiler" / "frontends"
    found = [
        f"{path.name}:{node.lineno} {name}"
        for path in frontends.glob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for name in imported_names(node)
        if name.split(".")[0] not in frameworks
    ]
    assert not found, f"move these imports to the top of the file: {found}"


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []
