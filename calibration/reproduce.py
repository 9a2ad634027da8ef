"""One published row: its kernel recorded for time only, simulated, and set beside the counters."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from calibration.sensitivity import LARGEST, sensitivities

from calibration import baselines, kernels, micro, networks, searched, tuned
from tenzing.machine import Analysis, Options, analyse
from tenzing.nki import Spec, session
from tenzing.units import PS_PER_US

HERE = Path(__file__).parent
DATA = HERE / "reproductions.json"
MODULES = (kernels, tuned, baselines, searched, micro, networks)
SHARES = ("Tensor", "Vector", "Scalar", "DMA", "mfu", "mbu")


@dataclass(frozen=True)
class Outcome:
    """One row: microseconds published and simulated, counters, what the time rests on.

    ``active`` is the share of the time in which an engine has an instruction under way, from
    dispatch to result, as a profiler shows it; ``busy`` the share in which it can take no other;
    ``use`` the same of the program alone.
    """

    name: str
    row_id: str
    target: str
    published_us: float
    simulated_us: float
    instructions: int
    limit: str
    published: dict[str, float]
    active: dict[str, float]
    busy: dict[str, float]
    use: dict[str, float]
    mfu: float
    mbu: float
    hbm_read_bytes: int
    hbm_write_bytes: int
    fits: bool
    fit: bool
    assumed: list[str]
    sensitivity: dict[str, float] | None
    note: str
    source: str

    @property
    def ln_ratio(self) -> float:
        """ln(simulated / published)."""
        return math.log(self.simulated_us / self.published_us)

    @property
    def error(self) -> float:
        """Relative error."""
        return self.simulated_us / self.published_us - 1

    def simulated(self, counter: str) -> float:
        """Our value of a published counter."""
        if counter in self.active:
            return self.active[counter]
        return float(getattr(self, counter))


def rows() -> list[dict[str, Any]]:
    """The published rows."""
    with (HERE / "published.toml").open("rb") as stream:
        return list(tomllib.load(stream)["row"])


def record(row: Mapping[str, Any]) -> Analysis:
    """The analysis of the row's kernel on the row's chip."""
    kernel = next(getattr(m, row["kernel"]) for m in MODULES if hasattr(m, row["kernel"]))
    dtypes = row.get("dtypes", {})
    shapes = {
        name: Spec(tuple(shape), _dtype(dtypes.get(name, row.get("dtype", "float32"))))
        for name, shape in row["shapes"].items()
    }
    with session(row["target"], Options(values=False)):
        launch = kernel.launch(**shapes, **row.get("arguments", {}))
    return analyse(launch.programs[0])


def _dtype(name: str) -> Any:
    return np.dtype(getattr(ml_dtypes, name, None) or getattr(np, name))


def comparable_us(row: Mapping[str, Any], total_ps: float, launch_ps: float) -> float:
    """A program's time as the row publishes it: per repetition, with what the figure includes."""
    time_ps = total_ps + (launch_ps if row.get("launch") else 0)
    return float(time_ps / PS_PER_US / row.get("repeat", 1) + row.get("includes_us", 0.0))


def simulate(row: Mapping[str, Any], sensitivity: bool = False) -> Outcome:
    """Record the row's kernel for time only and analyse it; ``sensitivity`` to facts if asked."""
    return outcome(row, record(row), sensitivity)


def load() -> list[Outcome]:
    """The recorded outcomes."""
    return [Outcome(**o) for o in json.loads(DATA.read_text(encoding="utf-8"))]


def outcome(row: Mapping[str, Any], result: Analysis, measured: bool = False) -> Outcome:
    """What the row and its analysis say."""
    simulated = comparable_us(row, result.total_ps, result.launch_ps)
    slopes = sensitivities(result) if measured and len(result.program) <= LARGEST else None
    # a published share is of the whole figure, with whatever that includes
    scale = result.total_ps / PS_PER_US / row.get("repeat", 1) / simulated
    return Outcome(
        name=row["name"], row_id=row.get("row_id", ""), target=row["target"],
        published_us=row["time_us"], simulated_us=simulated, instructions=len(result.program),
        limit=result.limit, published=dict(row.get("counters", {})),
        active={k: v * scale for k, v in result.active.items()},
        busy={k: v * scale for k, v in result.utilisation.items()},
        use=dict(result.utilisation), mfu=result.mfu * scale, mbu=result.mbu * scale,
        hbm_read_bytes=result.hbm_read_bytes, hbm_write_bytes=result.hbm_write_bytes,
        fits=not any(f.rule == "capacity" for f in result.findings), fit=row.get("fit", False),
        assumed=[path for path, _ in result.chip.assumed_used()], sensitivity=slopes,
        note=row.get("note", ""), source=row["source"],
    )  # fmt: skip
