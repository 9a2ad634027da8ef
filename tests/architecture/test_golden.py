"""The golden fixture: it compares, explains, rewrites on demand, and leaves no orphans."""

import shutil
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
EXAMPLE = "def test_prints(golden):\n    golden({text!r})\n"

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with our conftest, where tests/golden may be written freely."""
    folder = pytester.mkdir("tests")
    shutil.copy(TESTS / "conftest.py", folder / "conftest.py")
    return pytester


def run(project: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    test_file = project.path / "tests" / "test_example.py"
    test_file.write_text(EXAMPLE.format(text=text), encoding="utf-8")
    return project.runpytest_subprocess(
        "--import-mode=importlib", "-p", "no:cacheprovider", *options, "tests"
    )


def test_missing_text_is_a_failure_with_a_next_step(project: pytest.Pytester) -> None:
    result = run(project, "a\nb")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*tests/golden/test_example/test_prints.txt does not exist*"])


def test_update_writes_and_the_next_run_passes(project: pytest.Pytester) -> None:
    run(project, "a\nb", "--update-golden").assert_outcomes(passed=1)
    written = project.path / "tests" / "golden" / "test_example" / "test_prints.txt"
    assert written.read_text(encoding="utf-8") == "a\nb\n"
    run(project, "a\nb").assert_outcomes(passed=1)


def test_difference_is_shown_line_by_line(project: pytest.Pytester) -> None:
    run(project, "a\nb", "--update-golden")
    result = run(project, "a\nc")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["-b", "+c", "*make golden*"])


def orphans() -> list[str]:
    found = []
    for path in sorted(GOLDEN.rglob("*.txt")):
        test_file = (TESTS / path.parent.relative_to(GOLDEN)).with_suffix(".py")
        function = path.stem.split("[")[0].split(".")[-1]
        source = test_file.read_text(encoding="utf-8") if test_file.exists() else ""
        if f"def {function}(" not in source:
            found.append(path.relative_to(TESTS).as_posix())
    return found


def test_every_golden_text_has_its_test() -> None:
    assert not orphans(), "no test writes these any more; delete them"
