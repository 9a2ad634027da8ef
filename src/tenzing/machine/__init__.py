"""What runs a program: memories, execution, placement, time and checks."""

from tenzing.machine.advice import Advice
from tenzing.machine.analysis import Analysis, analyse
from tenzing.machine.core import ACTIVE, INTERNAL, Core, Options, active_core
from tenzing.machine.critical import Link
from tenzing.machine.deps import analyse_dependencies
from tenzing.machine.lines import DMA_TRACK, TRACKS, OperationTime
from tenzing.machine.occupancy import Tenants, no_tenants
from tenzing.machine.place import Placement, hbm_need_bytes, lifetimes, place
from tenzing.machine.schedule import Schedule, schedule
from tenzing.machine.transfers import TransferClass
from tenzing.machine.uncertainty import Interval, interval

__all__ = [
    "ACTIVE", "DMA_TRACK", "INTERNAL", "TRACKS", "Advice", "Analysis", "Core", "Interval", "Link",
    "OperationTime", "Options", "Placement", "Schedule", "Tenants", "TransferClass",
    "active_core", "analyse", "analyse_dependencies", "hbm_need_bytes", "interval", "lifetimes",
    "no_tenants", "place", "schedule",
]  # fmt: skip
