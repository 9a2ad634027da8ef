"""Laws of collective times, and their distance from published ones."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fabric import Collective, collective_ps
from tenzing.fabric.collectives import KINDS

TRN1, TRN2, TRN3 = (facts.chip(name) for name in ("trn1", "trn2", "trn3"))
MIB = 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_time_grows_with_bytes_and_ranks_of_one_algorithm(kind: str) -> None:
    sizes = [1 << k for k in range(10, 31)]
    for algorithm in ("mesh", "rdh", "ring"):
        run = [Collective(kind, n, 8) for n in sizes]
        times = [collective_ps(TRN2, c) for c in run if c.algorithm(TRN2) == algorithm]
        assert times == sorted(times)
        assert len(times) > 1
    few, many = (collective_ps(TRN2, Collective(kind, 64 * MIB, r)) for r in (4, 32))
    assert (few < many) == (kind != "collective_permute")  # which sends straight to its target


def test_a_sum_costs_a_scatter_and_a_gather() -> None:
    for size in (1 << 14, 1 << 22, 1 << 28):
        whole = Collective("all_reduce", size, 16)
        parts = [Collective(k, size, 16) for k in ("reduce_scatter", "all_gather")]
        assert whole.sent_bytes == sum(p.sent_bytes for p in parts)
        assert whole.steps(TRN2) == sum(p.steps(TRN2) for p in parts)


def test_alone_nothing_is_sent() -> None:
    assert collective_ps(TRN2, Collective("all_reduce", MIB, 1)) == 0
    assert collective_ps(TRN2, Collective("all_reduce", 0, 8)) == 0
    with pytest.raises(UsageError, match="broadcast"):
        collective_ps(TRN2, Collective("broadcast", 1, 8))


def test_an_exchange_sends_half_of_a_sum_and_a_permutation_everything_once() -> None:
    for size in (1 << 14, 1 << 22, 1 << 28):
        whole, exchange, shift = (
            Collective(k, size, 16) for k in ("all_reduce", "all_to_all", "collective_permute")
        )
        assert 2 * exchange.sent_bytes == whole.sent_bytes
        assert shift.sent_bytes == size
        assert shift.steps(TRN2) == 1
        assert collective_ps(TRN2, exchange) < collective_ps(TRN2, whole)


# nccom-test, two ranks of a Trainium 1 chip (published in the SDK's guide to the tool)
PUBLISHED_US = {65536: 58, 4194304: 107, 67108864: 1214, 1073741824: 18930}


@pytest.mark.parametrize("size", PUBLISHED_US)
def test_two_ranks_of_one_chip_beside_the_published_times(size: int) -> None:
    """The tool's floor is 58 us, most of it not the fabric's: bytes are what can be compared."""
    got_us = collective_ps(TRN1, Collective("all_reduce", size, 2)) / 1e6
    assert got_us < PUBLISHED_US[size] * 1.1
    if size >= 64 * MIB:
        assert got_us > PUBLISHED_US[size] * 0.9


# Sums over the 32 cores of a trn1.32xlarge: what each further one adds to a graph (kiln, SDK 2.32).
# Only the on-chip rate was derived from collectives, from the two ranks above.
ADDED_US = {8 * MIB: 140, 16 * MIB: 302, 32 * MIB: 1051}


@pytest.mark.parametrize("size", ADDED_US)
def test_ranks_of_an_instance_beside_published_times(size: int) -> None:
    got_us = collective_ps(TRN1, Collective("all_reduce", size, 32)) / 1e6
    assert ADDED_US[size] / 2.2 < got_us < ADDED_US[size] * 2.2


def test_ranks_on_one_chip_do_not_depend_on_its_links() -> None:
    """Trainium3 has a quarter of Trainium2's links, and the faster cores."""
    for kind in KINDS:
        old, new = (collective_ps(c, Collective(kind, 64 * MIB, 8)) for c in (TRN2, TRN3))
        assert new < old


