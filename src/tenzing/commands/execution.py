"""Run, check and compare scripts and models on simulated chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from tenzing import compiler
from tenzing.commands.opening import is_script, refuse_unused, simulated, split_path
from tenzing.commands.programs import Progress, compile_path
from tenzing.commands.results import KernelResult, RunResult, TimeOnly
from tenzing.errors import TenzingError, UsageError
from tenzing.isa import Program
from tenzing.machine import Options, analyse
from tenzing.nki import Launch, run_script, session

TARGET: Final = "trn2"


def run(
    path: str,
    *,
    target: str | None = None,
    argv: Sequence[str] = (),
    autocast: str | None = None,
    autocast_dtype: str | None = None,
    numerics: str | None = None,
    compared: str = "",
    values: bool = True,
    sizes: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
) -> RunResult:
    """Run an NKI script (``kernel.py``), or compile and run a model.

    A model is ``model.py:net``, a file or folder that a frontend reads, a saved program, or the
    name of a known model, which has a time but no values; ``sizes`` (batch, length, ...) fix what
    it leaves open. Options that are left out are those of a saved program, else ``trn2``, no
    autocast and ``instruction``.

    A model is checked against its framework on its example inputs; ``compared`` of "outputs" or
    "operations" says tensor by tensor how close it comes. Raises TenzingError with the user's
    source line when something is refused.
    """
    if target is not None:
        simulated(target)
    refuse_unused(path, argv, {
        "size": sizes, "autocast": autocast, "autocast_dtype": autocast_dtype,
        "numerics": numerics, "compare or per_op": compared,
    })  # fmt: skip
    if not is_script(path):
        options = {
            "target": target, "autocast": autocast, "autocast_dtype": autocast_dtype,
            "numerics": numerics,
        }  # fmt: skip
        return _run_model(path, sizes or {}, options, compared, progress)
    file, _ = split_path(path)
    target = target or TARGET
    result = RunResult(path, target)

    def launched(launch: Launch) -> None:
        progress(f"{launch.name}: recorded {sum(map(len, launch.programs))} instructions")
        result.kernels.append(analyse_launch(launch, target))

    with session(target, Options(values=values), on_launch=launched) as current:
        code = run_script(str(file), list(argv), current)
    if code:
        raise UsageError(f"{file.name} ended with exit code {code}",
                         next_step="see what the script printed")  # fmt: skip
    return result


def analyse_launch(launch: Launch, target: str) -> KernelResult:
    """Time every core of a launch."""
    where = str(launch.loc) if launch.loc else ""
    return KernelResult(launch.name, target, tuple(map(analyse, launch.programs)), where)


def analyse_program(name: str, program: Program, items: int = 1) -> KernelResult:
    """Time a program on its own chip."""
    return KernelResult(name, program.chip.name, (analyse(program),), items=items)


def check(
    path: str, *, target: str | None = None, argv: Sequence[str] = (),
    autocast: str | None = None, sizes: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
) -> RunResult:  # fmt: skip
    """Legality of every kernel a script launches, or of a model: findings instead of results."""
    return run(path, target=target, argv=argv, autocast=autocast, sizes=sizes, progress=progress)


def run_on(
    path: str,
    *,
    targets: Sequence[str],
    argv: Sequence[str] = (),
    autocast: str | None = None,
    sizes: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
) -> list[RunResult | TenzingError]:
    """The same script or model on several chips; an error stands for a chip that refuses it."""
    results: list[RunResult | TenzingError] = []
    for target in targets:
        simulated(target)  # before any of them takes its time
    for target in targets:
        progress(f"running on {target}")
        try:
            results.append(
                run(path, target=target, argv=argv, autocast=autocast, sizes=sizes,
                    progress=progress)
            )  # fmt: skip
        except UsageError:
            raise
        except TenzingError as error:
            if error.rule == "facts":
                raise
            results.append(error)
    return results


def _run_model(
    path: str, sizes: Mapping[str, int], options: Mapping[str, Any], compared: str,
    progress: Progress,
) -> RunResult:  # fmt: skip
    progress(f"compiling {path} for {options['target'] or TARGET}")
    compiled = compile_path(path, sizes, **options)
    target = compiled.target
    result = RunResult(path, target)
    name = compiled.graph.name
    if not compiled.runnable:
        progress("without weights there is time, but no result")
        time = TimeOnly(**asdict(compiled.time))
        result.kernels.append(KernelResult(name, target, (time,)))
        return result
    inputs, keywords = _example(compiled, path)
    if compared:
        progress("comparing with the framework")
        result.comparison = compiled.compare(*inputs, per_op=compared == "operations", **keywords)
    progress("running on the simulated chip")
    result.outputs = compiled(*inputs, **keywords)
    result.kernels.append(analyse_program(name, compiled.program))
    with suppress(compiler.NoFramework):
        result.agreement = compiled.agreement(result.outputs, *inputs, **keywords)
    return result


def _example(compiled: compiler.Compiled, path: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    inputs, keywords = compiled.example
    if compiled.graph.inputs and not inputs and not keywords:
        raise UsageError(f"{path} holds no example inputs to run",
                         next_step="call it from Python: tenzing.load(path)(...)")  # fmt: skip
    return inputs, keywords


__all__ = ["analyse_launch", "analyse_program", "check", "run", "run_on"]
