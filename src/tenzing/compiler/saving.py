"""Compiled programs into files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tenzing import __version__
from tenzing.compiler import tensors as safetensors
from tenzing.compiler.artifact import Compiled
from tenzing.compiler.container import FIRST, write_members
from tenzing.compiler.graph import Array
from tenzing.compiler.manifest import (
    CONSTANTS,
    EXAMPLE,
    FORMAT,
    GRAPH,
    IMPORTED,
    KERNEL_FOLDER,
    MEMORY,
    WEIGHT_PLACES,
    WEIGHTS,
    Kernel,
    Manifest,
    Weights,
    facts_digest,
    memory_map,
    recorded,
    sha256,
    source_of,
    tensors,
)
from tenzing.compiler.nesting import Nesting, to_json
from tenzing.compiler.ops.control import KERNELS, called_kernels
from tenzing.compiler.printer import digest, large_constants, to_text
from tenzing.compiler.timing import summarise
from tenzing.errors import TenzingError, UsageError
from tenzing.machine.store import source_digest


def save(
    compiled: Compiled, path: str | Path, *, weights: str = "inside", example: bool = True
) -> Manifest:
    """Write a compiled model as one file that :func:`load` runs without its framework.

    ``weights``: ``inside`` the file, ``beside`` it as a safetensors file of the same name, or
    ``none``: such a program has a time but cannot run. ``example`` keeps the example inputs. The
    state (a KV cache, running means) is saved as it is now. Raises UsageError for what a file
    cannot hold.
    """
    target = Path(path)
    if not isinstance(compiled, Compiled):
        raise UsageError(
            "only a compiled model can be saved", got=type(compiled).__name__,
            next_step="tenzing.compile(model, example_inputs) gives one",
        )  # fmt: skip
    if weights not in WEIGHT_PLACES:
        raise UsageError("weights", got=weights, allowed=", ".join(WEIGHT_PLACES))
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder", next_step="make it first")
    if compiled.mesh.ranks > 1:
        raise UsageError("a program over several ranks cannot be saved",
                         got=compiled.mesh.ranks, allowed=1,
                         next_step="compile without mesh, or keep the model")  # fmt: skip
    place = weights if compiled.runnable else "none"
    members = _members(compiled)
    arrays = _prepared(compiled) if place != "none" else {}
    content = safetensors.to_bytes(arrays)
    beside = target.with_suffix(".safetensors")
    if place == "beside":
        beside.write_bytes(content)
    elif place == "inside":
        members[WEIGHTS] = content
    inputs = _example_arrays(compiled) if example else None
    if inputs is not None:
        members[EXAMPLE] = safetensors.to_bytes(inputs)
    note = Weights(place, beside.name if place == "beside" else "", sha256(content),
                   len(content), len(arrays))  # fmt: skip
    manifest = _manifest(compiled, members, note, _kernels(compiled, members))
    write_members(target, {FIRST: manifest.text().encode(), **members})
    return manifest


def _members(compiled: Compiled) -> dict[str, bytes]:
    """Graphs, their large constants and the memory map."""
    graph = replace(compiled.graph, preparation=None)
    large = {digest(d): np.frombuffer(d, np.uint8)
             for g in (graph, compiled.imported.graph) for d in large_constants(g)}  # fmt: skip
    members = {
        GRAPH: to_text(graph, scopes=True).encode(),
        IMPORTED: to_text(compiled.imported.graph, scopes=True).encode(),
        CONSTANTS: safetensors.to_bytes(large),
    }
    if compiled.runnable:
        text = json.dumps(asdict(memory_map(compiled.analysis)), indent=1)
        members[MEMORY] = text.encode()
    return members


def _prepared(compiled: Compiled) -> dict[str, Array]:
    """Arrays of the graph's parameters, the state as it is now."""
    found = {**compiled.weights, **compiled.interface.read_state()}
    return {value.name: found[value.name] for value in compiled.graph.parameters}


def _example_arrays(compiled: Compiled) -> dict[str, Array] | None:
    """The example inputs by the graph's names; None when they have no values."""
    arguments, keywords = compiled.example
    try:
        arrays = compiled.interface.arrays(arguments, keywords)
    except TenzingError:
        return None
    return {v.name: a for v, a in zip(compiled.graph.inputs, arrays, strict=True)}


def _kernels(compiled: Compiled, members: dict[str, bytes]) -> tuple[Kernel, ...]:
    """The user's own kernels that the program calls, their sources added to ``members``."""
    found = []
    for number, name in enumerate(called_kernels(compiled.graph)):
        source, member = source_of(name).encode(), f"{KERNEL_FOLDER}{number}.py"
        members[member] = source
        function = KERNELS[name].function.__name__
        found.append(Kernel(name, function, member, sha256(source)))
    return tuple(found)


def _manifest(
    compiled: Compiled, members: Mapping[str, bytes], weights: Weights, kernels: tuple[Kernel, ...]
) -> Manifest:
    graph, interface = compiled.graph, compiled.interface
    seen = [graph.outputs[place] for place in interface.output_places()]
    written = {alias.target for alias in graph.aliases}
    return Manifest(
        format=FORMAT, tenzing=__version__, name=graph.name, target=compiled.target,
        numerics=compiled.numerics, autocast=compiled.autocast,
        autocast_dtype=compiled.autocast_dtype, facts_sha256=facts_digest(compiled.target),
        simulator=source_digest(), inputs=tensors(graph.inputs),
        outputs=tensors(seen, interface.output_names()),
        state=tensors(v for v in graph.parameters if v.name in written),
        nesting=_nesting_json(interface.described()), example=EXAMPLE in members, kernels=kernels,
        weights=weights, recorded=recorded(compiled.program) if compiled.runnable else None,
        time=summarise(compiled.analysis) if compiled.kernels else compiled.time,
        sha256={name: sha256(content) for name, content in members.items()},
    )  # fmt: skip


def _nesting_json(nesting: Nesting | None) -> dict[str, Any] | None:
    if nesting is None:
        return None
    return {name: to_json(getattr(nesting, name)) for name in ("arguments", "keywords", "outputs")}


__all__ = ["save"]
