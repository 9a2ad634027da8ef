"""Published device times against simulated ones, row by row.

``python -m calibration.run`` prints the table; with ``--write`` it writes reproductions.json and
RESULTS.md as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from calibration.pages import results, table
from calibration.reproduce import DATA, HERE, rows, simulate


def main() -> int:
    """Print the table; exit 0 whatever the errors, they are the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", action="store_true", help="write the data and the pages")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    outcomes = []
    for row in rows():
        if options.only in row["name"]:
            print(f"  {row['name']}", file=sys.stderr, flush=True)
            outcomes.append(simulate(row, sensitivity=options.write))
    text = json.dumps([asdict(o) for o in outcomes], indent=1)
    if options.write:
        DATA.write_text(text + "\n", encoding="utf-8")
        (HERE / "RESULTS.md").write_text(results(outcomes), encoding="utf-8")
    print(text if options.json else table(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
