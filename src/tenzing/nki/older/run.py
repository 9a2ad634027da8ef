"""Running kernels of the older surface: ``jit``, ``baremetal``, ``benchmark``, ``profile``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenzing.machine import analyse
from tenzing.nki.kernel import Kernel, Launch
from tenzing.units import PS_PER_US

__tenzing_internal__ = True


def jit(function: Any = None, **_: Any) -> Any:
    """Make a kernel; the grid counts programs. Compiler options have no effect."""
    if function is None:
        return jit
    return function if isinstance(function, Kernel) else Kernel(function, spmd=True)


def simulate_kernel(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a kernel with NumPy arrays."""
    return jit(kernel)(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Latency:
    """Simulated latency of a kernel; every run takes the same time, so all percentiles agree."""

    total_ps: int

    def get_latency_percentile(self, percentile: float) -> float:
        """Microseconds."""
        if not 0 <= percentile <= 100:  # noqa: PLR2004 - a percentage
            raise ValueError(f"percentile {percentile} is not between 0 and 100")
        return self.total_ps / PS_PER_US


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What ``benchmark`` leaves: the latency on the core."""

    nc_latency: Latency


class MeasuredKernel:
    """A kernel that also keeps, and writes to files, what was simulated.

    ``save_neff_name`` gets the recorded program and ``save_trace_name`` the simulated latency, both
    as text: scripts that move the files keep working, tools for the vendor's formats do not.
    """

    def __init__(self, kernel: Kernel, options: dict[str, Any]) -> None:
        self.kernel = kernel
        self.options = options
        self.benchmark_result: BenchmarkResult | None = None

    @property
    def __name__(self) -> str:
        return self.kernel.function.__name__

    def __getitem__(self, grid: Any) -> MeasuredKernel:
        return MeasuredKernel(self.kernel[grid], self.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        launch = self.kernel.launch(*args, **kwargs)
        slowest = max(analyse(program).total_ps for program in launch.programs)
        self.benchmark_result = BenchmarkResult(Latency(slowest))
        self._save(launch, slowest)
        return launch.outputs

    def _save(self, launch: Launch, total_ps: int) -> None:
        folder = Path(self.options.get("working_directory") or ".")
        texts = {
            "save_neff_name": "\n".join(p.text() for p in launch.programs),
            "save_trace_name": f"{launch.name}: {total_ps / PS_PER_US} us simulated",
        }
        for option, text in texts.items():
            name = self.options.get(option)
            if name:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(f"tenzing, simulated\n{text}\n", encoding="utf-8")


def _measuring(kernel: Any, options: dict[str, Any]) -> Any:
    if kernel is None:
        return lambda k: MeasuredKernel(jit(k), options)
    return MeasuredKernel(jit(kernel), options)


def benchmark(kernel: Any = None, **options: Any) -> Any:
    """Run and time a kernel; ``warmup`` and ``iters`` have no effect: time is simulated once."""
    return _measuring(kernel, options)


def profile(kernel: Any = None, **options: Any) -> Any:
    """Run a kernel and write its record into ``working_directory``."""
    return _measuring(kernel, options)


def baremetal(kernel: Any = None, **options: Any) -> Any:
    """Run a kernel without a framework; saves files when names are given."""
    if not any(options.get(n) for n in ("save_neff_name", "save_trace_name")):
        return jit(kernel) if kernel is not None else jit
    return _measuring(kernel, options)


__all__ = [
    "BenchmarkResult", "Latency", "MeasuredKernel", "baremetal", "benchmark", "jit", "profile",
    "simulate_kernel",
]  # fmt: skip
