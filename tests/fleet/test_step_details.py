"""What a step's time and memory depend on beside its size: formats, caches, steps of denoising."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenzing import facts
from tenzing.errors import CapacityError
from tenzing.fleet import Layout, decode_step, diffusion_batch, training_step
from tenzing.fleet.estimators.device import BYTES, dtype_class
from tenzing.fleet.simulated import _mesh
from tenzing.fleet.steptime import serving_fit
from tenzing.fleet.workload import shape_of

XL = "stable-diffusion-xl"


def test_every_step_of_denoising_costs_the_same() -> None:
    few, more, most = (
        diffusion_batch(XL, Layout("inf2", tp=2), resolution=1024, steps=n).calibrated.value
        for n in (10, 20, 30)
    )
    assert most - more == pytest.approx(more - few)
    assert more > 1.8 * few


def test_larger_and_more_pictures_take_longer() -> None:
    def seconds(resolution: int, batch: int) -> float:
        step = diffusion_batch(XL, Layout("inf2", tp=2), resolution=resolution, batch=batch)
        return step.calibrated.value

    assert seconds(512, 1) < seconds(768, 1) < seconds(1024, 1) < seconds(1024, 2)


def test_a_diffusion_model_fits_before_it_is_timed() -> None:
    """FLUX has 24 GB of 16-bit weights; a core of Inferentia2 has 16."""
    with pytest.raises(CapacityError, match="does not fit") as caught:
        diffusion_batch("flux.1-dev", Layout("inf2"))
    assert "between allocations" in caught.value.render()
    assert diffusion_batch("flux.1-dev", Layout("inf2", tp=8)).fit.missing == 0
    assert "no builder" in diffusion_batch(XL, Layout("inf2", tp=2), simulate=True).why


def test_weights_take_their_format_s_bytes() -> None:
    shape = shape_of("llama-3.1-8b")
    held = {
        name: serving_fit(shape, Layout("b200", weights=name), 1, 1024).weights for name in BYTES
    }
    assert held["fp4"] < held["fp8"] == held["int8"] < held["bf16"] < held["fp32"]
    assert held["bf16"] == 2 * held["fp8"]
    assert 4 / 8 < held["fp4"] / held["fp8"] < 5 / 8  # four bits, and a scale for every 32


@pytest.mark.parametrize(
    ("spelt", "name"),
    [("MXFP4", "fp4"), ("MXFP8 (e4m3)", "fp8"), ("W8A8 int8", "int8"), ("bfloat16", "bf16")],
)
def test_formats_are_read_as_they_are_spelt(spelt: str, name: str) -> None:
    assert dtype_class(spelt) == name


def test_narrow_weights_are_read_faster_where_they_stay_narrow() -> None:
    """AWS's software unpacks 8-bit integers before it multiplies; it keeps fp8."""

    def seconds(chip: str, tp: int, weights: str) -> float:
        return decode_step("llama-3.1-8b", Layout(chip, tp, weights=weights)).calibrated.value

    assert seconds("trn2", 4, "fp8") < seconds("trn2", 4, "bf16")
    assert seconds("trn2", 4, "int8") == pytest.approx(seconds("trn2", 4, "bf16"), rel=0.3)
    assert seconds("h100", 1, "int8") < seconds("h100", 1, "bf16")


def test_a_narrow_cache_is_half_as_large_and_read_faster() -> None:
    plain, narrow = (
        decode_step("llama-3.1-8b", Layout("trn2", tp=4, kv=kv), batch=16, context=16384)
        for kv in ("bf16", "fp8")
    )
    assert plain.fit.cache == 2 * narrow.fit.cache
    assert narrow.calibrated.value < plain.calibrated.value


def test_what_is_lost_is_said_and_is_not_available() -> None:
    fit = decode_step("llama-3.1-8b", Layout("trn2", tp=4)).fit
    assert 0 < fit.lost < fit.available
    assert fit.available + fit.lost == pytest.approx(24 * 2**30)  # of a logical core


def test_experts_shared_out_take_less_memory_and_no_builder_shares_them() -> None:
    alone, shared = (
        training_step("mixtral-8x22b", Layout("trn2", tp=32, pp=4), global_batch=512, tokens=4096,
                      devices=512, ep=ep).fit
        for ep in (1, 4)
    )  # fmt: skip
    assert shared.weights < alone.weights
    told = training_step("mixtral-8x22b", Layout("trn2", tp=32, pp=4), global_batch=512,
                         tokens=4096, devices=512, ep=4, simulate=True)  # fmt: skip
    assert told.simulated_s is None
    assert "experts" in told.why


def test_groups_of_ranks_share_out_experts() -> None:
    chip = facts.chip("trn2")
    assert _mesh(chip, 8, 4) == {"ep": 4, "tp": 4}
    assert _mesh(chip, 8) == {"tp": 16}
    told = decode_step("mixtral-8x22b", Layout("trn2", tp=32, ep=5), simulate=True)
    assert told.simulated_s is None
    assert "64 ranks in 5 groups" in told.why


@pytest.mark.slow
def test_shared_out_experts_are_simulated(tmp_path: Path) -> None:
    config = facts.model("mixtral-8x7b") | {"num_hidden_layers": 1}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    spread, parted = (
        decode_step(str(file), Layout("trn1", tp=8, ep=ep), batch=8, context=512, simulate=True)
        for ep in (1, 8)
    )
    assert spread.simulated_s is not None
    assert parted.simulated_s is not None
    assert spread.simulated_s != parted.simulated_s
