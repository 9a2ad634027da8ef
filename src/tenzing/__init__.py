"""tenzing: the open, hardware-free stack for AWS Trainium and Inferentia.

    import tenzing
    compiled = tenzing.compile(module, example_inputs, target="trn2", autocast="matmult")
    outputs = compiled(*inputs)          # every instruction, on the simulated chip
    compiled.latency_us                  # one execution on the device

The functions below are loaded on first use, so that ``import tenzing`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenzing.commands import (
        check,
        compare,
        compile,
        compile_buckets,
        load,
        measure,
        profile,
        run,
        run_on,
    )
    from tenzing.compiler import compile_training, inspect, save
    from tenzing.facts import chip, instance

__version__ = "0.1.0"

_HOME = {
    "compile": "tenzing.commands",
    "compile_buckets": "tenzing.commands",
    "compile_training": "tenzing.compiler",
    "load": "tenzing.commands",
    "save": "tenzing.compiler",
    "inspect": "tenzing.compiler",
    "run": "tenzing.commands",
    "check": "tenzing.commands",
    "compare": "tenzing.commands",
    "profile": "tenzing.commands",
    "run_on": "tenzing.commands",
    "measure": "tenzing.commands",
    "chip": "tenzing.facts",
    "instance": "tenzing.facts",
}

# What belongs to one framework is a module of its own: tenzing.torch.custom_kernel.
_FRAMEWORKS = ("torch", "jax")


def __getattr__(name: str) -> Any:
    if name in _FRAMEWORKS:
        return import_module(f"tenzing.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tenzing' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_FRAMEWORKS])


__all__ = [
    "__version__",
    "check",
    "chip",
    "compare",
    "compile",
    "compile_buckets",
    "compile_training",
    "inspect",
    "instance",
    "load",
    "measure",
    "profile",
    "run",
    "run_on",
    "save",
]
