"""Runs the public NKI tutorial kernels, unmodified, from a checkout of aws-neuron/nki-samples.

    python conformance/run.py --samples PATH [--only NAME] [--target trn2] [--json]

Exit code 0 when every kernel agrees with its reference. Memory and hazards are judged by the
analysis of each recorded program and listed beside the result, not counted as failures: a kernel
that needs more PSUM than there is (AWS's compiler would spill) still computes the right numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cases import CASES, TUTORIALS, Case

from tenzing.errors import TenzingError
from tenzing.machine import Analysis, analyse
from tenzing.nki import Session
from tenzing.units import PS_PER_US


@dataclass
class Outcome:
    """One case: what came out and what it cost."""

    name: str
    passed: bool
    error: float
    bound: float
    instructions: int = 0
    simulated_us: list[float] = field(default_factory=list)
    findings: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""


def run_case(case: Case, checkout: Path, target: str) -> Outcome:
    """Run one case; errors become part of the outcome."""
    session = Session(target)
    started = time.perf_counter()
    try:
        error, message = case.run(checkout, session), ""
    except (TenzingError, AssertionError) as problem:
        error = float("inf")
        message = problem.render() if isinstance(problem, TenzingError) else str(problem)
    outcome = Outcome(case.name, error <= case.bound, error, case.bound, message=message)
    outcome.seconds = round(time.perf_counter() - started, 3)
    programs = [p for launch in session.launches for p in launch.programs]
    outcome.instructions = sum(len(p) for p in programs)
    found: Counter[str] = Counter()
    for launch in session.launches:
        analyses: list[Analysis] = [analyse(p) for p in launch.programs]
        outcome.simulated_us.append(round(max(a.total_ps for a in analyses) / PS_PER_US, 2))
        found.update(f.rule for a in analyses for f in a.findings)
    outcome.findings = dict(found)
    return outcome


def show(outcome: Outcome) -> None:
    """One line, and the error message when there is one."""
    verdict = "ok  " if outcome.passed else "FAIL"
    times = ", ".join(f"{t:.1f}" for t in outcome.simulated_us)
    notes = " ".join(f"{rule}:{count}" for rule, count in outcome.findings.items())
    print(f"{verdict} {outcome.name:36s} error {outcome.error:8.1e} (<= {outcome.bound:.0e})"
          f"  {outcome.instructions:6d} instructions  {times} us  {notes}")  # fmt: skip
    if outcome.message:
        print("     " + outcome.message.replace("\n", "\n     "))


def main() -> int:
    """Parse arguments, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True, help="checkout of nki-samples")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--target", default="trn2")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    checkout = options.samples.resolve()
    tutorials = checkout / TUTORIALS
    chosen = [c for c in CASES if options.only in c.name]
    if not tutorials.is_dir() or not chosen:
        what = f"{tutorials} is not a folder" if chosen else f"no case is named like {options.only}"
        print(f"usage: {what}", file=sys.stderr)
        return 2
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:  # some samples write files where they run
        os.chdir(scratch)
        for case in chosen:
            outcomes.append(run_case(case, checkout, options.target))
            if not options.json:
                show(outcomes[-1])
        os.chdir(checkout)
    if options.json:
        print(json.dumps([asdict(o) for o in outcomes], indent=2))
    failed = sum(not o.passed for o in outcomes)
    if not options.json:
        print(f"{len(outcomes) - failed} of {len(outcomes)} pass on {options.target}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
