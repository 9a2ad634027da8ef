"""Which region: latency to the users from distance, whether it is offered there, at what price."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenzing import facts
from tenzing.errors import UsageError
from tenzing.facts import Price

MS_PER_S: Final = 1000.0
THERE_AND_BACK: Final = 2
TERMS: Final = ("on_demand", "capacity_block", "reserved", "spot")  # to plan with, best first
_COORDINATES: Final = re.compile(r"(-?\d+(?:\.\d+)?)[:;](-?\d+(?:\.\d+)?)")
NORTH, EAST = 90, 180  # degrees at most


@dataclass(frozen=True)
class Place:
    """A place on Earth, in degrees; north and east are positive."""

    name: str
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Where:
    """A region for an instance.

    ``mean_ms`` and ``worst_ms`` are round trips over the users, assumed factors included;
    ``floor_ms`` is the mean of light in straight fibre, which nothing beats. ``offered`` is True
    where a price proves it, None where nothing public is known. ``parent``: a Local Zone's region.
    """

    region: str
    place: Place
    parent: str
    mean_ms: float
    worst_ms: float
    floor_ms: float
    offered: bool | None
    price: Price | None
    near: bool

    @property
    def merit(self) -> tuple[bool, bool, float, float]:
        """Smaller is better: near enough, then known to be offered, then price, then distance."""
        usd = self.price.usd_per_hour if self.price is not None else math.inf
        return not self.near, not self.offered, usd, self.mean_ms


def place_named(text: str) -> Place:
    """The place of a region by its code or city (``Tokyo``), or ``LATITUDE:LONGITUDE``."""
    match = _COORDINATES.fullmatch(text.strip())
    if match is not None:
        north, east = float(match[1]), float(match[2])
        if abs(north) > NORTH or abs(east) > EAST:
            raise UsageError("not on Earth", got=text, allowed="-90:-180 to 90:180")
        return Place(text.strip(), north, east)
    wanted = text.strip().lower()
    for code in facts.regions():
        place = _place(code)
        if wanted in (code, place.name.lower(), place.name.split(",")[0].lower()):
            return place
    cities = sorted({_place(code).name for code in facts.regions()})
    raise UsageError("no place of this name is known", got=repr(text), allowed="; ".join(cities),
                     next_step="give LATITUDE:LONGITUDE, such as 52.5:13.4")  # fmt: skip


def distance_km(a: Place, b: Place) -> float:
    """Along the great circle, on a sphere of the Earth's mean radius."""
    north_a, north_b = math.radians(a.latitude), math.radians(b.latitude)
    east = math.radians(b.longitude - a.longitude)
    chord = math.sin((north_b - north_a) / 2) ** 2
    chord += math.cos(north_a) * math.cos(north_b) * math.sin(east / 2) ** 2
    angle = 2 * math.asin(math.sqrt(min(chord, 1.0)))
    return facts.economy().number("distance.earth_radius_km") * angle


def floor_ms(km: float) -> float:
    """There and back through straight fibre."""
    economy = facts.economy()
    speed = economy.number("distance.light_km_per_s") / economy.number("distance.fibre_index")
    return THERE_AND_BACK * km / speed * MS_PER_S


def round_trip_ms(
    km: float, *, path_factor: float | None = None, access_ms: float | None = None
) -> float:
    """There and back over cables that are longer than the great circle, with the last mile.

    Both factors are assumed facts unless given.
    """
    economy = facts.economy()
    longer = economy.number("distance.path_factor") if path_factor is None else path_factor
    access = economy.number("distance.access_ms") if access_ms is None else access_ms
    if longer < 1 or not 0 <= access < math.inf:
        raise UsageError("path_factor and access_ms", got=f"{longer}, {access}",
                         allowed="path_factor from 1 on, access_ms from 0 on")  # fmt: skip
    return floor_ms(km) * longer + access


def choose_region(
    instance: str, users: Sequence[tuple[Place, float]], *, most_ms: float = math.inf,
    term: str = "", path_factor: float | None = None, access_ms: float | None = None,
) -> list[Where]:  # fmt: skip
    """All regions for an instance, the best first; none is left out.

    ``users``: places with weights. ``most_ms`` limits the mean round trip. A region without a price
    may still offer the instance: it comes after those that are known to.
    Raises UsageError without users, FactsError for an unknown instance.
    """
    total = math.fsum(weight for _, weight in users)
    if not users or not 0 < total < math.inf or any(weight < 0 for _, weight in users):
        raise UsageError("users", got=f"{len(users)} places", allowed="places with weights above 0")
    name = facts.instance(instance).name
    found = []
    for code in facts.regions():
        place = _place(code)
        distances = [(distance_km(place, user), weight / total) for user, weight in users]
        trips = [(round_trip_ms(km, path_factor=path_factor, access_ms=access_ms), share)
                 for km, share in distances]  # fmt: skip
        mean = math.fsum(ms * share for ms, share in trips)
        floor = math.fsum(floor_ms(km) * share for km, share in distances)
        price = price_in(name, code, term)
        offered = True if price is not None or price_in(name, code) is not None else None
        book = facts.region(code)
        found.append(Where(
            code, place, book.text("parent") if book.known("parent") else "", mean,
            max(ms for ms, _ in trips), floor, offered, price, mean <= most_ms,
        ))  # fmt: skip
    return sorted(found, key=lambda where: where.merit)


def price_in(instance: str, code: str, term: str = "") -> Price | None:
    """The newest price in a region or one of its zones, of a term or the best to plan with."""
    book = facts.region(code)
    names = [code, *([book.text("spoken")] if book.known("spoken") else [])]
    zone = re.compile("|".join(f"{re.escape(name)}[a-z]?" for name in names))
    rows = [row for row in facts.prices(instance) if zone.fullmatch(row.region)]
    for wanted in (term,) if term else TERMS:
        mine = [row for row in rows if row.term == wanted]
        if mine:
            return max(mine, key=lambda row: (row.date, -row.usd_per_hour))
    return None


def _place(code: str) -> Place:
    book = facts.region(code)
    return Place(book.text("place"), book.number("latitude"), book.number("longitude"))


__all__ = [
    "Place", "Where", "choose_region", "distance_km", "floor_ms", "place_named", "price_in",
    "round_trip_ms",
]  # fmt: skip
