"""What would make a program faster: each change is timed by scheduling the changed program.

A change is tried on the record, not on the kernel: transfers of one line joined, a tile in two
buffers, a product in bf16. Its gain is the difference between two simulated times.
"""

from __future__ import annotations

from typing import Final

from tenzing.machine.advice.buffers import second_buffers
from tenzing.machine.advice.edits import Advice, Changes, Recorded
from tenzing.machine.advice.engines import grouped_functions, other_engines, wider_instructions
from tenzing.machine.advice.products import narrow_products, products_kept_in_psum
from tenzing.machine.advice.transfers import joined_transfers, kept_tiles
from tenzing.machine.schedule import schedule

WORTH: Final = 0.02  # share of the time that a change must gain to be told
CHANGES: Final[tuple[Changes, ...]] = (
    joined_transfers, kept_tiles, second_buffers, narrow_products, products_kept_in_psum,
    other_engines, wider_instructions, grouped_functions,
)  # fmt: skip


def advise(recorded: Recorded) -> list[Advice]:
    """Changes that would gain at least 2 % of the time, the best first."""
    before = recorded.times.total_ps
    found = []
    for changes in CHANGES:
        for change in changes(recorded):
            after = schedule(change.program, change.dependencies).total_ps
            words = change.loc, change.what, change.why
            found.append(Advice(*words, before, after, change.at_most))
    return sorted((a for a in found if a.gain >= WORTH), key=lambda a: -a.gain)


__all__ = ["Advice", "Recorded", "advise"]
