"""The node tests of the onnx wheel, and the ledger that says which of them we miss and why."""

from __future__ import annotations

import tomllib
import warnings
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tenzing.compiler import compile
from tenzing.compiler.frontends.onnx_ops import RULES
from tenzing.errors import TenzingError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LEDGER: Final = tomllib.loads(
    (Path(__file__).parents[3] / "conformance" / "onnx.toml").read_text(encoding="utf-8")
)
MISSED: Final = {name: gap["reason"] for gap in LEDGER["node_tests"] for name in gap["names"]}
BAR: Final = 0.85  # of the tests that onnxruntime passes
SAMPLE: Final = 40  # every so many tests run in the fast suite
KEPT_BY_READER: Final = {"Constant"}  # read without a rule


@cache
def cases() -> dict[str, Any]:
    """All node tests by name; making them also warns, of NumPy's own."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def close(got: Any, wanted: Any, case: Any) -> bool:
    """Equal in shape and within the case's own tolerance."""
    if isinstance(wanted, list | tuple) or wanted is None or isinstance(got, list | tuple):
        return False
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.shape != wanted.shape or got.dtype != wanted.dtype or wanted.dtype.kind in "OUSc":
        return bool(got.shape == wanted.shape and (got == wanted).all())
    one, other = got.astype(np.float64), wanted.astype(np.float64)
    return np.allclose(one, other, rtol=case.rtol, atol=case.atol, equal_nan=True)


def ours(case: Any, numerics: str) -> bool:
    """Whether a node test passes here."""
    names = [value.name for value in case.model.graph.input]
    try:
        for inputs, outputs in case.data_sets:
            feed = dict(zip(names, inputs, strict=False))
            compiled = compile(case.model, feed, numerics=numerics)
            got = compiled.interface.results(compiled(**feed))
            if not all(close(a, b, case) for a, b in zip(got, outputs, strict=True)):
                return False
    except TenzingError:  # anything else is a bug, and fails the test
        return False
    return True


def onnxruntimes(case: Any) -> bool:
    """Whether onnxruntime passes a node test."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for inputs, outputs in case.data_sets:
            feed = dict(zip((i.name for i in session.get_inputs()), inputs, strict=False))
            got = session.run(None, feed)
            if not all(same(a, b, case) for a, b in zip(got, outputs, strict=True)):
                return False
    except Exception:  # onnxruntime has many
        return False
    return True


def same(got: Any, wanted: Any, case: Any) -> bool:
    """``close`` inside sequences too."""
    if isinstance(wanted, list) and isinstance(got, list):
        return len(got) == len(wanted) and all(map(same, got, wanted, [case] * len(got)))
    return (wanted is None and got is None) or close(got, wanted, case)


def test_the_ledger_names_every_operation_without_a_rule() -> None:
    newest = {s.name: s for s in onnx.defs.get_all_schemas() if not s.domain and not s.deprecated}
    missing = {
        name
        for name, schema in newest.items()
        if ("", name) not in RULES
        and not schema.has_function
        and not schema.has_context_dependent_function
    }
    assert missing - KEPT_BY_READER == set(LEDGER["operations"])
    assert all(row["status"] == "gap" and row["reason"] for row in LEDGER["operations"].values())


def test_the_ledger_names_node_tests_that_exist_once() -> None:
    names = [name for gap in LEDGER["node_tests"] for name in gap["names"]]
    assert len(names) == len(set(names))
    assert set(names) <= set(cases())


@pytest.mark.parametrize("name", sorted(set(cases()) - set(MISSED))[::SAMPLE])
def test_a_sample_of_node_tests(name: str) -> None:
    case = cases()[name]
    if not onnxruntimes(case):
        pytest.skip("onnxruntime does not pass it either")
    assert ours(case, "graph")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(8))
def test_node_tests_are_as_the_ledger_says(part: int) -> None:
    """Every test that onnxruntime passes, in NumPy's meaning of each operation."""
    names = [name for name in sorted(cases())[part::8] if onnxruntimes(cases()[name])]
    missed = {name for name in names if not ours(cases()[name], "graph")}
    assert missed == {name for name in names if name in MISSED}
    assert len(missed) <= (1 - BAR) * len(names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_node_tests_run_on_the_simulated_chip() -> None:
    """A tenth of them, every instruction executed: the share that passes is kept."""
    names = [name for name in sorted(set(cases()) - set(MISSED))[::10]
             if onnxruntimes(cases()[name])]  # fmt: skip
    passed = sum(ours(cases()[name], "instruction") for name in names)
    assert passed >= LEDGER["instruction"]["lowest_share"] * len(names)
