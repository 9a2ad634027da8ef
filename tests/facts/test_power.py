"""Power of instances: bounds that enclose, sums that add up, honest kinds."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.power import read_power
from tenzing.units import Watts

NAMES = tuple(facts.instances())


@pytest.mark.parametrize("name", NAMES)
def test_bounds_enclose_and_idle_is_below_peak(name: str) -> None:
    power = facts.power(name)
    assert power is not None
    for draw in (power.idle, power.peak, power.devices, power.host):
        assert Watts(0.0) <= draw.low <= draw.watts <= draw.high
    assert power.idle.watts < power.peak.low
    assert power.devices + power.host == power.peak
    assert power.source in facts.sources()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_assumed_is_said(name: str) -> None:
    power = facts.power(name)
    assert power is not None
    assert power.peak.kind == "assumed"  # the host's share always is
    assert (power.kind == "assumed") == any(x.startswith("power of ") and x.endswith(
        facts.instance(name).chip) for x in power.assumed)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "watts", "kind"),
    [("p5.48xlarge", 700, "published"), ("g6.xlarge", 72, "published"),
     ("p6-b200.48xlarge", 1000, "published"), ("trn2.48xlarge", 500, "assumed"),
     ("tpu-v7-4", 850, "assumed")],
)  # fmt: skip
def test_power_of_one_device(name: str, watts: float, kind: str) -> None:
    power = facts.power(name)
    assert power is not None
    assert (power.tdp, power.kind) == (Watts(watts), kind)


def test_eight_h100_are_within_the_rating_of_a_whole_server() -> None:
    """NVIDIA rates DGX H100 at 10.2 kW; 8 x 700 W are its GPUs."""
    power = facts.power("p5.48xlarge")
    assert power is not None
    assert power.devices.high == Watts(5600.0)
    assert Watts(5600.0) < power.peak.watts < power.peak.high < Watts(10200.0)


def test_part_of_a_cpu_draws_its_part() -> None:
    small, large = facts.power("c8g.4xlarge"), facts.power("c8g.48xlarge")
    assert small is not None
    assert large is not None
    assert large.devices.watts / small.devices.watts == pytest.approx(192 / 16)


def test_a_broken_sheet_is_refused() -> None:
    file, text = sheets.file_text("power.toml")
    for change, words in (
        (("[device.h100]", "[device.h101]"), "unknown accelerator"),
        (("vcpu_w =", "vcpu_kw ="), "host.vcpu_w: this fact is needed"),
        (("high_w =", "hihg_w ="), "a range has two ends"),
        (("tdp_w =", "tdp_kw ="), "unknown key"),
    ):
        with pytest.raises(FactsError, match=words):
            read_power(sheets.parse(text.replace(change[0], change[1], 1), file), facts.sources())
