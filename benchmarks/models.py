"""Seconds to time large decoders from their shapes, cold and warm, each in a fresh process.

python benchmarks/models.py [--json] [--only WORD]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

CASES = (  # name, mesh, program, tokens or positions
    ("llama-3.1-8b", {}, "decode", 2048),
    ("llama-3.1-8b", {}, "prefill", 2048),
    ("llama-3.1-405b", {"tp": 64}, "decode", 2048),
    ("llama-3.1-405b", {"tp": 64}, "prefill", 2048),
    ("mixtral-8x22b", {"tp": 6, "ep": 8}, "decode", 2048),
    ("qwen3-235b-a22b", {"tp": 4, "ep": 16}, "decode", 2048),
)


def one(name: str, mesh: dict[str, int], program: str, size: int) -> dict[str, Any]:
    """Time one program here: seconds with imports, of which on a core, instructions, memory."""
    began = time.perf_counter()
    from tenzing.compiler.models import decoder_times  # noqa: PLC0415 - its time counts

    asked = {"buckets": [size]} if program == "prefill" else {"lengths": [size]}
    found = decoder_times(name, mesh=mesh, **asked)
    result = (found.prefill or found.decode)[size]
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time(), 2),
        "instructions": result.instructions,
        "latency_us": result.latency_us,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def fresh(case: tuple[str, dict[str, int], str, int], cache: str) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    environment = {**os.environ, "TENZING_CACHE": cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Every case twice, with an empty cache and with a full one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(one(*json.loads(given.case))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for case in CASES:
            label = f"{case[0]} {case[1]} {case[2]} {case[3]}"
            if given.only in label:
                cold, warm = fresh(case, cache), fresh(case, cache)
                warmth = {f"warm_{key}": warm[key] for key in ("seconds", "cpu_seconds")}
                rows.append({"case": label, **cold, **warmth})
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