def test_a_group_spread_over_chips_pays_for_its_links() -> None:
    """One rank of a chip alone has an eighth of the links; a whole chip crosses its edge once."""
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        apart = collective_ps(TRN3, Collective(kind, 64 * MIB, 16, on_chip=1))
        packed = collective_ps(TRN3, Collective(kind, 64 * MIB, 16))
        assert apart > 2 * packed
    shared = [Collective("all_to_all", 64 * MIB, 16, on_chip=n) for n in (1, 8)]
    assert len({collective_ps(TRN3, c) for c in shared}) == 1  # each rank sends to every other


def test_no_core_sends_faster_than_its_memory_and_engines_allow() -> None:
    for chip in (TRN1, TRN2, TRN3, facts.chip("inf2")):
        cores, rate = chip.integer("core.per_chip"), chip.number("link.core_gb_s")
        engines = chip.integer("dma.engines") * chip.number("dma.engine_gb_s")
        assert rate < min(engines, chip.number("hbm.chip_gb_s") / cores / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_more_instances_take_longer_than_one(kind: str) -> None:
    for size in (1 << 14, 1 << 22, 1 << 28):
        times = [collective_ps(TRN2, Collective(kind, size, 64, n)) for n in (1, 2, 4)]
        assert times[0] < times[1] <= times[2]


def test_a_sum_across_instances_is_its_scatter_its_share_and_its_gather() -> None:
    """Hierarchical, as documented: inside, between, inside; the trigger counts once."""
    size, local, instances = 1 << 26, 16, 4
    trigger = round(TRN2.number("collective.trigger_ns") * 1000)
    whole = collective_ps(TRN2, Collective("all_reduce", size, local * instances, instances))
    inside = sum(
        collective_ps(TRN2, Collective(k, size, local)) - trigger
        for k in ("reduce_scatter", "all_gather")
    )
    share = size // local
    hops = 2 * 2 * TRN2.number("collective.inter_instance_hop_ns")  # there and back, log2(4)
    sent = 2 * share * 3 // 4
    logical = TRN2.number("collective.inter_instance_rank_gbps")  # of two cores
    between_ns = hops + sent / (logical / 2 / 8)
    assert whole == pytest.approx(trigger + inside + between_ns * 1000, rel=1e-6)


def test_ranks_that_instances_cannot_share_are_refused() -> None:
    with pytest.raises(UsageError, match="10 ranks on 4 instances"):
        collective_ps(TRN2, Collective("all_reduce", MIB, 10, 4))


def test_across_instances_the_algorithm_is_hierarchical() -> None:
    assert Collective("all_gather", MIB, 32, 2).algorithm(TRN2) == "hierarchical"
    assert Collective("all_gather", MIB, 32, 2).steps(TRN2) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_links_of_an_ultraserver_are_between_an_instance_and_the_network(kind: str) -> None:
    for size in (1 << 14, 1 << 22, 1 << 28):
        one, linked, apart = (
            collective_ps(TRN2, Collective(kind, size, 512, n, linked=m))
            for n, m in ((1, 1), (4, 4), (4, 1))
        )
        assert linked < apart
        if kind not in ("all_to_all", "collective_permute"):
            assert linked > one / 2  # two levels of shorter exchanges may beat one long ring


def test_ultraservers_over_the_network_are_three_levels() -> None:
    """Inside an instance, over the links of the UltraServer, over the network."""
    size = 1 << 26
    whole = Collective("all_gather", size, 1024, 8, linked=4)
    inside, between = whole._levels()
    assert (inside[0].ranks, inside[0].instances, between.ranks) == (512, 4, 2)
    (local,), links = inside[0]._levels()
    assert (local.ranks, local.instances, links.ranks) == (128, 1, 4)
    assert collective_ps(TRN2, whole) < collective_ps(TRN2, Collective("all_gather", size, 1024, 8))


def test_ultraservers_need_links_and_whole_groups() -> None:
    with pytest.raises(UsageError, match="no links join instances of trn1"):
        collective_ps(TRN1, Collective("all_reduce", MIB, 64, 2, linked=2))
    with pytest.raises(UsageError, match="6 instances in UltraServers of 4"):
        collective_ps(TRN2, Collective("all_reduce", MIB, 96, 6, linked=4))
