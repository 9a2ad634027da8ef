"""What the command line does, as functions: run, check, profile, compare.

Each returns data; printing belongs to :mod:`tenzing.cli`, words and pictures to
:mod:`tenzing.report`.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from types import FunctionType
from typing import Any, Final, NamedTuple

import numpy as np

from tenzing import compiler, facts, report
from tenzing.compiler.timing import GraphTime
from tenzing.errors import Finding, Loc, TenzingError, UsageError
from tenzing.fleet import Bill, bill_for
from tenzing.isa import Program
from tenzing.isa.operand import Array, Space
from tenzing.machine import Advice, Analysis, Link, Options, analyse
from tenzing.nki import Launch, run_script, session
from tenzing.nki.script import script_error
from tenzing.timeline import Timeline

Progress = Callable[[str], None]
TARGET: Final = "trn2"


class TimeOnly(GraphTime):
    """The time of a model without weights, as reports read it: no lines, waits or timeline."""

    @property
    def findings(self) -> list[Finding]:
        """None: its programs are ours, and what does not fit is refused before."""
        return []

    @property
    def dma_bytes(self) -> int:
        """Traffic with HBM; what moves inside the chip is not kept."""
        return self.hbm_read_bytes + self.hbm_write_bytes

    def top_lines(self, count: int = 0) -> list[tuple[Loc, dict[str, int], int]]:
        """None: repeated layers were not simulated."""
        return []

    def stalls_by_line(self, count: int = 0) -> list[tuple[Loc, int, dict[str, int]]]:
        """None: repeated layers were not simulated."""
        return []

    @property
    def critical_path(self) -> list[Link]:
        """None: repeated layers were not simulated."""
        return []

    @property
    def advice(self) -> list[Advice]:
        """None: there is no program to change."""
        return []

    def transfers_by_size(self) -> list[tuple[int, int, int, int]]:
        """None: repeated layers were not simulated."""
        return []

    def occupancy(self, space: Space) -> tuple[Array, Array]:
        """None: repeated layers were not simulated."""
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def timeline(self) -> Timeline:
        """Raises UsageError."""
        raise UsageError("a model without weights has a time, but no timeline",
                         next_step="give its folder with weights, or a model.py:name")  # fmt: skip


@dataclass(frozen=True)
class KernelResult:
    """One kernel call or compiled model on one target: an analysis per core used."""

    name: str
    target: str
    analyses: tuple[Analysis | TimeOnly, ...]
    where: str = ""
    items: int = 1

    @property
    def slowest(self) -> Analysis | TimeOnly:
        """The core that ends last; a launch takes as long as it does."""
        return max(self.analyses, key=lambda a: a.total_ps)

    @property
    def latency_ps(self) -> int:
        """One execution on the device, launch included."""
        return self.slowest.latency_ps

    @property
    def findings(self) -> list[Finding]:
        """Broken rules on any core."""
        seen = {(f.rule, f.message, f.loc): f for a in self.analyses for f in a.findings}
        return list(seen.values())

    @property
    def bill(self) -> Bill | None:
        """Money on the cheapest instance of the target."""
        moved = sum(a.hbm_read_bytes + a.hbm_write_bytes for a in self.analyses)
        return bill_for(self.target, self.latency_ps, self.items, hbm_bytes_moved=moved)


@dataclass
class RunResult:
    """All kernels a script launched, or one compiled model, on one target."""

    path: str
    target: str
    kernels: list[KernelResult] = field(default_factory=list)
    outputs: Any = None
    agreement: dict[str, float] = field(default_factory=dict)
    comparison: compiler.Comparison | None = None

    @property
    def findings(self) -> list[Finding]:
        """Broken rules of all kernels."""
        return [f for k in self.kernels for f in k.findings]


def compile(
    module: Any,
    example_inputs: Any = (),
    example_keywords: Mapping[str, Any] | None = None,
    **options: Any,
) -> compiler.Compiled:
    """As :func:`tenzing.compiler.compile`, which lists the options, with reports."""
    if isinstance(module, str | Path) and compiler.is_saved(module):
        raise UsageError(
            f"{module} is a compiled program already", next_step="tenzing.load runs it"
        )
    compiled = compiler.compile(module, example_inputs, example_keywords, **options)
    compiled.reporter = _report
    return compiled


def compile_buckets(model: Any, make_example: Any = None, **options: Any) -> compiler.Bucketed:
    """As :func:`tenzing.compiler.compile_buckets`, which lists the options, with reports."""
    found = compiler.compile_buckets(model, make_example, **options)
    for program in found.programs.values():
        program.reporter = _report
    return found


def load(path: str | Path, **options: Any) -> compiler.Loaded:
    """As :func:`tenzing.compiler.load`, which lists the options, with reports."""
    loaded = compiler.load(path, **options)
    loaded.reporter = _report
    return loaded


def _report(compiled: compiler.Compiled) -> str:
    return f"{compiled.graph.name} on {compiled.target}\n{report.run_summary(compiled.analysis)}"


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
        facts.chip(target)
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
) -> RunResult:  # fmt: skip
    """Legality of every kernel a script launches, or of a model: findings instead of results."""
    return run(path, target=target, argv=argv, autocast=autocast, sizes=sizes)


def compare(
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


def is_python(path: str) -> bool:
    """Whether a path names a Python file, or something in one."""
    return path.endswith(".py") or ".py:" in path


def is_script(path: str) -> bool:
    """Whether a path names a whole Python file, such as an NKI script."""
    return path.endswith(".py")


def split_path(path: str) -> tuple[Path, str]:
    """``model.py:net`` as file and attribute; an error when the file is missing."""
    text, _, attribute = path.partition(".py:")
    file = Path(text + ".py") if attribute else Path(path)
    if not file.is_file():
        raise UsageError(
            f"{file} is not a file",
            next_step="give a Python file with NKI kernels, or model.py:name for a model",
        )
    return file, attribute


@contextmanager
def _code_of(file: Path) -> Iterator[None]:
    """The user's own code runs: it may import from its folder, and its errors become messages."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except TenzingError:
        raise
    except SyntaxError as error:
        where = Loc(error.filename or str(file), error.lineno or 1)
        raise UsageError(f"{file.name} is not Python: {error.msg}", where=where) from None
    except SystemExit as stop:
        raise UsageError(
            f"{file.name} ended with exit code {stop.code}",
            next_step='keep such code under `if __name__ == "__main__":`',
        ) from None
    except Exception as error:
        raise script_error(file, error) from None
    finally:
        sys.path.remove(folder)


