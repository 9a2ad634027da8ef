"""Saved programs: look into one, load it without its framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

from tenzing import __version__, facts
from tenzing.compiler import tensors as safetensors
from tenzing.compiler.artifact import Compiled, check_modes
from tenzing.compiler.container import DAMAGED, FIRST, looks_like_program, read_members
from tenzing.compiler.frontends.interface import ArrayInterface, Imported, Interface
from tenzing.compiler.graph import Array, Graph
from tenzing.compiler.manifest import (
    CONSTANTS,
    EXAMPLE,
    FORMAT,
    GRAPH,
    IMPORTED,
    MEMORY,
    WEIGHTS,
    Manifest,
    MemoryMap,
    Weights,
    all_values,
    sha256,
    source_of,
)
from tenzing.compiler.nested_interface import NestedInterface
from tenzing.compiler.nesting import Nest, Nesting, fill, from_json, slots
from tenzing.compiler.ops.control import KERNELS, called_kernels, register_kernel
from tenzing.compiler.parser import parse
from tenzing.compiler.passes import Step
from tenzing.compiler.records import build
from tenzing.compiler.timing import GraphTime, summarise
from tenzing.errors import TenzingError, UsageError
from tenzing.machine.store import source_digest
from tenzing.units import format_bytes

SUFFIX: Final = ".tz"
MAKE_AGAIN: Final = "make it again with tenzing compile"


@dataclass(frozen=True)
class SavedFile:
    """A saved program's manifest and parts, checked but not yet understood."""

    path: Path
    manifest: Manifest
    members: Mapping[str, memoryview]

    def text(self, member: str) -> str:
        """A text among the parts."""
        return bytes(self.members.get(member, b"")).decode()

    @property
    def graph_text(self) -> str:
        """The graph after the passes."""
        return self.text(GRAPH)

    @property
    def imported_text(self) -> str:
        """The graph before the passes."""
        return self.text(IMPORTED)

    @property
    def kernel_sources(self) -> dict[str, str]:
        """Source texts of the user's own kernels; they are shown, never run."""
        return {kernel.name: self.text(kernel.member) for kernel in self.manifest.kernels}

    @cached_property
    def memory(self) -> MemoryMap | None:
        """The memory map; None for a program that was only timed."""
        if MEMORY not in self.members:
            return None
        with _understanding(self.path):
            found: MemoryMap = build(MemoryMap, json.loads(self.text(MEMORY)))
            return found


