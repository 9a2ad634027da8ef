"""Fixtures for every test: golden texts, and how hard hypothesis tries."""

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"

# quick gives the same cases on every run; nightly looks for new ones.
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile("quick")

Golden = Callable[[str], None]


@pytest.fixture(autouse=True, scope="session")
def results_are_kept_for_this_run_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test computes must not come from an earlier run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENZING_CACHE", str(tmp_path_factory.mktemp("kept")))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from this run's texts"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """A function that compares a text to ``tests/golden/<test file>/<test name>.txt``.

    One text per test: parametrise instead of calling it twice.
    """
    path = golden_path(request.node.path, request.node.nodeid)

    def compare(text: str) -> None:
        __tracebackhide__ = True
        text = text.rstrip("\n") + "\n"
        shown = path.relative_to(TESTS.parent).as_posix()
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists():
            pytest.fail(f"{shown} does not exist; `make golden` writes it", pytrace=False)
        elif (expected := path.read_text(encoding="utf-8")) != text:
            lines = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), shown, "this run", lineterm=""
            )
            help_line = "`make golden` rewrites it, if the change is meant"
            pytest.fail("\n".join([*lines, help_line]), pytrace=False)

    return compare


def golden_path(test_file: Path, node_id: str) -> Path:
    """Where a test's golden text lies; parameters are spelled with file-safe characters."""
    name = ".".join(node_id.split("::")[1:])
    folder = test_file.relative_to(TESTS).with_suffix("")
    return GOLDEN / folder / (re.sub(r"[^\w.\-\[\]]", "_", name) + ".txt")
