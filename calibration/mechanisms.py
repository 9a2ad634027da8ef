"""What each mechanism of the model is worth on rows it was not fitted on.

``python -m calibration.mechanisms`` times every row again without each mechanism of mechanisms.toml
and writes mechanisms.json, which the page "How wrong are we" reads.
"""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from calibration.reproduce import HERE, Outcome, comparable_us, record, rows
from calibration.sensitivity import retimed_ps

DATA = HERE / "mechanisms.json"
MOVED = 0.01  # ln: a row whose time changes less does not speak about the mechanism


def mechanisms() -> list[dict[str, Any]]:
    """The mechanisms."""
    with (HERE / "mechanisms.toml").open("rb") as stream:
        return list(tomllib.load(stream)["mechanism"])


def without(row: Mapping[str, Any], some: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Microseconds of a row without each of ``some`` mechanisms, where its time changes."""
    result = record(row)
    normal = comparable_us(row, result.total_ps, result.launch_ps)
    found = {}
    for mechanism in some:
        time = comparable_us(row, *retimed_ps(result, mechanism["without"]))
        if abs(math.log(time / normal)) > MOVED:
            found[mechanism["id"]] = round(time, 4)
    return found


def measured() -> dict[str, dict[str, float]]:
    """By row, the times without each mechanism of its chip."""
    found = {}
    for row in rows():
        print(f"  {row['name']}", file=sys.stderr, flush=True)
        some = [m for m in mechanisms() if m["target"] == row["target"]]
        if times := without(row, some):
            found[row["name"]] = times
    return found


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Per mechanism: rows it moves that it was not fitted on, and their errors without and with."""
    known = json.loads(DATA.read_text(encoding="utf-8"))
    by_name = {o.name: o for o in outcomes}
    yield "| mechanism | basis | fitted on | others moved | median error without | with | nearer |"
    yield "|---|---|---|---|---|---|---|"
    for m in mechanisms():
        pairs = [
            (
                abs(math.log(times[m["id"]] / by_name[name].published_us)),
                abs(by_name[name].ln_ratio),
            )
            for name, times in known.items()
            if m["id"] in times and name not in m["fitted"]
        ]
        if not pairs:
            continue
        nearer = sum(after < before for before, after in pairs)
        yield (
            f"| {m['name']} | {m['basis']} | {len(m['fitted'])} | {len(pairs)} | "
            f"{_percent(median(p[0] for p in pairs))} | {_percent(median(p[1] for p in pairs))} | "
            f"{nearer} of {len(pairs)} |"
        )


def _percent(ln: float) -> str:
    return f"{math.expm1(ln):.1%}"


if __name__ == "__main__":
    DATA.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {DATA}")
