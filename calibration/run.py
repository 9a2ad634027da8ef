"""Published device times against simulated ones, row by row: ``python calibration/run.py``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import kernels  # noqa: E402

from tenzing.machine import Options, analyse  # noqa: E402
from tenzing.nki import Spec, session  # noqa: E402
from tenzing.units import PS_PER_US  # noqa: E402


@dataclass(frozen=True)
class Outcome:
    """One row: published and simulated microseconds, relative error, engine use."""

    name: str
    target: str
    published_us: float
    simulated_us: float
    error: float
    instructions: int
    engine_published: float | None
    engine_simulated: float | None
    fits: bool
    note: str
    source: str


def simulate(row: dict[str, Any]) -> Outcome:
    """Record the row's kernel for time only and analyse it."""
    kernel = getattr(kernels, row["kernel"])
    shapes = {k: Spec(tuple(v), np.dtype(np.float32)) for k, v in row["shapes"].items()}
    with session(row["target"], Options(values=False)):
        launch = kernel.launch(**shapes, **row.get("arguments", {}))
    result = analyse(launch.programs[0])
    time_ps = result.latency_ps if row.get("launch") else result.total_ps
    engine, published = None, None
    for key, track in (("tensor_active", "Tensor"), ("vector_active", "Vector")):
        if key in row:
            engine, published = result.utilisation[track], row[key]
    simulated = time_ps / PS_PER_US
    return Outcome(
        row["name"], row["target"], row["time_us"], simulated, simulated / row["time_us"] - 1,
        len(launch.programs[0]), published, engine,
        not any(f.rule == "capacity" for f in result.findings), row.get("note", ""), row["source"],
    )


def table(outcomes: list[Outcome]) -> str:
    """Aligned text, one line per row, and the summary."""
    lines = [f"{'kernel':42s} {'chip':5s} {'published':>11s} {'simulated':>11s} {'error':>7s}  "
             f"{'engine pub/sim':>15s}  note"]
    for o in outcomes:
        use = ""
        if o.engine_published is not None and o.engine_simulated is not None:
            use = f"{o.engine_published:.1%}/{o.engine_simulated:.1%}"
        fits = "" if o.fits else "does not fit without spilling; "
        lines.append(f"{o.name:42s} {o.target:5s} {o.published_us:9.1f}us {o.simulated_us:9.1f}us "
                     f"{o.error:+7.1%}  {use:>15s}  {fits}{o.note}")
    errors = sorted(abs(math.log(1 + o.error)) for o in outcomes)
    lines.append(f"median |ln(simulated/published)| {errors[len(errors) // 2]:.3f}, "
                 f"worst {errors[-1]:.3f}, rows {len(outcomes)}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; exit 0 whatever the errors, they are the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    with (HERE / "published.toml").open("rb") as stream:
        rows = tomllib.load(stream)["row"]
    outcomes = []
    for row in rows:
        if options.only in row["name"]:
            print(f"  {row['name']}", file=sys.stderr, flush=True)
            outcomes.append(simulate(row))
    print(json.dumps([asdict(o) for o in outcomes], indent=2) if options.json else table(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