class _understanding:
    """Whatever a file's content provokes inside is that file's fault, and said so.

    The checksum was right, so somebody wrote it so: a wrong type, a bad number, endless nesting.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            return
        got = str(error) if isinstance(error, ValueError | TenzingError) else type(error).__name__
        raise UsageError(f"{self.path} is not what tenzing writes", got=got.splitlines()[0] if got
                         else type(error).__name__, next_step=MAKE_AGAIN) from None  # fmt: skip


def is_saved(path: str | Path) -> bool:
    """Whether a path is that of a saved program, by its name or its first or last bytes."""
    file = Path(path)
    try:
        there = file.is_file()
    except (OSError, ValueError):  # a program's text is longer than a name may be
        return False
    return there and (file.suffix == SUFFIX or looks_like_program(file))


def inspect(path: str | Path) -> SavedFile:
    """A saved program, all checksums verified, nothing run; UsageError says what is wrong."""
    saved = _open(Path(path))
    with _understanding(saved.path):
        parts = {name: sha256(part) for name, part in saved.members.items() if name != FIRST}
        if parts != saved.manifest.sha256:
            raise ValueError("parts that are not those of its manifest")
        _ = saved.memory, saved.kernel_sources, saved.graph_text, saved.imported_text
    return saved


def _open(file: Path) -> SavedFile:
    """A file whose checksum is right, its manifest read."""
    members = read_members(file)
    with _understanding(file):
        found = json.loads(bytes(members.get(FIRST, b"")))
        form = found["format"]
        if type(form) is int and form > FORMAT:
            raise UsageError(
                f"{file} was made by a newer tenzing", got=f"format {form} of {found['tenzing']}",
                allowed=f"format {FORMAT}, which tenzing {__version__} reads",
                next_step="upgrade tenzing, or make the file again with this one",
            )  # fmt: skip
        manifest: Manifest = build(Manifest, found)
        if manifest.format < 1 or set(manifest.sha256) != set(members) - {FIRST}:
            raise ValueError("parts that are not those of its manifest")
        return SavedFile(file, manifest, members)


def load(
    path: str | Path,
    *,
    target: str | None = None,
    numerics: str | None = None,
    kernels: Mapping[str, Callable[..., Any]] | None = None,
) -> Loaded:
    """A saved program, ready to run on NumPy arrays; no framework is needed.

    ``target`` and ``numerics`` replace those it was saved with. ``kernels`` gives the user's own
    kernels by name, since sources in the file are never run; each must be the very source that was
    saved. Raises UsageError for a file that is damaged, newer, foreign or lacks something.
    """
    saved = _open(Path(path))  # its checksum covers every part
    note = saved.manifest
    chip = facts.chip(target or note.target).name
    check_modes(numerics or note.numerics, note.autocast, note.autocast_dtype)
    _bind_kernels(saved, kernels or {})
    with _understanding(saved.path):
        large = safetensors.from_bytes(saved.members[CONSTANTS])
        payloads = {name: bytes(content) for name, (_, _, content) in large.items()}
        graph = parse(saved.graph_text, payloads, file=GRAPH)
        before = parse(saved.imported_text, payloads, file=IMPORTED)
        _check_sizes(graph, chip)
        _check_sizes(before, chip)
        if graph.inputs != before.inputs or len(graph.outputs) != len(before.outputs):
            raise ValueError("graphs before and after the passes that do not belong together")
        weights = _read_weights(saved, graph)
        written = {alias.target for alias in graph.aliases}
        state = {name: array.copy() for name, array in weights.items() if name in written}
        interface = _interface(note, graph, state)
        example = _read_example(saved, graph, interface)
    return Loaded(
        Imported(before, {}, interface, example), chip, note.autocast, note.autocast_dtype,
        numerics or note.numerics, optimised=graph, prepared=weights, saved=saved,
    )  # fmt: skip


def _bind_kernels(saved: SavedFile, given: Mapping[str, Callable[..., Any]]) -> None:
    """Register the kernels that the program calls; UsageError when one is missing or another."""
    wanted = {kernel.name: kernel for kernel in saved.manifest.kernels}
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise UsageError(f"{saved.path} calls no kernel of this name", got=", ".join(unknown),
                         allowed=", ".join(wanted) or "it calls none")  # fmt: skip
    for name, function in given.items():
        register_kernel(name, function)
    for name, kernel in wanted.items():
        if name not in KERNELS:
            raise UsageError(
                f"{saved.path} calls kernel {name}, which its user wrote; the source in the file "
                "is there to read and is never run",
                next_step=f"import the file that registers it, or give it: tenzing.load(path, "
                f"kernels={{{name!r}: {kernel.function}}})",
            )  # fmt: skip
        if sha256(source_of(name).encode()) != kernel.sha256:
            raise UsageError(
                f"kernel {name} is another one than {saved.path} was saved with",
                got="a different source", next_step="compare it with tenzing inspect --kernels, or "
                "compile the model again",
            )  # fmt: skip


def _check_sizes(graph: Graph, chip: str) -> None:
    """No tensor of a file may claim more than the memory of a core."""
    limit = facts.chip(chip).integer("hbm.core_bytes")
    for value in all_values(graph):
        if value.type.size_bytes > limit:
            raise ValueError(f"a tensor {value} of {format_bytes(value.type.size_bytes)}")


def _read_weights(saved: SavedFile, graph: Graph) -> dict[str, Array]:
    note = saved.manifest.weights
    if note.place == "none":
        return {}
    content = saved.members[WEIGHTS] if note.place == "inside" else _beside(saved.path, note)
    found = safetensors.from_bytes(content)
    return {v.name: safetensors.as_array(found[v.name], v.type) for v in graph.parameters}


def _beside(path: Path, note: Weights) -> memoryview:
    """The bytes of the weights' own file, which must stand beside the program."""
    if note.place != "beside" or Path(note.file).name != note.file:
        raise ValueError(f"weights at {note.place} {note.file}")
    file = path.parent / note.file
    if not file.is_file():
        raise UsageError(f"the weights of {path} are not beside it", got=f"no file {file}",
                         next_step=f"copy {note.file} there too, or save with weights inside",
                         )  # fmt: skip
    if file.stat().st_size != note.bytes:
        _other_weights(file, path)
    content = file.read_bytes()
    if sha256(content) != note.sha256:
        _other_weights(file, path)
    return memoryview(content)


