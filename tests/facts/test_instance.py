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
    assert instance.topology in {"single", "ring", "torus", "switch"}
    assert (instance.topology == "single") == (instance.chips == 1)


@pytest.mark.parametrize("name", NAMES)
def test_facts_have_sources(name: str) -> None:
    known = facts.sources()
    assert all(fact.source in known for _, fact in facts.instance(name).items())


@pytest.mark.parametrize("name", [n for n in NAMES if facts.instance(n).known("hbm_gib")])
def test_quoted_device_memory_is_the_sum_of_the_chips(name: str) -> None:
    instance = facts.instance(name)
    per_chip = facts.chip(instance.chip).integer("hbm.chip_bytes") / 2**30
    assert instance.number("hbm_gib") == instance.chips * per_chip


@pytest.mark.parametrize("path", ["hbm_gb_s", "peak_bf16_tflops", "peak_fp8_tflops"])
def test_quoted_totals_are_near_the_sum_of_the_chips(path: str) -> None:
    of_chip = {"hbm_gb_s": "hbm.chip_gb_s"}.get(path, f"chip.{path}")
    for instance in facts.instances().values():
        if instance.known(path):
            single = facts.chip(instance.chip).number(of_chip)
            assert instance.number(path) == pytest.approx(instance.chips * single, rel=0.01)


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


def test_unknown_instance_lists_the_names() -> None:
    with pytest.raises(FactsError, match=r"no instance is named 'p9\.48xlarge'") as caught:
        facts.instance("p9.48xlarge")
    assert "trn2.48xlarge" in str(caught.value)


def test_use_is_tracked_on_a_fresh_instance() -> None:
    one = facts.instance("inf2.48xlarge")
    assert one.chips == 12
    assert one.used == {"chips"}
    assert facts.instance("inf2.48xlarge").used == set()


def test_every_chip_has_an_instance() -> None:
    assert all(facts.instances_of(name) for name in facts.all_chips())
