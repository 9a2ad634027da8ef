"""Fit the end-to-end calibration on published rows and cross-validate it by cluster.

    python -m calibration.fit MEASUREMENTS_FOLDER

writes ``src/tenzing/facts/calibration/*.toml`` and ``calibration/END_TO_END.md``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from calibration.end_to_end import page
from calibration.fitting import Observation, fit_quantity, weighted_quantile

from tenzing.fleet.estimate import EXACT, Calibration, Estimate, Quantity
from tenzing.fleet.estimators import estimates_of
from tenzing.fleet.estimators.serving import PROMPT
from tenzing.fleet.rows import CONFIGURATION, RESULTS, Row, number, read_table

FOLDS = 12
QUALITY = {"A": 1.0, "B": 1.0, "C": 0.25, "D": 0.0}
# A quantity is fitted after those its estimates are built from.
STAGES = (
    ("decode_step", "prefill", "reprefill", "saturated", "forward", "generation",
     "training_step", "collective"),
    ("first_token", "between_tokens"),
    (),  # everything else
)  # fmt: skip
# (scale of the conditions' priors, how far clusters differ, how heavy the tails are), chosen by
# cross-validation. Prefills have the heaviest: some ports take three times what others do.
WILD = 2.5
USUAL = (0.5, 0.25)
LOOSE = (1.0, 0.1)
PRIORS: dict[str, tuple[float, ...]] = {
    "prefill": (1.0, 0.15, WILD), "collective": (1.0, 0.25), "first_token": (0.5, 0.1, WILD),
    "training_step": LOOSE, "output_rate": (0.25, 0.25), "between_tokens": (0.25, 0.25),
    "request_rate": (0.25, 0.25),
    "forward": LOOSE, "saturated": LOOSE,
    "generation_audio": LOOSE, "generation_diffusion": LOOSE,
}  # fmt: skip
CLASS_GROUPS = 20  # or so many configurations of at least two clusters
CLASS_CLUSTERS = 4  # clusters that a class needs for a width of its own
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Example:
    """A row with what was published about it."""

    row: Row
    published: Mapping[str, float]
    cluster: str
    group: str
    quality: str


def load(folder: Path, kind: str) -> list[Example]:
    """Rows of one file; unusable values are left out."""
    table = read_table(folder / f"{kind}.csv")
    found = []
    for record, row in zip(table.records, table.rows(), strict=True):
        values = {m: number(record.get(m) or "") for m in RESULTS[kind]}
        published = {m: v for m, v in values.items() if v is not None and v > 0}
        cluster = record.get("cluster") or record.get("group") or record["row_id"]
        found.append(Example(row, published, cluster, record["eval_group"], record["quality"]))
    return found


def observations(examples: Iterable[Example], using: Calibration) -> dict[str, list[Observation]]:
    """Published values by quantity; rows of one configuration and metric share one vote."""
    rows: dict[str, list[tuple[Example, Estimate, float]]] = defaultdict(list)
    for example in examples:
        if not QUALITY.get(example.quality, 0.0):
            continue
        for estimate in estimates_of(example.row, using.time)[0]:
            value = example.published.get(estimate.metric)
            told = PROMPT not in estimate.assumed  # an unknown length teaches nothing
            if value and told and estimate.quantity != EXACT:
                seconds = estimate.scale / value if estimate.rate else value / estimate.scale
                rows[estimate.quantity].append((example, estimate, seconds))
    return {name: _weighed(found) for name, found in rows.items()}


def _weighed(found: list[tuple[Example, Estimate, float]]) -> list[Observation]:
    votes: dict[tuple[str, str], int] = defaultdict(int)
    groups: dict[str, set[str]] = defaultdict(set)
    for example, estimate, _ in found:
        votes[example.group, estimate.metric] += 1
        groups[example.cluster].add(example.group)
    return [
        Observation(e, seconds, x.cluster, x.group,
                    QUALITY[x.quality] / votes[x.group, e.metric]
                    / math.sqrt(len(groups[x.cluster]) / 4 if len(groups[x.cluster]) > 4 else 1))
        for x, e, seconds in found if seconds > 0
    ]  # fmt: skip


def fit(examples: list[Example]) -> dict[str, Quantity]:
    """All quantities, in stages: a client's figures are fitted on calibrated steps."""
    fitted: dict[str, Quantity] = {}
    for stage in STAGES:
        data = observations(examples, Calibration(fitted))
        names = [n for n in data if (n in stage if stage else n not in fitted)]
        fitted |= {n: fit_quantity(data[n], *PRIORS.get(n, USUAL)) for n in names}
    return fitted


@dataclass(frozen=True)
class Residual:
    """ln(published time / predicted time) of one held-out value."""

    example: Example
    estimate: Estimate
    ln_ratio: float
    half_width: float


def cross_validate(examples: list[Example], folds: int = FOLDS) -> list[Residual]:
    """Residuals of every cluster predicted without it."""
    sizes: dict[str, int] = defaultdict(int)
    for example in examples:
        sizes[example.cluster] += 1
    order = sorted(sizes, key=lambda c: (-sizes[c], c))
    folds = min(folds, len(order))
    held_in = {cluster: i % folds for i, cluster in enumerate(order)}
    found: list[Residual] = []
    for fold in range(folds):
        using = Calibration(fit([x for x in examples if held_in[x.cluster] != fold]))
        for example in examples:
            if held_in[example.cluster] != fold or not QUALITY.get(example.quality, 0.0):
                continue
            for e in estimates_of(example.row, using.time)[0]:
                value = example.published.get(e.metric)
                seconds = using.time(e)
                if value and seconds > 0:
                    predicted = e.scale / seconds if e.rate else e.scale * seconds
                    # the sign is that of the metric: positive means predicted too high
                    found.append(Residual(example, e, math.log(predicted / value),
                                          using.half_width(e)))  # fmt: skip
    return found


