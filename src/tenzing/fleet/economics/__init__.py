"""Money and energy: bills, owning against renting, tokens, fleets, generations, sensitivity."""

from tenzing.fleet.economics.answer import Economics, economics
from tenzing.fleet.economics.bill import Bill, bill_for, unpriced
from tenzing.fleet.economics.history import Generation, generations, yearly_gain
from tenzing.fleet.economics.owning import (
    Ownership,
    OwnOrRent,
    Rental,
    UsdPerKwMonth,
    ownership,
    rental,
)
from tenzing.fleet.economics.sensitivity import Bar, Load, around, tornado, work_bars
from tenzing.fleet.economics.sizing import Demand, Month, demand, size_fleet, spares
from tenzing.fleet.economics.tokens import (
    BreakEven,
    blended,
    break_even,
    joules_per_unit,
    usd_per_million,
)

__all__ = [
    "Bar", "Bill", "BreakEven", "Demand", "Economics", "Generation", "Load", "Month", "OwnOrRent",
    "Ownership", "Rental", "UsdPerKwMonth", "around", "bill_for", "blended", "break_even", "demand",
    "economics", "generations", "joules_per_unit", "ownership", "rental", "size_fleet", "spares",
    "tornado", "unpriced", "usd_per_million", "work_bars", "yearly_gain",
]  # fmt: skip