def load_model(file: Path, attribute: str) -> tuple[Any, tuple[Any, ...]]:
    """Module and example inputs named by ``attribute``.

    The attribute is a pair ``(module, inputs)``, a function returning one, or a module beside a
    variable ``example_inputs``.
    """
    with _code_of(file):
        names = runpy.run_path(str(file))
    if attribute not in names:
        known = ", ".join(n for n in names if not n.startswith("_"))
        raise UsageError(f"{file} has no '{attribute}'", allowed=known or "it defines nothing")
    found = names[attribute]
    if _makes_a_model(found):
        with _code_of(file):
            found = found()
    if isinstance(found, tuple) and len(found) == len(("module", "inputs")):
        module, inputs = found
    elif "example_inputs" in names:
        module, inputs = found, names["example_inputs"]
    else:
        raise UsageError(
            f"{file} gives no example inputs for '{attribute}'",
            next_step="define example_inputs = (tensor, ...) beside it, or return (module, inputs)",
        )
    return module, tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _makes_a_model(found: Any) -> bool:
    """Whether it is a function that can be called with nothing, as against a model itself."""
    if not isinstance(found, FunctionType):
        return False
    return all(p.default is not p.empty for p in signature(found).parameters.values())


def open_model(path: str, sizes: Mapping[str, int]) -> tuple[Any, tuple[Any, ...]]:
    """The model that a path or name stands for, and its example inputs.

    ``model.py:name`` runs the user's file; everything else is read by the compiler's frontends, at
    ``sizes`` (such as batch and length) where a model's shapes are open.
    """
    if is_python(path):
        file, attribute = split_path(path)
        if not attribute:
            raise UsageError("only a model has a graph", got=path, next_step="give model.py:name")
        if sizes:
            raise UsageError("sizes are for model files, not for Python", got=dict(sizes),
                             next_step=f"change the example inputs in {file}")  # fmt: skip
        return load_model(file, attribute)
    if not Path(path).exists() and not facts.knows_model(path):
        raise UsageError(
            f"{path} is not a file, nor the name of a known model",
            next_step="give kernel.py, model.py:name, a model's file or folder, or one of: "
            + ", ".join(facts.models()),
        )
    return path, ()


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


__all__ = [
    "Buckets", "KernelResult", "RunResult", "analyse_launch", "analyse_program", "buckets", "check",
    "compare", "compile", "compile_buckets", "compile_file", "compile_path", "is_python", "load",
    "load_model", "open_model", "run", "split_path",
]  # fmt: skip
