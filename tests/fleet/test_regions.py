"""Regions: distances against geometry, latencies by hand, and an order that hides nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing import facts
from tenzing.errors import FactsError, UsageError
from tenzing.facts import sheet as sheets
from tenzing.facts.region import read_regions
from tenzing.fleet.regions import (
    Place,
    choose_region,
    distance_km,
    floor_ms,
    place_named,
    price_in,
    round_trip_ms,
)

RADIUS_KM = 6371.0088
PLACES = st.builds(Place, st.just("x"), st.floats(-90, 90), st.floats(-180, 180))


def test_quarters_of_a_great_circle() -> None:
    pole, equator = Place("pole", 90, 0), Place("equator", 0, 0)
    assert distance_km(pole, equator) == pytest.approx(math.pi / 2 * RADIUS_KM)
    assert distance_km(equator, Place("far", 0, 180)) == pytest.approx(math.pi * RADIUS_KM)
    assert distance_km(equator, Place("a degree", 0, 1)) == pytest.approx(111.195, abs=1e-3)


@given(PLACES, PLACES, PLACES)
def test_distances_are_a_metric(a: Place, b: Place, c: Place) -> None:
    assert distance_km(a, b) == pytest.approx(distance_km(b, a), abs=1e-6)
    assert distance_km(a, c) <= distance_km(a, b) + distance_km(b, c) + 1e-3
    assert 0 <= distance_km(a, b) <= math.pi * RADIUS_KM + 1e-6


def test_a_known_distance() -> None:
    """London to Tokyo is 9,560 km by published tables; ours are within one percent."""
    found = distance_km(place_named("London"), place_named("Tokyo"))
    assert found == pytest.approx(9560, rel=0.01)


def test_a_round_trip_by_hand() -> None:
    # light in fibre: 299,792.458 / 1.468 = 204,218 km/s; 1000 km there and back take 9.793 ms,
    # over cables half as long again 14.690 ms, with 5 ms of access 19.690 ms
    assert floor_ms(1000) == pytest.approx(9.7935, abs=1e-4)
    assert round_trip_ms(1000) == pytest.approx(19.690, abs=1e-3)
    assert round_trip_ms(1000, path_factor=1, access_ms=0) == floor_ms(1000)
    with pytest.raises(UsageError, match="path_factor"):
        round_trip_ms(1000, path_factor=0.5)


def test_every_region_is_answered_and_the_known_and_near_come_first() -> None:
    found = choose_region("trn1.32xlarge", [(place_named("New York"), 1)], most_ms=40)
    assert {w.region for w in found} == set(facts.regions())
    best = found[0]
    assert best.offered
    assert best.near
    assert best.price is not None
    assert [w.merit for w in found] == sorted(w.merit for w in found)
    tokyo = next(w for w in found if w.region == "ap-northeast-1")
    assert not tokyo.near
    assert all(w.floor_ms < w.mean_ms <= w.worst_ms + 1e-9 for w in found)


def test_no_price_means_unknown_never_free_nor_absent() -> None:
    found = choose_region("trn1.32xlarge", [(place_named("Bangkok"), 1)])
    for where in found:
        if where.price is None:
            assert where.offered is None or price_in("trn1.32xlarge", where.region) is not None
    assert any(where.offered is None for where in found)


def test_a_local_zone_is_a_region_near_its_users() -> None:
    users = [(place_named("Dallas"), 1)]
    by_distance = sorted(choose_region("trn1.32xlarge", users), key=lambda w: w.mean_ms)
    assert by_distance[0].region == "us-east-1-dfw-2"
    assert by_distance[0].parent == "us-east-1"


def test_a_zone_of_a_price_belongs_to_its_region_only() -> None:
    rows = [(r.instance, r.region) for name in facts.instances() for r in facts.prices(name)]
    zones = [(i, r) for i, r in rows if r[:-1] in facts.regions() and r[-1].isalpha()]
    assert zones
    for instance, zone in zones:
        assert price_in(instance, zone[:-1]) is not None
    local = [(i, r) for i, r in rows if r == "us-east-dfw-2"]
    for instance, _ in local:
        found = price_in(instance, "us-east-1-dfw-2")
        assert found is not None
        assert found.region == "us-east-dfw-2"


def test_users_are_weighed() -> None:
    london, tokyo = place_named("London"), place_named("Tokyo")

    def mean(weights: tuple[float, float]) -> float:
        users = list(zip((london, tokyo), weights, strict=True))
        found = choose_region("trn1.32xlarge", users)
        return next(w.mean_ms for w in found if w.region == "eu-west-2")

    # the same city costs the access alone, 5 ms; Tokyo the trip: three to one in between
    there = mean((0, 1))
    assert mean((1, 0)) == pytest.approx(5)
    assert mean((3, 1)) == pytest.approx((3 * 5 + there) / 4)


@pytest.mark.parametrize("text", ["tokyo", "ap-northeast-1", "Ashburn", " 35.69:139.69 "])
def test_places_by_city_code_and_coordinates(text: str) -> None:
    assert isinstance(place_named(text), Place)


@pytest.mark.parametrize("text", ["", "Atlantis", "91:0", "0:181", "1:2:3"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        place_named(text)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(UsageError, match="users"):
        choose_region("trn1.32xlarge", [])
    with pytest.raises(UsageError, match="users"):
        choose_region("trn1.32xlarge", [(Place("x", 0, 0), 0)])
    with pytest.raises(FactsError):
        choose_region("no-such-instance", [(Place("x", 0, 0), 1)])


FILE, TEXT = sheets.file_text("regions.toml")


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("value = 39.04", "value = 95.0", "not on Earth"),
        ('value = "us-west-2", unit', 'value = "us-west-9", unit', "unknown region"),
        ("latitude = {", "height = {", "latitude: this fact is needed"),
        ('source = "place-coordinates"', 'source = "nobody"', "unknown source"),
    ],
)  # fmt: skip
def test_a_broken_sheet_is_refused(good: str, bad: str, told: str) -> None:
    assert good in TEXT
    with pytest.raises(FactsError, match=told):
        read_regions(sheets.parse(TEXT.replace(good, bad, 1), FILE), facts.sources())
