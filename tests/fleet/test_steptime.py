"""Step times at instance scale: fit before time, laws of size, both answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenzing import facts
from tenzing.errors import CapacityError
from tenzing.fleet import Layout, decode_step, encoder_batch, prefill, training_step
from tenzing.fleet.estimators import training
from tenzing.fleet.rows import CONFIGURATION, Row
from tenzing.fleet.simulated import Copies, _exchanged_ps
from tenzing.fleet.simulated import training_step as simulated_training
from tenzing.fleet.steptime import _cut

TRAINING_CELLS = CONFIGURATION["training"]
ONE_CHIP = Layout("trn2", tp=4)


def test_a_step_is_its_parts() -> None:
    step = decode_step("llama-3.1-8b", ONE_CHIP, batch=4, context=2048)
    assert sum(step.parts.values()) == pytest.approx(step.calibrated.value)
    assert step.calibrated.low < step.calibrated.value < step.calibrated.high


def test_time_grows_with_work_and_shrinks_with_ranks() -> None:
    def value(tp: int, batch: int) -> float:
        return decode_step("llama-3.1-8b", Layout("trn2", tp=tp), batch=batch).calibrated.value

    assert value(4, 8) > value(4, 1)
    assert value(8, 1) < value(2, 1)
    short = prefill("llama-3.1-8b", ONE_CHIP, tokens=512)
    long = prefill("llama-3.1-8b", ONE_CHIP, tokens=4096)
    assert short.calibrated.value < long.calibrated.value


def test_products_are_a_roofline_and_the_cache_adds_to_them() -> None:
    """A rival's step grows with the batch no faster than its bytes do."""

    def value(batch: int) -> float:
        layout = Layout("gpu-h100")
        return decode_step("llama-3.1-8b", layout, batch=batch, context=1152).calibrated.value

    assert value(1) < value(64) < 2 * value(1)


@pytest.mark.parametrize(
    ("model", "layout", "fits"),
    [  # configurations among the published rows run; these others are known not to
        ("llama-3.1-8b", Layout("inf2", tp=8), True),
        ("llama-3.1-405b", Layout("trn2", tp=64), True),
        ("llama-3.1-8b", Layout("inf2", tp=1), False),
        ("llama-3.1-405b", Layout("trn2", tp=16), False),
        ("llama-3.1-70b", Layout("gpu-h100", tp=1), False),
        ("llama-3.1-70b", Layout("gpu-h100", tp=4), True),
    ],
)
def test_fit_comes_before_time(model: str, layout: Layout, fits: bool) -> None:
    if fits:
        assert decode_step(model, layout, context=4096).fit.missing == 0
    else:
        with pytest.raises(CapacityError, match="does not fit"):
            decode_step(model, layout, context=4096)


def test_zero1_and_pipelines_make_training_fit() -> None:
    big = Layout("trn1", tp=8, pp=4)
    training_step("llama-3.1-70b", big, global_batch=1024, tokens=4096, devices=512)
    with pytest.raises(CapacityError):
        training_step("llama-3.1-70b", Layout("trn1", tp=8), global_batch=1024, tokens=4096,
                      devices=512)  # fmt: skip
    with pytest.raises(CapacityError):
        training_step("llama-2-13b", Layout("trn1", tp=8), global_batch=1024, tokens=4096,
                      devices=512, zero1=False)  # fmt: skip


def test_twice_the_chips_train_faster_but_not_twice() -> None:
    def step(devices: int) -> float:
        return training_step("llama-2-7b", Layout("trn1", tp=8), global_batch=1024, tokens=4096,
                             devices=devices).calibrated.value  # fmt: skip

    assert 1 < step(128) / step(256) <= 2.01


def test_an_encoder_batch_on_one_core() -> None:
    one = encoder_batch("bert-base-uncased", Layout("inf2"), batch=1).calibrated
    eight = encoder_batch("bert-base-uncased", Layout("inf2"), batch=8).calibrated
    assert one.value < eight.value < 8 * one.value


def test_models_without_a_builder_say_why() -> None:
    step = decode_step("OLMo-2-1124-7B", ONE_CHIP, simulate=True)
    assert step.simulated_s is None
    assert "no builder" in step.why


def test_a_chip_without_nki_says_so() -> None:
    step = encoder_batch("bert-base-uncased", Layout("inf1"), simulate=True)
    assert step.simulated_s is None
    assert "inf1" in step.why


def test_what_a_training_step_exchanges_grows_with_its_copies() -> None:
    chip = facts.chip("trn1")
    cut = Copies(8, 1, 1, 1, 1, 512, 4)

    def exchanged(replicas: int, devices: int) -> int:
        return _exchanged_ps("llama-2-7b", chip, replace(cut, replicas=replicas, devices=devices))

    assert exchanged(1, 4) == 0
    assert 0 < exchanged(2, 8) < exchanged(4, 16) < exchanged(16, 64)


def test_stages_have_equal_layers() -> None:
    seconds, why = simulated_training("llama-2-7b", "trn1", Copies(8, 5, 1, 1, 1, 512, 20))
    assert seconds is None
    assert "32 layers in 5 stages" in why


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["inf2", "trn2"])
def test_an_encoder_batch_is_simulated(chip: str) -> None:
    step = encoder_batch("bert-base-uncased", Layout(chip), batch=8, simulate=True)
    assert step.simulated_s is not None
    assert 0.2 < step.simulated_s / step.calibrated.value < 2


@pytest.mark.slow
def test_a_training_step_is_simulated() -> None:
    again, kept = (
        training_step("llama-3.2-1b", Layout("trn1", tp=8), global_batch=8, tokens=512, devices=4,
                      recompute=recompute, simulate=True)
        for recompute in (True, False)
    )  # fmt: skip
    assert kept.simulated_s is not None
    assert again.simulated_s is not None
    assert 1.1 < again.simulated_s / kept.simulated_s < 4 / 3
    assert 0.2 < again.simulated_s / again.calibrated.value < 3
    assert not again.why


@pytest.mark.slow
def test_the_simulated_answer_stands_beside_the_calibrated_one() -> None:
    step = decode_step("llama-3.2-1b", Layout("trn2", tp=1), context=512, simulate=True)
    assert step.simulated_s is not None
    assert 0.2 < step.simulated_s / step.calibrated.value < 5


def test_ranks_of_training_are_logical_cores() -> None:
    """16 chips of Trainium 2 have 64 of them: 8 copies of 8 ranks, as their memory is counted."""
    cells = {"model": "llama-2-7b", "accelerator": "trn2", "accelerators": "16", "tp": "8",
             "global_batch": "256", "seq_len": "2048"}  # fmt: skip
    cut = _cut(training.job_of(Row("training", {k: cells.get(k, "") for k in TRAINING_CELLS})))
    assert cut.replicas == 8
    assert cut.micros == 32


def test_an_ultraserver_exchanges_over_its_links() -> None:
    """Four hosts of it, and four instances joined by the network alone."""
    one, apart = (
        training_step("llama-2-7b", Layout("trn2", tp=8), global_batch=512, tokens=2048, devices=64,
                      instance=name).calibrated.value
        for name in ("trn2-ultraserver", "trn2.48xlarge")
    )  # fmt: skip
    assert one < apart
    chip, cut = facts.chip("trn2"), Copies(8, 1, 32, 16, 1, 2048, 64)
    assert _exchanged_ps("llama-2-7b", chip, replace(cut, linked=4)) < _exchanged_ps(
        "llama-2-7b", chip, cut)  # fmt: skip
