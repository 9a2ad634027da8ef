"""Why a reproduction is off by more than the bars: the sentences of explained.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence

from calibration.reproduce import HERE, SHARES, Outcome

FAR = 0.25  # relative error of a time
POINTS = 0.10  # of a share
LEDGER = HERE / "explained.toml"


def ledger() -> dict[tuple[str, str], str]:
    """The sentence by row and counter; the counter of a time is empty."""
    with LEDGER.open("rb") as stream:
        entries = tomllib.load(stream)
    times = {(e["row"], ""): e["why"] for e in entries["time"]}
    return times | {(e["row"], e["counter"]): e["why"] for e in entries["share"]}


def is_far(outcome: Outcome) -> bool:
    """Whether the time is beyond the bar."""
    return abs(outcome.error) > FAR


def shares(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, str, float, float]]:
    """Row, counter, published and simulated share."""
    for o in outcomes:
        for name, value in o.published.items():
            if name in SHARES:
                yield o, name, value, o.simulated(name)


def far_shares(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, str, float, float]]:
    """Those beyond the bar."""
    for o, name, published, simulated in shares(outcomes):
        if abs(published - simulated) > POINTS:
            yield o, name, published, simulated


def needed(outcomes: Sequence[Outcome]) -> set[tuple[str, str]]:
    """Rows and counters that need a sentence."""
    return {(o.name, "") for o in outcomes if is_far(o)} | {
        (o.name, name) for o, name, _, _ in far_shares(outcomes)
    }
