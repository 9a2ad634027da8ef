"""GPU times from aiconfigurator's tables: what is asked of it, what becomes of its answers."""

import sys
import types
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest

from tenzing.errors import UsageError
from tenzing.fleet.comparison import compare, tables
from tenzing.fleet.comparison.tables import PACKAGE


class Estimates:
    """Stands for their function: 10 ms to the first token, 1 ms a request of the batch."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, model: str, system: str, **options: Any) -> Any:
        if model == "unheard/of-7b":
            raise ValueError("unsupported model")
        print("a banner")
        self.asked.append({"model": model, "system": system, **options})
        return types.SimpleNamespace(ttft=10.0, tpot=float(options["batch_size"]),
                                     backend_name="engine", backend_version="9")  # fmt: skip


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Estimates]:
    made = Estimates()
    api = types.ModuleType(f"{PACKAGE}.cli.api")
    api.cli_estimate = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{PACKAGE}.cli.api", api)
    monkeypatch.setenv("TENZING_CACHE", str(tmp_path))
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.0" if n == PACKAGE else real(n))
    yield made
    tables._estimate.cache_clear()  # what the stand-in said is not the package's word


def test_a_token_waits_as_in_our_own_answers(
    estimates: Estimates, capsys: pytest.CaptureFixture[str]
) -> None:
    """Worked by hand: batch 4: 4 ms a step, and 3 prefills of 10 ms over 256 tokens."""
    found = compare("llama-3.1-8b", ["p5.4xlarge"], "chat", gpu_tables=True)
    (four,) = [c for c in found.choices if c.batch == 4]
    assert four.tpot_ms == pytest.approx(4 + 3 * 10 / 256)
    assert four.rate == pytest.approx(4 / four.tpot_ms * 1000)
    assert four.basis == f"{PACKAGE} 0.0, engine 9"
    assert estimates.asked[0]["model"] == "meta-llama/Meta-Llama-3.1-8B"
    assert estimates.asked[0]["system"] == "h100_sxm"
    assert "banner" not in capsys.readouterr().out


def test_other_silicon_keeps_our_model(estimates: Estimates) -> None:
    found = compare("llama-3.1-8b", ["trn2.3xlarge"], "chat", gpu_tables=True)
    assert {c.basis for c in found.choices} == {"calibrated"}
    assert not estimates.asked


def test_a_model_the_package_does_not_know_is_said(estimates: Estimates) -> None:
    with pytest.raises(UsageError, match="has no answer for unheard/of-7b"):
        compare("unheard/of-7b", ["p5.4xlarge"], "chat", gpu_tables=True)


def test_without_the_package_the_extra_is_named() -> None:
    if any(d.name == PACKAGE for d in metadata.distributions()):
        pytest.skip("the package is installed")
    with pytest.raises(UsageError, match="aiconfigurator"):
        compare("llama-3.1-8b", ["p5.4xlarge"], "chat", gpu_tables=True)


@pytest.mark.slow
def test_the_real_package_answers() -> None:
    pytest.importorskip("aiconfigurator")
    found = compare("llama-3.1-8b", ["p5.4xlarge"], "chat", gpu_tables=True)
    (one,) = [c for c in found.choices if c.batch == 1]
    assert 3 < one.tpot_ms < 12  # 16 GB of weights take 5 ms at the peak of an H100's memory
