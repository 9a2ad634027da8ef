"""Which silicon for this work: every layout on every target, with time, money and energy."""

from tenzing.fleet.comparison.choice import FULL, OK, SLOW, UNKNOWN, Choice
from tenzing.fleet.comparison.money import Elsewhere, fleet_for, sensitivity
from tenzing.fleet.comparison.offer import Offer, offers
from tenzing.fleet.comparison.search import (
    DEFAULT_TARGETS,
    Comparison,
    compare,
    simulated,
)
from tenzing.fleet.comparison.task import (
    Encoding,
    Imaging,
    Perceiving,
    Serving,
    Task,
    Training,
    task_named,
)

__all__ = [
    "DEFAULT_TARGETS", "FULL", "OK", "SLOW", "UNKNOWN", "Choice", "Comparison", "Elsewhere",
    "Encoding", "Imaging", "Offer", "Perceiving", "Serving", "Task", "Training", "compare",
    "fleet_for", "offers", "sensitivity", "simulated", "task_named",
]  # fmt: skip
