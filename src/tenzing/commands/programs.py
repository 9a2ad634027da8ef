"""Programs: compile, load and save models; buckets for traffic of many sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tenzing import compiler, report
from tenzing.commands.opening import open_model
from tenzing.errors import UsageError

Progress = Callable[[str], None]


@functools.wraps(compiler.compile)
def compile(
    model: Any,
    example_inputs: Any = (),
    example_keywords: Mapping[str, Any] | None = None,
    **options: Any,
) -> compiler.Compiled:
    if isinstance(model, str | Path) and compiler.is_saved(model):
        raise UsageError(f"{model} is a compiled program already", next_step="tenzing.load runs it")
    compiled = compiler.compile(model, example_inputs, example_keywords, **options)
    compiled.reporter = _report
    return compiled


@functools.wraps(compiler.compile_buckets)
def compile_buckets(model: Any, make_example: Any = None, **options: Any) -> compiler.Bucketed:
    found = compiler.compile_buckets(model, make_example, **options)
    for program in found.programs.values():
        program.reporter = _report
    return found


@functools.wraps(compiler.load)
def load(path: str | Path, **options: Any) -> compiler.Loaded:
    loaded = compiler.load(path, **options)
    loaded.reporter = _report
    return loaded


def _report(compiled: compiler.Compiled) -> str:
    return f"{compiled.graph.name} on {compiled.target}\n{report.run_summary(compiled.analysis)}"


def compile_path(path: str, sizes: Mapping[str, int], **options: Any) -> compiler.Compiled:
    """The model that a path or name stands for, compiled but not run; a saved program, loaded.

    Options of None are left to the saved program, or to the defaults.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if compiler.is_saved(path):
        return _load_path(path, sizes, given)
    model, inputs = open_model(path, sizes)
    return compile(model, inputs, sizes, **given)


def _load_path(path: str, sizes: Mapping[str, int], given: dict[str, Any]) -> compiler.Loaded:
    """A saved program; UsageError for options that were settled when it was saved."""
    settled = {name: given.pop(name) for name in ("autocast", "autocast_dtype") if name in given}
    loaded = load(path, **given)
    kept = {name: getattr(loaded, name) for name in settled}
    if sizes or kept != settled:
        asked = [f"{name}={value}" for name, value in (*sizes.items(), *settled.items())]
        raise UsageError(
            f"{path} is a saved program: its shapes and modes are settled", got=", ".join(asked),
            next_step="compile the model again with these",
        )  # fmt: skip
    return loaded


def compile_file(
    path: str, out: str | Path, *, sizes: Mapping[str, int] | None = None,
    weights: str = "inside", example: bool = True, progress: Progress = lambda _: None,
    **options: Any,
) -> compiler.SavedFile:  # fmt: skip
    """Compile the model that a path or name stands for and save it; what the file holds."""
    if Path(out).is_dir():
        raise UsageError(f"{out} is a folder", next_step=f"give a file, such as {out}/model.tz")
    progress(f"compiling {path}")
    compiled = compile_path(path, sizes or {}, **options)
    progress("recording and timing the program")
    compiler.save(compiled, out, weights=weights, example=example)
    return compiler.inspect(out)


class Buckets(NamedTuple):
    """Traffic, advised buckets, what given ones waste, and what work was counted in."""

    traffic: compiler.Traffic
    advice: compiler.Advice
    given: compiler.Waste | None
    unit: str


def buckets(
    path: str | Path, waste: float, *, multiple: int = 1, most: int = 0,
    given: Sequence[compiler.Size] = (), model: str = "", target: str | None = None,
    autocast: str | None = None, progress: Progress = lambda _: None,
) -> Buckets:  # fmt: skip
    """The fewest buckets for the traffic in a CSV file, with at most a share of padding.

    Work is counted in tokens, or with a ``model`` in its simulated time, which is computed at a few
    sizes and interpolated between them.
    """
    traffic = compiler.read_traffic(path)
    cost: compiler.Cost = compiler.tokens
    if model:

        def time_us(size: compiler.Size) -> float:
            sizes = dict(zip(traffic.dims, size, strict=True))
            progress(f"timing {model} at " + ", ".join(f"{d} {n}" for d, n in sizes.items()))
            return compile_path(model, sizes, target=target, autocast=autocast).latency_us

        cost = compiler.sampled_cost(time_us, traffic)
    own = compiler.waste_of(traffic, given, cost) if given else None
    advice = compiler.advise(traffic, waste, cost=cost, multiple=multiple, most=most)
    return Buckets(traffic, advice, own, "us" if model else "tokens")


__all__ = ["Buckets", "Progress", "buckets", "compile", "compile_buckets", "compile_file",
           "compile_path", "load"]  # fmt: skip