def widths(residuals: list[Residual]) -> dict[str, dict[str, float]]:
    """80 % half widths by quantity and class, each class with enough clusters."""
    by: dict[str, dict[str, list[Residual]]] = defaultdict(lambda: defaultdict(list))
    for r in residuals:
        by[r.estimate.quantity][""].append(r)
        by[r.estimate.quantity][r.estimate.width].append(r)
    found: dict[str, dict[str, float]] = {}
    for quantity, classes in by.items():
        found[quantity] = {}
        for name, members in classes.items():
            seen = {r.example.cluster for r in members}, {r.example.group for r in members}
            if (
                name
                and len(seen[0]) < CLASS_CLUSTERS
                and not (len(seen[0]) > 1 and len(seen[1]) >= CLASS_GROUPS)
            ):
                continue
            votes: dict[tuple[str, str], int] = defaultdict(int)
            for r in members:
                votes[r.example.group, r.estimate.metric] += 1
            weights = [1 / votes[r.example.group, r.estimate.metric] for r in members]
            found[quantity][name] = max(
                weighted_quantile([abs(r.ln_ratio) for r in members], weights, 0.8), 0.05
            )
    return found


def summary(residuals: list[Residual], key: str = "phase", good: str = "AB") -> str:
    """Medians by phase for people, each configuration and metric once."""
    groups: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in residuals:
        if r.example.quality in good and not _speculative(r):
            name = getattr(r.estimate, key)
            groups[name][r.example.group, r.estimate.metric].append(r.ln_ratio)
    lines = []
    for name, members in sorted(groups.items()):
        values = [sorted(v)[len(v) // 2] for v in members.values()]
        absolute = sorted(abs(v) for v in values)
        median = absolute[len(values) // 2]
        p90 = absolute[min(int(len(values) * 0.9), len(values) - 1)]
        signed = sorted(values)[len(values) // 2]
        lines.append(f"{name:24s} {len(values):5d} {median:7.3f} {p90:7.3f} {signed:+7.3f}")
    return "\n".join(lines)


def _speculative(r: Residual) -> bool:
    return "spec_decode" in CONFIGURATION[r.example.row.kind] and bool(
        r.example.row.text("spec_decode")
    )


def write(kind: str, fitted: dict[str, Quantity], residuals: list[Residual]) -> None:
    """One TOML file of a kind: constants with their evidence."""
    width = widths(residuals)
    lines = [
        f"# Calibration of {kind}: fitted by `python -m calibration.fit`, do not edit.",
        "# parts: ln cost multiplier of an op class; features: ln factor of a condition;",
        "# widths: half width (ln) of the 80 % interval by class, cross-validated by cluster.",
        "", 'kind = "derived"', f'source = "measurements/{kind}.csv, calibration rows"', "",
    ]  # fmt: skip
    for name in sorted(fitted):
        mine = [r for r in residuals if r.estimate.quantity == name]
        if not mine:
            continue
        absolute = sorted(abs(r.ln_ratio) for r in mine)
        lines += [
            f"[quantity.{name}]",
            f"rows = {len(mine)}",
            f"groups = {len({r.example.group for r in mine})}",
            f"clusters = {len({r.example.cluster for r in mine})}",
            f"cross_validated_median_abs_ln = {absolute[len(absolute) // 2]:.3f}",
            "",
            f"[quantity.{name}.parts]",
            *(f'"{k}" = {v:.4f}' for k, v in sorted(fitted[name].parts.items())),
            "",
            f"[quantity.{name}.features]",
            *(f'"{k}" = {v:.4f}' for k, v in sorted(fitted[name].features.items())),
            "",
            f"[quantity.{name}.widths]",
            *(f'"{k}" = {v:.4f}' for k, v in sorted(width[name].items())),
            "",
        ]
    target = ROOT / "src" / "tenzing" / "facts" / "calibration" / f"{kind}.toml"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """Fit every file, cross-validate, write constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the calibration CSVs")
    parser.add_argument("--only", default="", help="one kind of file")
    parser.add_argument("--dry", action="store_true", help="print scores, write nothing")
    options = parser.parse_args(arguments)
    every: dict[str, list[Residual]] = {}
    for kind in CONFIGURATION:
        if options.only and kind != options.only:
            continue
        start = time.time()
        examples = load(options.folder, kind)
        residuals = every[kind] = cross_validate(examples)
        print(f"== {kind}: {len(examples)} rows, {time.time() - start:.1f} s\n{summary(residuals)}")
        print("-- by quantity\n" + summary(residuals, "quantity"))
        if not options.dry:
            write(kind, fit(examples), residuals)
    if not options.dry and not options.only:
        found = {k: v for residuals in every.values() for k, v in widths(residuals).items()}
        (ROOT / "calibration" / "END_TO_END.md").write_text(page(every, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
