"""Commands about published measurements: predict and score."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tenzing import fleet, report
from tenzing.cli.arguments import EXIT_OK, command, new_file, progress
from tenzing.errors import UsageError


def add_commands(sub: Any) -> None:
    """Add the commands of this family to a parser."""
    predict = command(
        sub, "predict", "predict every metric of the rows of a CSV, with intervals of 80 percent",
        "tenzing predict rows.csv -o predicted.csv", _predict,
    )  # fmt: skip
    predict.add_argument("rows", help="CSV in the schema of published measurements")
    predict.add_argument("-o", "--out", type=new_file, required=True, metavar="FILE",
                         help="CSV to write")  # fmt: skip
    predict.add_argument("--simulate", action="store_true",
                         help="add times of our own programs (slow at first)")  # fmt: skip
    score = command(
        sub, "score", "errors of predictions against the published values beside them",
        "tenzing score predicted.csv --json", _score,
    )  # fmt: skip
    score.add_argument("predicted", nargs="+", help="CSV that predict wrote")


def _predict(options: argparse.Namespace) -> int:
    if Path(options.out).resolve() == Path(options.rows).resolve():
        raise UsageError("the output would overwrite the rows", got=options.out,
                         next_step="give another file with -o")  # fmt: skip
    rows, predicted = fleet.predict_file(options.rows, options.out, progress(options),
                                        simulate=options.simulate)  # fmt: skip
    if options.json:
        told = {"rows": rows, "predicted": predicted, "out": options.out,
                "assumed_facts": report.leaning_json()}  # fmt: skip
        print(json.dumps(told, indent=2))
    else:
        print(f"{options.out}: {predicted} of {rows} rows predicted")
        print(report.leaning_text())
    return EXIT_OK


def _score(options: argparse.Namespace) -> int:
    found = fleet.score_files(options.predicted)
    print(json.dumps(found.as_json(), indent=2) if options.json else report.score_text(found))
    return EXIT_OK


__all__ = ["add_commands"]
