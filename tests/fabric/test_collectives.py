"""Laws of collective times, and their distance from published ones."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.fabric import Collective, collective_ps
from tenzing.fabric.collectives import KINDS

TRN1, TRN2 = facts.chip("trn1"), facts.chip("trn2")
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
    assert got_us < PUBLISHED_US[size] * 1.3
    if size >= 64 * MIB:
        assert got_us > PUBLISHED_US[size] / 4


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
    between_ns = hops + sent / (TRN2.number("collective.inter_instance_rank_gbps") / 8)
    assert whole == pytest.approx(trigger + inside + between_ns * 1000, rel=1e-6)


def test_ranks_that_instances_cannot_share_are_refused() -> None:
    with pytest.raises(UsageError, match="10 ranks on 4 instances"):
        collective_ps(TRN2, Collective("all_reduce", MIB, 10, 4))


def test_across_instances_the_algorithm_is_hierarchical() -> None:
    assert Collective("all_gather", MIB, 32, 2).algorithm(TRN2) == "hierarchical"
    assert Collective("all_gather", MIB, 32, 2).steps(TRN2) > 0
