"""A user's own measurements beside the calibrated choices."""

import pytest

from tenzing.fleet.comparison import compare
from tenzing.fleet.measured import Measurement


def measurement(task: str, batch: int, length: int, *times_s: float) -> Measurement:
    return Measurement("llama-3.1-8b", task, batch, length, "bf16", "cuda", 1, False, "2026-11-26",
                       {"gpu": "Some GPU"}, times_s, 8_030_261_248)  # fmt: skip


def test_a_token_waits_for_the_prefills_of_the_others() -> None:
    """Worked by hand: 20 ms a step, 15 prefills of 40 ms shared by 256 tokens: 22.34 ms."""
    own = [measurement("decode", 16, 1024, 0.020), measurement("prefill", 1, 1024, 0.040)]
    found = compare("llama-3.1-8b", ["trn2.48xlarge"], "chat", measured=own)
    (mine,) = [c for c in found.choices if c.basis == "measured"]
    assert mine.ttft_ms == pytest.approx(40)
    assert mine.tpot_ms == pytest.approx(20 + 15 * 40 / 256)
    assert mine.rate == pytest.approx(16 / mine.tpot_ms * 1000)
    assert mine.usd_per_million is None
    assert mine.target == "measured: Some GPU"


def test_without_a_prefill_the_first_token_is_not_known() -> None:
    own = [measurement("decode", 4, 1024, 0.010)]
    found = compare("llama-3.1-8b", ["trn2.48xlarge"], "chat", measured=own)
    (mine,) = [c for c in found.choices if c.basis == "measured"]
    assert mine.ttft_ms == 0
    assert "no prefill" in mine.why


def test_measurements_of_other_models_and_tasks_are_left_out() -> None:
    own = [measurement("training", 4, 1024, 1.0)]
    found = compare("llama-3.1-8b", ["trn2.48xlarge"], "chat", measured=own)
    assert all(c.basis != "measured" for c in found.choices)
    found = compare("llama-3.1-8b", ["trn2.48xlarge"], "train", measured=own)
    (mine,) = [c for c in found.choices if c.basis == "measured"]
    assert mine.rate == pytest.approx(4096)
