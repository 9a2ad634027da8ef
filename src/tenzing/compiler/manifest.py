"""What a saved program says about itself: the records in its manifest and memory map."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.compiler.graph import Graph, Value
from tenzing.compiler.ops.control import KERNELS
from tenzing.compiler.timing import GraphTime
from tenzing.errors import UsageError
from tenzing.isa import Program, Space
from tenzing.machine import Analysis

FORMAT: Final = 1
WEIGHT_PLACES: Final = ("inside", "beside", "none")

# the parts of the file beside the manifest
GRAPH: Final = "graph.txt"
IMPORTED: Final = "imported.txt"
CONSTANTS: Final = "constants.safetensors"
EXAMPLE: Final = "example.safetensors"
WEIGHTS: Final = "weights.safetensors"
MEMORY: Final = "memory.json"
KERNEL_FOLDER: Final = "kernels/"


@dataclass(frozen=True)
class Tensor:
    """An input, output or state: its name and its type as graphs print it."""

    name: str
    type: str


@dataclass(frozen=True)
class Kernel:
    """A kernel of the user's own that the program calls; its source is text, never run."""

    name: str
    function: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """Where the prepared weights are: inside, beside (a safetensors file by name), or none."""

    place: str
    file: str
    sha256: str
    bytes: int
    tensors: int


@dataclass(frozen=True)
class Recorded:
    """The recorded program in numbers: instructions by engine and by kind."""

    engines: dict[str, int]
    kinds: dict[str, int]


@dataclass(frozen=True)
class Held:
    """One HBM tensor: origin, size in bytes, first and last instruction that uses it.

    The device's own allocator gives it an address; -1 is an instruction that does not exist.
    """

    name: str
    origin: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Region:
    """A stretch of SBUF or PSUM: address and bytes per partition, and how many tiles share it."""

    space: str
    address: int
    bytes: int
    tiles: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryMap:
    """Tensors in HBM, and regions on chip by address; the peaks are in the time."""

    tensors: tuple[Held, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything about a saved program that is not its graphs and arrays.

    ``facts_sha256``: digest of all facts of the target; ``assumed``: those without evidence that
    the time leans on; ``simulator``: digest of the simulator that made the time. ``nesting`` is
    None for a flat list of inputs and outputs, else their three nests.
    """

    format: int
    tenzing: str
    name: str
    target: str
    numerics: str
    autocast: str
    autocast_dtype: str
    facts_sha256: str
    simulator: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    state: tuple[Tensor, ...]
    nesting: Any
    example: bool
    kernels: tuple[Kernel, ...]
    weights: Weights
    recorded: Recorded | None
    time: GraphTime
    sha256: dict[str, str]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def source_of(name: str) -> str:
    """The source text of a registered kernel; UsageError when Python does not have it."""
    try:
        return inspect.getsource(KERNELS[name].function)
    except (OSError, TypeError):
        raise UsageError(
            f"the source of kernel {name} cannot be read, so nobody could check it later",
            next_step="define the kernel in a file",
        ) from None  # fmt: skip


def sha256(content: bytes | memoryview) -> str:
    """The digest of a part."""
    return hashlib.sha256(content).hexdigest()


def facts_digest(target: str) -> str:
    """Digest of every fact about a chip: its value, unit, kind and source."""
    content = json.dumps(facts.as_json(facts.chip(target)), sort_keys=True, default=str)
    return sha256(content.encode())


def tensors(values: Iterable[Value], names: Iterable[str] | None = None) -> tuple[Tensor, ...]:
    """Values as the manifest lists them, by other names where those are given."""
    listed = list(values)
    titles = [v.name for v in listed] if names is None else list(names)
    return tuple(Tensor(n, str(v.type)) for n, v in zip(titles, listed, strict=True))


def recorded(program: Program) -> Recorded:
    """Instructions by engine and by kind, the most frequent first."""
    counts = Counter(row[0] for row in program.rows)
    engines: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for number, count in counts.items():
        template = program.templates[number]
        engines[template.engine.name] += count
        kinds[template.instruction.nki] += count
    return Recorded(dict(engines.most_common()), dict(kinds.most_common()))


def memory_map(analysis: Analysis) -> MemoryMap:
    """What lies where while the program runs."""
    placement = analysis.placement
    spans = zip(placement.first.tolist(), placement.last.tolist(), strict=True)
    tensors_found: list[Held] = []
    tiles: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for storage, (first, last) in zip(analysis.program.storages, spans, strict=True):
        if storage.space is Space.HBM:
            tensors_found.append(Held(storage.name, storage.origin, storage.nbytes, first, last))
            continue
        place = storage.space.name, int(placement.address[storage.id]), storage.pitch
        if place[1] >= 0:
            tiles.setdefault(place, []).append((first, last))
    regions = (
        Region(*place, len(used), min(f for f, _ in used), max(last for _, last in used))
        for place, used in sorted(tiles.items())
    )
    return MemoryMap(tuple(tensors_found), tuple(regions))


def all_values(graph: Graph) -> Iterable[Value]:
    """Every value of a graph and of the graphs inside it."""
    yield from graph.values()
    for node in graph.nodes:
        for region in node.op.regions:
            yield from all_values(region)


__all__ = [
    "CONSTANTS", "EXAMPLE", "FORMAT", "GRAPH", "IMPORTED", "KERNEL_FOLDER", "MEMORY", "WEIGHTS",
    "WEIGHT_PLACES", "Held", "Kernel", "Manifest", "MemoryMap", "Recorded", "Region",
    "Tensor", "Weights", "all_values", "facts_digest", "memory_map", "recorded", "sha256",
    "source_of", "tensors",
]  # fmt: skip