def _other_weights(file: Path, path: Path) -> NoReturn:
    raise UsageError(f"{file} does not hold the weights that {path} was saved with",
                     got="another checksum", next_step=DAMAGED)  # fmt: skip


def _interface(note: Manifest, graph: Graph, state: dict[str, Array]) -> Interface:
    names = tuple(one.name for one in note.outputs)
    if note.nesting is None:
        if len(names) > len(graph.outputs):
            raise ValueError("more outputs than its graph has")
        return ArrayInterface(graph.inputs, names, state=state)
    ins, outs = len(graph.inputs), len(graph.outputs)
    sides = {"arguments": ins, "keywords": ins, "outputs": outs}
    parts: dict[str, Nest] = {k: from_json(note.nesting[k], n) for k, n in sides.items()}
    nesting = Nesting(**parts)
    places = [s.place for side in (nesting.arguments, nesting.keywords) for s, _ in slots(side)]
    if sorted(places) != list(range(ins)) or not isinstance(nesting.keywords, dict):
        raise ValueError("inputs that are not those of its graph")
    if not isinstance(nesting.arguments, tuple) or len(names) != len(list(slots(nesting.outputs))):
        raise ValueError("outputs that are not those of its graph")
    return NestedInterface(graph.inputs, names, nesting, state)


def _read_example(
    saved: SavedFile, graph: Graph, interface: Interface
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if not saved.manifest.example:
        return None
    found = safetensors.from_bytes(saved.members[EXAMPLE])
    arrays = [safetensors.as_array(found[v.name], v.type).copy() for v in graph.inputs]
    nesting = interface.described()
    if nesting is None:
        return tuple(arrays), {}
    return fill(nesting.arguments, arrays), fill(nesting.keywords, arrays)


@dataclass(kw_only=True, repr=False)
class Loaded(Compiled):
    """A program from a file: the graph after the passes and its prepared weights are there already.

    Its state lives in the program itself: ``tenzing.save`` keeps it. Times are those of the file
    while the simulator and its facts are the same; otherwise they are computed again.
    """

    optimised: Graph
    prepared: Mapping[str, Array]
    saved: SavedFile

    @property
    def _optimised(self) -> tuple[Graph, tuple[Step, ...]]:
        return self.optimised, ()

    @property
    def weights(self) -> Mapping[str, Array]:
        """See the class."""
        if not self.runnable:
            raise UsageError(f"{self.saved.path} holds no weights, so it can be timed but not run",
                             next_step="save it with weights inside or beside")  # fmt: skip
        return self.prepared

    @property
    def runnable(self) -> bool:
        """Whether the file has weights, or needs none."""
        return self.saved.manifest.weights.place != "none" or not self.optimised.parameters

    @property
    def latency_us(self) -> float:
        """One execution on the device, launch included, in microseconds."""
        return self.time.latency_us

    def time_for(self, target: str) -> GraphTime:
        """Time and work of one execution on a chip."""
        name, note = facts.chip(target).name, self.saved.manifest
        same = name == note.target and note.simulator == source_digest()
        return note.time if same else self.computed_time(name)

    def computed_time(self, target: str) -> GraphTime:
        """The time simulated now, whatever the file says."""
        if called_kernels(self.optimised):
            return summarise(self.analysis_for(target))
        return super().time_for(target)


__all__ = ["Loaded", "SavedFile", "inspect", "is_saved", "load"]
