"""`tenzing predict`: rows of configurations in, the same rows with predictions out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenzing.fleet.estimate import Calibration, Prediction, calibration
from tenzing.fleet.estimators import estimates_of
from tenzing.fleet.rows import RESULTS, Row, Table, read_table
from tenzing.fleet.steptime import simulated_ms

Progress = Callable[[str], None]
EXTRA = ("predict_basis", "predict_assumed", "predict_reason")
SIMULATED = ("prefill", "decode", "encoder", "training")
EVERY = 500  # rows between two lines of progress


@dataclass(frozen=True)
class Answer:
    """Predictions of one row by metric, and why others are empty."""

    predictions: Mapping[str, Prediction]
    reason: str

    @property
    def basis(self) -> str:
        """calibrated, analytic or both; empty without predictions."""
        return "+".join(sorted({p.basis for p in self.predictions.values()}))

    @property
    def assumed(self) -> str:
        """What had to be assumed."""
        names = {name for p in self.predictions.values() for name in p.assumed}
        return "; ".join(sorted(names))


def predict_row(row: Row, using: Calibration | None = None) -> Answer:
    """Every metric of one row's kind that can be predicted; what cannot is in the reason."""
    with_ = using or calibration()
    found: dict[str, Prediction] = {}
    estimates, reason = estimates_of(row, with_.time)
    for estimate in estimates:
        prediction = with_.predict(estimate)
        if prediction is not None and estimate.metric in RESULTS[row.kind]:
            found[estimate.metric] = prediction
    missing = [m for m in RESULTS[row.kind] if m not in found]
    if missing and not reason:
        reason = f"no model for {', '.join(missing)}"
    return Answer(found, reason)


def predict_table(
    table: Table, using: Calibration | None = None, progress: Progress = lambda _: None
) -> list[Answer]:
    """Answers for every record of a table, in order."""
    found = []
    rows = table.rows()
    for at, row in enumerate(rows, 1):
        found.append(predict_row(row, using))
        if at % EVERY == 0:
            progress(f"{at} of {len(rows)} rows")
    return found


def predict_file(
    source: str | Path, target: str | Path, progress: Progress = lambda _: None, *,
    simulate: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """Write predictions beside a CSV's own columns; returns (rows, rows with any prediction).

    ``simulate`` adds what our own compiled programs take, in columns simulated_<step>_ms.
    """
    table = read_table(source)
    progress(f"{Path(table.path).name}: {len(table.records)} rows of {table.kind}")
    answers = predict_table(table, None, progress)
    ours = [simulated_ms(row, progress) for row in table.rows()] if simulate else []
    write_table(table, answers, target, ours)
    return len(answers), sum(bool(a.predictions) for a in answers)


def write_table(
    table: Table, answers: list[Answer], target: str | Path,
    simulated: Sequence[Mapping[str, float]] = (),
) -> None:  # fmt: skip
    """The input's columns unchanged, then predicted_<metric>, _lo, _hi and their basis."""
    kept = [name for name in table.header if not _ours(name)]
    added = [f"predicted_{m}{end}" for m in RESULTS[table.kind] for end in ("", "_lo", "_hi")]
    with Path(target).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        steps = SIMULATED if simulated else ()
        writer.writerow([*kept, *added, *EXTRA, *(f"simulated_{s}_ms" for s in steps)])
        ours = simulated or [{}] * len(answers)
        for record, answer, mine in zip(table.records, answers, ours, strict=True):
            cells = [record[name] for name in kept]
            for metric in RESULTS[table.kind]:
                found = answer.predictions.get(metric)
                cells += _cells(found)
            basis = "+".join(x for x in (answer.basis, "simulated" if mine else "") if x)
            shown = [f"{mine[s]:.6g}" if s in mine else "" for s in steps]
            writer.writerow([*cells, basis, answer.assumed, answer.reason, *shown])


def _ours(name: str) -> bool:
    return name.startswith(("predicted_", "simulated_")) or name in EXTRA


def _cells(found: Prediction | None) -> list[str]:
    if found is None:
        return ["", "", ""]
    return [f"{value:.6g}" for value in (found.value, found.low, found.high)]


__all__ = ["Answer", "predict_file", "predict_row", "predict_table", "write_table"]
