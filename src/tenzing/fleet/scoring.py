"""`tenzing score`: predictions against what was published, by configuration, in strata."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tenzing.errors import UsageError
from tenzing.fleet.rows import RESULTS, Table, number, read_table

UNUSABLE: Final = "D"
PLAIN_DIFFERENCE: Final = math.log(1.1)  # published values closer than this have no order
LARGEST_CROSS: Final = 4_000  # items of one metric compared with each other
ENCODER: Final = "inference_encoder_vision"


@dataclass(frozen=True)
class Item:
    """One metric of one configuration: its rows' median ln(predicted/published).

    ``covered``: share of its rows whose published value lies in the interval; both None where
    nothing was predicted.
    """

    kind: str
    metric: str
    group: str
    accelerator: str
    phase: str
    published: float
    ln_ratio: float | None
    covered: float | None


@dataclass(frozen=True)
class Score:
    """Errors of a set of items; None where no item was predicted (ordering: no pair to compare)."""

    median_abs_ln_ratio: float | None
    p90_abs_ln_ratio: float | None
    signed_median: float | None
    coverage_80: float | None
    ordering: float | None
    predicted_share: float
    groups: int


@dataclass(frozen=True)
class Report:
    """The overall score and scores by stratum, as name to score."""

    overall: Score
    file: Mapping[str, Score]
    accelerator: Mapping[str, Score]
    phase: Mapping[str, Score]

    def as_json(self) -> dict[str, object]:
        """``overall``, and ``strata`` under ``file:``, ``accelerator:`` and ``phase:`` names."""
        strata = {
            f"{name}:{key}": asdict(score)
            for name in ("file", "accelerator", "phase")
            for key, score in getattr(self, name).items()
        }
        return {"overall": asdict(self.overall), "strata": strata}


def phase_of(kind: str, metric: str, record: Mapping[str, str]) -> str:
    """The stratum of a metric: prefill, decode, serving, or the row's category or operation."""
    if kind == "inference_llm":
        if metric.startswith("ttft"):
            return "prefill"
        if metric.startswith(("tpot", "latency_per_token")):
            return "decode"
        return "serving"
    column = {ENCODER: "category", "kernels": "category", "collectives": "op"}.get(kind, "")
    return (record.get(column) or "").strip() or kind


def items_of(table: Table) -> list[Item]:
    """Published metrics of a predicted table, one item per configuration and metric."""
    if not any(name.startswith("predicted_") for name in table.header):
        raise UsageError(
            f"{Path(table.path).name} holds no predictions", allowed="columns predicted_<metric>",
            next_step="run tenzing predict ROWS.csv -o OUT.csv first",
        )  # fmt: skip
    members: dict[tuple[str, str], list[Mapping[str, str]]] = defaultdict(list)
    for at, record in enumerate(table.records):
        if (record.get("quality") or "").strip().upper() == UNUSABLE:
            continue
        group = (record.get("eval_group") or "").strip() or f"row {at + 2}"
        for metric in RESULTS[table.kind]:
            value = number(record.get(metric) or "")
            if value is not None and value > 0 and not _excused(record, metric):
                members[group, metric].append(record)
    return [_item(table.kind, group, metric, rows) for (group, metric), rows in members.items()]


def _excused(record: Mapping[str, str], metric: str) -> bool:
    """Speculative decoding counts only where it was predicted."""
    return bool((record.get("spec_decode") or "").strip()) and not _predicted(record, metric)


def _predicted(record: Mapping[str, str], metric: str) -> float | None:
    value = number(record.get(f"predicted_{metric}") or "")
    return value if value is not None and value > 0 else None


def _item(kind: str, group: str, metric: str, rows: Sequence[Mapping[str, str]]) -> Item:
    ratios, inside, published = [], [], []
    for record in rows:
        real = number(record[metric]) or 0.0
        published.append(real)
        made = _predicted(record, metric)
        if made is None:
            continue
        ratios.append(math.log(made / real))
        low = number(record.get(f"predicted_{metric}_lo") or "")
        high = number(record.get(f"predicted_{metric}_hi") or "")
        inside.append(low is not None and high is not None and low <= real <= high)
    first = rows[0]
    return Item(
        kind, metric, group, (first.get("accelerator") or "").strip().split(" (")[0],
        phase_of(kind, metric, first), float(np.median(published)),
        float(np.median(ratios)) if ratios else None,
        sum(inside) / len(inside) if inside else None,
    )  # fmt: skip


def score(items: Sequence[Item]) -> Score:
    """Errors of items; each configuration and metric has one vote."""
    predicted = [x for x in items if x.ln_ratio is not None]
    groups = len({(x.kind, x.group) for x in items})
    share = len(predicted) / len(items) if items else 0.0
    if not predicted:
        return Score(None, None, None, None, None, share, groups)
    ratios = np.array([x.ln_ratio for x in predicted], float)
    return Score(
        float(np.median(np.abs(ratios))), float(np.quantile(np.abs(ratios), 0.9)),
        float(np.median(ratios)), float(np.mean([x.covered for x in predicted])),
        ordering(predicted), share, groups,
    )  # fmt: skip


def ordering(items: Iterable[Item]) -> float | None:
    """Share of pairs of one metric and phase, published over 10 % apart, put in the right order."""
    by: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
    for item in items:
        by[item.kind, item.metric, item.phase].append(item)
    right = total = 0
    for members in by.values():
        step = max(len(members) // LARGEST_CROSS, 1)
        good, every = _pairs(members[::step])
        right, total = right + good, total + every
    return right / total if total else None


def _pairs(members: Sequence[Item]) -> tuple[int, int]:
    real: NDArray[np.float64] = np.log([x.published for x in members])
    made = real + np.array([x.ln_ratio for x in members], float)
    apart = np.subtract.outer(real, real)
    clear = np.triu(np.abs(apart) > PLAIN_DIFFERENCE, 1)
    same = np.sign(apart) == np.sign(np.subtract.outer(made, made))
    return int((clear & same).sum()), int(clear.sum())


def score_items(items: Sequence[Item]) -> Report:
    """The report of items: overall, by kind of file, accelerator and phase."""

    def strata(key: str) -> dict[str, Score]:
        names = sorted({str(getattr(x, key)) for x in items})
        return {name: score([x for x in items if getattr(x, key) == name]) for name in names}

    return Report(score(items), strata("kind"), strata("accelerator"), strata("phase"))


def score_files(paths: Sequence[str | Path]) -> Report:
    """Score files that `tenzing predict` wrote; UsageError for a file without predictions."""
    items = [item for path in paths for item in items_of(read_table(path))]
    if not items:
        raise UsageError("no published value to score against",
                         next_step="give rows with results in their own columns")  # fmt: skip
    return score_items(items)


__all__ = ["Item", "Report", "Score", "items_of", "ordering", "phase_of", "score",
           "score_files", "score_items"]  # fmt: skip
