"""Instances: counts that must agree with their chips."""

from __future__ import annotations

import math

import pytest

from tenzing import facts
from tenzing.errors import FactsError

NAMES = tuple(facts.instances())


@pytest.mark.parametrize("name", NAMES)
def test_cores_and_topology_follow_from_chips(name: str) -> None:
    instance = facts.instance(name)
    per_chip = facts.accelerator(instance.accelerator).cores
    assert instance.cores == instance.chips * per_chip
    assert math.prod(instance.topology_dims) == instance.chips
    assert instance.topology in {"single", "ring", "mesh", "torus", "switch", "pcie"}
    assert (instance.topology == "single") == (instance.chips == 1)


@pytest.mark.parametrize("name", NAMES)
def test_facts_have_sources(name: str) -> None:
    known = facts.sources()
    assert all(fact.source in known for _, fact in facts.instance(name).items())


@pytest.mark.parametrize("name", [n for n in NAMES if facts.instance(n).known("hbm_gib")])
def test_quoted_device_memory_is_the_sum_of_the_chips(name: str) -> None:
    instance = facts.instance(name)
    per_chip = facts.accelerator(instance.accelerator).hbm_bytes / 2**30
    exact = instance.chip in facts.all_chips()  # rivals round: GB for GiB, part of it reserved
    assert instance.number("hbm_gib") == pytest.approx(
        instance.chips * per_chip, rel=0 if exact else 0.08
    )


@pytest.mark.parametrize("path", ["hbm_gb_s", "peak_bf16_tflops", "peak_fp8_tflops"])
def test_quoted_totals_are_near_the_sum_of_the_chips(path: str) -> None:
    of_chip = {"hbm_gb_s": "hbm.chip_gb_s"}.get(path, f"chip.{path}")
    for instance in facts.instances().values():
        if instance.known(path):
            single = facts.chip(instance.chip).number(of_chip)
            assert instance.number(path) == pytest.approx(instance.chips * single, rel=0.01)


@pytest.mark.parametrize("chip", ["graviton3", "graviton4"])
def test_parts_of_a_cpu_scale_with_their_cores(chip: str) -> None:
    """Cores, memory and bandwidth of a CPU instance are those of its vCPUs, one a core."""
    whole = facts.accelerator(chip)
    for name in facts.instances_of(chip):
        instance = facts.instance(name)
        device = facts.accelerator(instance.accelerator)
        assert instance.chip == chip
        assert device.hbm_bytes * instance.chips == instance.memory_gib * 2**30
        share = device.bf16_tflops / whole.bf16_tflops
        assert device.hbm_gb_s / whole.hbm_gb_s == pytest.approx(share)
        assert share * instance.chips * {"graviton3": 64, "graviton4": 96}[chip] == pytest.approx(
            instance.vcpus
        )


def test_only_cores_of_a_cpu_can_be_rented_in_part() -> None:
    for name in ("h100@2", "trn2@4", "graviton4@0", "graviton4@97", "graviton4@some"):
        with pytest.raises(FactsError, match="only cores of a CPU can be rented in part"):
            facts.accelerator(name)


ASKED = [
    "p4d.24xlarge", "p4de.24xlarge", "p5.48xlarge", "p5.4xlarge", "p5e.48xlarge", "p5en.48xlarge",
    "p6-b200.48xlarge", "p6-b300.48xlarge", "u-p6e-gb200x36", "u-p6e-gb200x72", "g5.xlarge",
    "g6.xlarge", "g6e.xlarge", "g7e.2xlarge", "c7g.16xlarge", "c8g.48xlarge", "inf1.xlarge",
    "inf2.xlarge", "trn1.2xlarge", "trn1n.32xlarge", "trn2.48xlarge", "trn2u.48xlarge",
    "tpu-v5e-8", "tpu-v5p-4", "tpu-v6e-8", "tpu-v7-4",
]  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_instances_that_people_compare_are_known(name: str) -> None:
    instance = facts.instance(name)
    assert instance.provider == ("google" if name.startswith("tpu") else "aws")
    assert facts.accelerator(instance.accelerator).hbm_gb_s > 0


def test_an_accelerator_nobody_rents_out_has_no_instance() -> None:
    assert facts.accelerator("maia-200").family == "gpu"
    assert facts.instances_of("maia-200") == ()


def test_known_sizes() -> None:
    assert facts.instances_of("trn2") == (
        "trn2.3xlarge", "trn2.48xlarge", "trn2u.48xlarge", "trn2-ultraserver",
    )  # fmt: skip
    assert facts.instances_of("trainium1") == ("trn1.2xlarge", "trn1.32xlarge", "trn1n.32xlarge")
    big = facts.instance("trn2.48xlarge")
    assert (big.chip, big.chips, big.cores, big.vcpus, big.memory_gib) == (
        "trn2", 16, 128, 192, 2048,
    )  # fmt: skip
    assert (big.network_gbps, big.topology, big.topology_dims) == (3200, "torus", (4, 4))


def test_unknown_instance_lists_names_like_it() -> None:
    with pytest.raises(FactsError, match=r"no instance is named 'p9\.48xlarge'") as caught:
        facts.instance("p9.48xlarge")
    assert "p4d.24xlarge" not in str(caught.value), "only names like it"
    assert "p5.48xlarge" in str(caught.value)


def test_use_is_tracked_on_a_fresh_instance() -> None:
    one = facts.instance("inf2.48xlarge")
    assert one.chips == 12
    assert one.used == {"chips"}
    assert facts.instance("inf2.48xlarge").used == set()


def test_every_chip_has_an_instance() -> None:
    assert all(facts.instances_of(name) for name in facts.all_chips())
