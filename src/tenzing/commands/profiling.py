"""Profile a script or a model: where its time goes, and what of a model its user can change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tenzing.commands.execution import TARGET, run
from tenzing.commands.opening import is_script, refuse_unused, simulated
from tenzing.commands.programs import Progress, compile_path
from tenzing.commands.results import KernelResult, ModelChange, ModelProfile, RunResult
from tenzing.compiler import Compiled, Loaded
from tenzing.compiler.attribution import NodeTime, attribute
from tenzing.compiler.ops import OPS
from tenzing.compiler.timing import GraphTime
from tenzing.errors import CapacityError, UsageError

MOST: Final = 3_000_000  # instructions of a model that are recorded for a profile
WORTH: Final = 0.02  # share of the time that a change must be about to be told
BATCH: Final = "batch"
Sizes = Mapping[str, int]


def profile(
    path: str,
    *,
    target: str | None = None,
    argv: Sequence[str] = (),
    autocast: str | None = None,
    sizes: Sizes | None = None,
    progress: Progress = lambda _: None,
) -> RunResult:
    """Profile what :func:`run` runs; a model is recorded from its shapes and needs no weights.

    A model's result has ``model``: its operations by time, and changes that were tried. Raises
    UsageError for a model of more than three million instructions, and what :func:`run` raises.
    """
    if is_script(path):
        return run(
            path, target=target, argv=argv, autocast=autocast, sizes=sizes, progress=progress
        )
    refuse_unused(path, argv, {})
    if target is not None:
        simulated(target)
    progress(f"compiling {path} for {target or TARGET}")
    compiled = compile_path(path, sizes or {}, target=target, autocast=autocast)
    count = compiled.time.instructions
    if count > MOST:
        raise UsageError(
            f"{path} has {count:,} instructions, too many to look at one by one",
            allowed=f"{MOST:,}", next_step="profile one of its layers, or a smaller length",
        )  # fmt: skip
    progress(f"recording {count:,} instructions")
    analysis, nodes, owner = attribute(compiled.graph, compiled.target)
    progress("trying what can be changed")
    changes = [*_narrower(compiled, path, sizes or {}), *_larger_batch(compiled, path, sizes or {}),
               *_told(nodes, analysis.total_ps)]  # fmt: skip
    name = compiled.graph.name
    told = ModelProfile(nodes, changes, owner)
    result = KernelResult(name, compiled.target, (analysis,), model=told)
    return RunResult(path, compiled.target, [result])


def _narrower(compiled: Compiled, path: str, sizes: Sizes) -> list[ModelChange]:
    """Autocast to bf16, tried where the model has another mode and is no saved program."""
    if isinstance(compiled, Loaded) or compiled.autocast != "none":
        return []
    before, found = compiled.time.total_ps, []
    for mode, what in (("matmult", "multiply matrices in bf16"), ("all", "compute all in bf16")):
        after = _timed(path, sizes, target=compiled.target, autocast=mode)
        if after is not None and 1 - after.total_ps / before >= WORTH:
            found.append(ModelChange("dtype", f"--autocast {mode}: {what}", before, after.total_ps))
    return found


def _larger_batch(compiled: Compiled, path: str, sizes: Sizes) -> list[ModelChange]:
    """Twice the batch, tried where the command chose it; the time is that of half of the work."""
    if BATCH not in sizes:
        return []
    before = compiled.time.total_ps
    twice = {**sizes, BATCH: 2 * sizes[BATCH]}
    after = _timed(path, twice, target=compiled.target, autocast=compiled.autocast)
    if after is None or 1 - after.total_ps / 2 / before < WORTH:
        return []
    what = f"--size batch={twice[BATCH]}: time for each of the batch as at {sizes[BATCH]}"
    return [ModelChange("batch", what, before, after.total_ps // 2)]


def _timed(path: str, sizes: Sizes, **options: str) -> GraphTime | None:
    """The time of a model with other options; None where it does not fit the chip."""
    try:
        return compile_path(path, sizes, **options).time
    except CapacityError:
        return None


def _told(nodes: Sequence[NodeTime], total_ps: int) -> list[ModelChange]:
    """What was not tried, with the time that it is about."""
    found = []
    for kind, what, chosen in (
        ("batch", "a larger batch reads the same weights: time in operations that wait for weights",
         [n for n in nodes if n.waits_for_weights]),
        ("layout", "a layout that needs no rearranging: time in operations that only move data",
         [n for n in nodes if n.moves_only]),
    ):  # fmt: skip
        about = sum(n.critical_ps for n in chosen)
        if about >= WORTH * total_ps:
            found.append(ModelChange(kind, what, about, None))
    found += [
        ModelChange("kernel", f"kernels={{{name!r}: yours}} replaces {number} of them", about, None)
        for name, (number, about) in _replaceable(nodes).items() if about >= WORTH * total_ps
    ]  # fmt: skip
    return found


def _replaceable(nodes: Sequence[NodeTime]) -> dict[str, tuple[int, int]]:
    """Operations that a kernel of the user's can replace: how many, and their time."""
    found: dict[str, tuple[int, int]] = {}
    for node in nodes:
        name = node.name if node.name in OPS else node.operation
        if name in OPS and node.instructions and not node.moves_only and name != "fused":
            number, about = found.get(name, (0, 0))
            found[name] = number + 1, about + node.critical_ps
    return found


__all__ = ["profile"]
