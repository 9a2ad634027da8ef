"""Repeated blocks of a graph: a model of many equal layers is timed as a few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tenzing.compiler.graph import Alias, Graph, Value

FEWEST: Final = 4  # blocks worth collapsing


@dataclass(frozen=True)
class Repetition:
    """``count`` blocks of ``period`` nodes from node ``start`` on, wired alike."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        """The first node behind the blocks."""
        return self.start + self.period * self.count

    def block(self, number: int) -> range:
        """Positions of one block's nodes."""
        first = self.start + number * self.period
        return range(first, first + self.period)


def find_repetition(graph: Graph) -> Repetition | None:
    """The repetition that covers most nodes; None when no four blocks are alike.

    Blocks are alike when their nodes have the same operations and types, and read the same things:
    values of their own block or of the one before at the same places, values from before all
    blocks, parameters and inputs of their own.
    """
    kinds: dict[object, int] = {}
    tokens = np.array(
        [
            kinds.setdefault((n.op, *(v.type for v in (*n.inputs, *n.outputs))), len(kinds))
            for n in graph.nodes
        ],
        np.int64,
    )
    for start, period, count in _runs(tokens):
        found = _wired(graph, Repetition(start, period, count))
        if found is not None:
            return found
    return None


def _runs(tokens: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[tuple[int, int, int]]:
    """Start, period and count of periodic stretches, those that cover most nodes first."""
    found = []
    size = len(tokens)
    for period in range(1, size // FEWEST + 1):
        same = tokens[:-period] == tokens[period:]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
        for start, end in edges.reshape(-1, 2).tolist():
            count = (end - start) // period + 1
            if count >= FEWEST:
                found.append((count * period, -period, start, count))
    for _, period, start, count in sorted(found, reverse=True):
        yield start, -period, count


def _wired(graph: Graph, run: Repetition) -> Repetition | None:
    """The run, one block shorter at either end if only that is wired alike; None if neither is."""
    made = {v: (i, k) for i, n in enumerate(graph.nodes) for k, v in enumerate(n.outputs)}
    for first in range(2):
        for last in range(2):
            count = run.count - first - last
            trial = replace(run, start=run.start + first * run.period, count=count)
            if count >= FEWEST and _alike(graph, trial, made):
                return trial
    return None


def _alike(graph: Graph, run: Repetition, made: dict[Value, tuple[int, int]]) -> bool:
    outside = {*graph.inputs, *graph.parameters}
    shared = _read_elsewhere(graph, run, outside)
    model: list[object] = []
    for number in range(run.count):
        shape = [
            _place(value, run, number, made, shared)
            for position in run.block(number)
            for value in graph.nodes[position].inputs
        ]
        if number == 1:
            model = shape
        if number > 1 and shape != model:
            return False
    return _left_alike(graph, run, made)


def _place(
    value: Value, run: Repetition, number: int, made: dict[Value, tuple[int, int]],
    shared: set[Value],
) -> object:  # fmt: skip
    """Where a block's input comes from, said the same way in every block."""
    if value in made:
        position, output = made[value]
        block, inside = divmod(position - run.start, run.period)
        if block < 0:
            return value  # from before all blocks: must be the very same
        if number - block in (0, 1):
            return number - block, inside, output
        return "far", number
    return value if value in shared else ("own", value.type)


def _read_elsewhere(graph: Graph, run: Repetition, outside: set[Value]) -> set[Value]:
    """Inputs and parameters that two blocks, or nodes outside the blocks, read."""
    readers: dict[Value, set[int]] = {}
    for position, node in enumerate(graph.nodes):
        inside = run.start <= position < run.end
        block = (position - run.start) // run.period if inside else -1
        for value in outside.intersection(node.inputs):
            readers.setdefault(value, set()).add(block)
    return {value for value, blocks in readers.items() if len(blocks) > 1 or -1 in blocks}


def _left_alike(graph: Graph, run: Repetition, made: dict[Value, tuple[int, int]]) -> bool:
    """Nodes behind the blocks read only the last block, or what stands before all."""
    for node in graph.nodes[run.end :]:
        for value in node.inputs:
            position = made.get(value, (-1, 0))[0]
            if run.start <= position < run.end - run.period:
                return False
    return True


def collapse(graph: Graph, run: Repetition, keep: int) -> Graph:
    """The graph with only ``keep`` of the repeated blocks; outputs of the others are dropped."""
    cut = run.count - keep
    first_gone, first_kept = run.start + keep * run.period, run.end
    shift = cut * run.period
    renamed: dict[Value, Value] = {}
    for position in run.block(run.count - 1):
        twin = graph.nodes[position - shift]
        renamed.update(zip(graph.nodes[position].outputs, twin.outputs, strict=True))
    gone = {v for n in graph.nodes[first_gone:first_kept] for v in n.outputs}
    behind = (
        replace(node, inputs=tuple(renamed.get(v, v) for v in node.inputs))
        for node in graph.nodes[first_kept:]
    )
    nodes = [*graph.nodes[:first_gone], *behind]
    read = {v for node in nodes for v in node.inputs}
    outputs, aliases = _kept_outputs(graph, renamed, gone, read)
    present = read.union(outputs)
    return replace(
        graph,
        inputs=tuple(v for v in graph.inputs if v in present),
        parameters=tuple(v for v in graph.parameters if v in present),
        nodes=tuple(nodes),
        outputs=tuple(outputs),
        aliases=tuple(aliases),
    )


def _kept_outputs(
    graph: Graph, renamed: dict[Value, Value], gone: set[Value], read: set[Value]
) -> tuple[list[Value], list[Alias]]:
    """Outputs of what is left: state of the blocks that are gone goes with them."""
    targets = {alias.output: alias.target for alias in graph.aliases}
    sources = {v.name for v in read}
    outputs: list[Value] = []
    aliases: list[Alias] = []
    for number, value in enumerate(graph.outputs):
        target = targets.get(number)
        if target is not None and target not in sources:
            continue
        if value in gone and (value not in renamed or target is not None):
            continue
        if target is not None:
            aliases.append(Alias(len(outputs), target))
        outputs.append(renamed.get(value, value) if value in gone else value)
    return outputs, aliases


__all__ = ["Repetition", "collapse", "find_repetition"]
