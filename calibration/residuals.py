"""Half widths of simulated kernel times by class: ``facts/residuals.toml`` from reproductions.

``python -m calibration.residuals`` reads reproductions.json, which ``calibration.run`` writes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, median

from calibration.reproduce import HERE, Outcome, load

from tenzing import facts

TARGET = HERE.parent / "src" / "tenzing" / "facts" / "residuals.toml"
SHARE = 0.8
FEWEST = 5  # checks; a class of fewer takes those of all classes
PAIR = ("trn1", "trn2")
TIMING = ("tensor", "vector", "scalar", "gpsimd", "dma", "sync")
UNITS = ("cycles", "ns", "GB/s")
HEAD = """# Written by `python -m calibration.residuals`; do not edit.
# class: half width (ln) that with what assumed facts add covers 80 % of the class's checks.
# sensitivity: mean |d ln time / d ln fact| over the kernels of a class, of facts that are assumed
# on some chip. assumed_half_width: what such a fact is off by (ln), the median difference between
# the two chips on which a timing fact is known otherwise.

kind = "derived"
source = "calibration/reproductions.json"
"""


def checks(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Rows that check something: no fit, and the program fits the chip's memory."""
    return [o for o in outcomes if not o.fit and o.fits]


def assumed_half_width() -> float:
    """Median |ln| between Trainium1 and Trainium2 of timing facts assumed on neither."""
    one, two = (facts.chip(name).facts for name in PAIR)
    found = []
    for path in sorted(set(one) & set(two)):
        a, b = one[path], two[path]
        known = all(f.kind in ("measured", "derived", "published") for f in (a, b))
        same = a.unit not in UNITS or a.source == b.source or path.split(".")[0] not in TIMING
        if known and not same and a.value and b.value:
            found.append(abs(math.log(float(a.value) / float(b.value))))
    return median(found)


def sensitivity(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Mean slope by class and fact, of facts that are assumed on some chip."""
    assumed = {
        path
        for name in facts.chips()
        for path, fact in facts.chip(name).items()
        if fact.kind == "assumed"
    }
    slopes: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for o in outcomes:
        if o.sensitivity is not None:
            slopes[o.limit].append(o.sensitivity)
    return {
        kind: {
            path: round(mean(abs(s.get(path, 0.0)) for s in some), 4)
            for path in sorted(assumed & {p for s in some for p in s})
        }
        for kind, some in slopes.items()
    }


def half_width(rows: Sequence[Outcome], follows: Mapping[str, float], off: float) -> float:
    """The smallest that covers 80 % of the rows beside their assumed facts."""
    rest = sorted(
        math.sqrt(
            max(0.0, o.ln_ratio**2 - sum((follows.get(p, 0.0) * off) ** 2 for p in o.assumed))
        )
        for o in rows
    )
    return rest[math.ceil(SHARE * len(rest)) - 1]


def text(outcomes: Sequence[Outcome]) -> str:
    """The file."""
    off, follows = assumed_half_width(), sensitivity(outcomes)
    lines = [HEAD + f"assumed_half_width = {off:.4f}"]
    by_class: dict[str, list[Outcome]] = defaultdict(list)
    for o in checks(outcomes):
        by_class[o.limit].append(o)
    for kind, own in sorted(by_class.items()):
        rows = own if len(own) >= FEWEST else checks(outcomes)
        width = half_width(rows, follows.get(kind, {}), round(off, 4))
        lines += [
            "", f"[class.{kind}]", f"half_width = {math.ceil(width * 1e4) / 1e4:.4f}",
            f"rows = {len(rows)}",
            f"median_abs_ln = {median(abs(o.ln_ratio) for o in rows):.4f}",
        ]  # fmt: skip
    for kind, table in sorted(follows.items()):
        lines += ["", f"[sensitivity.{kind}]"]
        lines += [f'"{path}" = {slope}' for path, slope in table.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(load()), encoding="utf-8")
    print(f"wrote {TARGET}")
