"""The order in which a compiler issues the stages of independent blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def in_turn(count: int, stages: Sequence[Callable[[int], None]]) -> None:
    """All stages of a block before the next block: the order of the source."""
    for block in range(count):
        for stage in stages:
            stage(block)


def skewed(count: int, stages: Sequence[Callable[[int], None]]) -> None:
    """Each stage of a block beside the stage before it of the next block.

    Engines work in order; so none waits for another within a block.
    """
    for step in range(count + len(stages) - 1):
        for late, stage in reversed(list(enumerate(stages))):
            if 0 <= step - late < count:
                stage(step - late)
