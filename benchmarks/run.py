"""Speed of the simulator: medians, and ratios against a named baseline in the same run.

python benchmarks/run.py [--json] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "calibration"))

import kernels
from tenzing.isa import numerics
from tenzing.machine import Options, analyse_dependencies, place, schedule
from tenzing.nki import Spec, session

M, K, N = 4096, 2048, 4096
TIME_ONLY = Options(values=False)


def median_seconds(action: Callable[[], Any], rounds: int) -> float:
    """Median CPU seconds of this thread over ``rounds`` calls, after one warm-up."""
    action()
    taken = []
    for _ in range(rounds):
        start = time.thread_time()
        action()
        taken.append(time.thread_time() - start)
    return statistics.median(taken)


def record(kernel: Any) -> Any:
    """A float32 matmul kernel, recorded for time only."""
    f32 = np.dtype(np.float32)
    with session("trn2", TIME_ONLY):
        return kernel.launch(Spec((K, M), f32), Spec((K, N), f32)).programs[0]


def pipeline(kernel: Any, rounds: int) -> dict[str, float]:
    """Instructions per second of recording, placing, dependencies and scheduling."""
    program = record(kernel)
    count = len(program)
    placement = place(program)
    dependencies = analyse_dependencies(program, placement)
    stages: dict[str, Callable[[], Any]] = {
        "record_per_s": lambda: record(kernel),
        "place_per_s": lambda: place(program),
        "dependencies_per_s": lambda: analyse_dependencies(program, placement),
        "schedule_per_s": lambda: schedule(program, dependencies),
    }
    rates = {name: count / median_seconds(stage, rounds) for name, stage in stages.items()}
    return {"instructions": count, **rates}


def execution(rounds: int) -> dict[str, float]:
    """A bf16 matmul executed tile by tile, against one NumPy float32 product."""
    rng = np.random.default_rng(0)
    bf16 = numerics.dtype("bfloat16")
    a = rng.standard_normal((512, 512), np.float32).astype(bf16)
    b = rng.standard_normal((512, 1024), np.float32).astype(bf16)

    def ours() -> None:
        with session("trn2"):
            kernels.matmul_hoisted_loads(a, b)

    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    mine = median_seconds(ours, rounds)
    base = median_seconds(lambda: a32.T @ b32, rounds)
    return {"matmul_bf16_512x512x1024_s": mine, "ratio_to_numpy_fp32": mine / base}


def imports(rounds: int) -> dict[str, float]:
    """Wall seconds of ``import tenzing.nki`` against ``import numpy``."""

    def take(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    mine, base = [], []
    for _ in range(rounds):
        base.append(take("import numpy"))
        mine.append(take("import tenzing.nki"))
    return {
        "import_tenzing_nki_s": statistics.median(mine),
        "ratio_to_import_numpy": statistics.median(mine) / statistics.median(base),
    }


def main() -> int:
    """Run every benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = {
        "matmul, blocked (products dominate)": pipeline(kernels.matmul_blocked_mnk, options.rounds),
        "matmul, hoisted loads (half are DMA)": pipeline(
            kernels.matmul_hoisted_loads, options.rounds
        ),
        "execution": execution(options.rounds),
        "imports": imports(options.rounds),
    }
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for group, values in results.items():
            print(group)
            for name, value in values.items():
                print(f"  {name:32s} {value:14,.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
