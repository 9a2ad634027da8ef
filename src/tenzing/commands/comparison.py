"""Which silicon for a model's work: the comparison behind ``tenzing compare MODEL``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenzing import fleet
from tenzing.commands.programs import Progress


def compare(
    model: str,
    on: Sequence[str] = fleet.DEFAULT_TARGETS,
    task: str = "",
    *,
    simulate: bool = False,
    progress: Progress = lambda _: None,
    **options: Any,
) -> fleet.Comparison:
    """A model's work on several instances: all layouts, with time, money and energy.

    As :func:`tenzing.fleet.compare`, which lists the options; ``simulate`` adds the step of our own
    compiled program for the best layout of each target. ``choices`` of the result are flat
    records: ``pandas.DataFrame(result.choices)`` is a table of them.
    """
    found = fleet.compare(model, on, task, progress=progress, **options)
    return fleet.simulated(found, progress) if simulate else found


__all__ = ["compare"]
