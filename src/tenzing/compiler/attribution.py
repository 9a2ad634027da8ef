"""Where the time of a model goes: by module and operation, then by line of its kernels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tenzing.compiler.execution import record_graph
from tenzing.compiler.graph import Graph, Node, Value
from tenzing.compiler.lowering import device_dtype
from tenzing.errors import Loc
from tenzing.isa.operand import Array, Space
from tenzing.machine import DMA_TRACK, Analysis, analyse
from tenzing.machine.critical import by_group
from tenzing.machine.deps import DMA_READER

NUMBER: Final = re.compile(r"(^|\.)\d+(?=\.|$)")  # of a layer, in a module's path
ADDED: Final = re.compile(r"(_(\d+|bf16|f16|f32|tf32|f8\w*))+$")  # to the name of a result
OWNER: Final = re.compile(r"(.*?)\.(weight|bias)")
TRANSPOSES: Final = ("transpose", "reshape", "concatenate", "slice", "pad", "broadcast_in_dim")


@dataclass(frozen=True)
class NodeTime:
    """One operation of a model on a chip; picoseconds, bytes.

    ``module``: the path of the module it computes, ``name``: of its result in the model's words.
    ``critical_ps`` is its share of the program's time, ``spent_on`` what for; shares of all
    operations add up to the whole. ``weight_bytes``: parameters that it reads. It computes from
    ``start_ps`` on, and its last result is there at ``end_ps``. ``number``: its place in the graph.
    """

    module: str
    operation: str
    name: str
    result: str
    loc: Loc | None
    instructions: int
    critical_ps: int
    spent_on: Mapping[str, int] = field(hash=False)
    busy_ps: Mapping[str, int] = field(hash=False)
    flops: int = 0
    hbm_bytes: int = 0
    weight_bytes: int = 0
    start_ps: int = 0
    end_ps: int = 0
    number: int = 0

    @property
    def engine(self) -> str:
        """The engine that it keeps busy for longest; nothing for an operation of no instruction."""
        return max(self.busy_ps, key=lambda name: self.busy_ps[name], default="")

    @property
    def moves_only(self) -> bool:
        """Whether it rearranges data and computes nothing."""
        return self.operation in TRANSPOSES

    @property
    def waits_for_weights(self) -> bool:
        """Whether most of what it moves is weights, and moving is what takes it longest."""
        return self.engine == DMA_TRACK and 2 * self.weight_bytes > self.hbm_bytes


def attribute(graph: Graph, target: str) -> tuple[Analysis, list[NodeTime], Array]:
    """The analysis of a graph after its passes, and every node's part, those of most time first.

    The array has the number of the node that each instruction belongs to.
    """
    ends: list[int] = []
    program = record_graph(graph, target, check_memory=False, ends=ends)
    analysis = analyse(program)
    owner = np.searchsorted(np.array(ends, np.int64), np.arange(len(program)), side="right")
    owner = np.minimum(owner, len(graph.nodes) - 1)
    spent = by_group(analysis.critical_path, owner.tolist())
    busy = analysis.lines.busy_of(owner, len(graph.nodes))
    counts = np.bincount(owner, minlength=len(graph.nodes)).tolist()
    moved = _traffic(analysis, owner, len(graph.nodes))
    start, end = _spans(analysis, owner, len(graph.nodes))
    parameters = set(graph.parameters)
    found = []
    for number, node in enumerate(graph.nodes):
        parts = spent.get(number, {})
        types = [v.type for v in node.inputs], [v.type for v in node.outputs]
        held = [v for v in node.inputs if v in parameters]
        found.append(NodeTime(
            module_of(node, held), node.op.name, _name(node), str(node.outputs[0].type), node.loc,
            counts[number], sum(parts.values()), parts, busy[number],
            node.op.arithmetic(*types).matmul_flops, moved[number], sum(map(_size, held)),
            start[number], end[number], number,
        ))  # fmt: skip
    return analysis, sorted(found, key=lambda one: -one.critical_ps), owner


def module_of(node: Node, parameters: Sequence[Value]) -> str:
    """The module that a node computes: the one that holds its parameters, else its scope.

    Passes give a node the scope of the conversion that they merged into it; parameters stay.
    """
    owners = [_owner(value.name).split(".") for value in parameters]
    shared = [names[0] for names in zip(*owners, strict=False) if len(set(names)) == 1]
    path = ".".join(shared)
    return path if len(owners) == 1 or path.startswith(node.scope) else node.scope


def module_pattern(path: str) -> str:
    """The path of a module with a star for the numbers of layers."""
    return NUMBER.sub(r"\1*", path)


def _owner(parameter: str) -> str:
    """The path of the module that holds a parameter, such as of ``layers.0.up.weight``."""
    found = OWNER.match(parameter)
    return found[1] if found else ""


def _name(node: Node) -> str:
    """The name of a node's result without what passes and uniqueness added to it."""
    return ADDED.sub("", node.outputs[0].name) or node.op.name


def _size(value: Value) -> int:
    return value.type.elements * device_dtype(value.dtype).itemsize


def _spans(analysis: Analysis, owner: Array, count: int) -> tuple[list[int], list[int]]:
    """When each node begins to compute, or to move if it only moves, and its last result is there.

    Weights that are loaded ahead do not begin a node: they would hide what is computed meanwhile.
    """
    start, first = np.full((2, count), analysis.total_ps, np.int64)
    end = np.zeros(count, np.int64)
    np.minimum.at(start, owner, analysis.start_ps)
    computes = analysis.queue < DMA_READER
    np.minimum.at(first, owner[computes], analysis.start_ps[computes])
    np.maximum.at(end, owner, analysis.done_ps)
    return np.where(first < end, first, start).tolist(), end.tolist()


def _traffic(analysis: Analysis, owner: Array, count: int) -> list[int]:
    """Bytes that the transfers of each node read from HBM or write to it."""
    per_template = []
    for template in analysis.program.templates:
        transfer = template.cost.transfer
        sides = sum(layout.space is Space.HBM for layout in template.layouts)
        per_template.append(transfer.payload_bytes * sides if transfer else 0)
    each = np.array(per_template, np.float64)[analysis.lines.template]
    return [round(total) for total in np.bincount(owner, each, count)]


@dataclass(frozen=True)
class NodeGroup:
    """Equal operations of equal modules, such as those of all layers, together.

    ``module`` has a star for the numbers of layers; amounts are sums, ``busy_ps`` that of
    ``engine``, which they keep busy for longest.
    """

    module: str
    operation: str
    name: str
    result: str
    number: int
    critical_ps: int
    spent_on: Mapping[str, int] = field(hash=False)
    engine: str
    busy_ps: int
    instructions: int
    flops: int
    hbm_bytes: int
    weight_bytes: int


def grouped(nodes: Sequence[NodeTime]) -> list[NodeGroup]:
    """Operations with the same place in equal layers, those of most time first."""
    groups: dict[tuple[str, ...], list[NodeTime]] = defaultdict(list)
    for node in nodes:
        module = module_pattern(node.module)
        groups[module, node.operation, node.name, node.result].append(node)
    found = [_together(key[0], members) for key, members in groups.items()]
    return sorted(found, key=lambda one: -one.critical_ps)


def _together(module: str, nodes: Sequence[NodeTime]) -> NodeGroup:
    spent: dict[str, int] = defaultdict(int)
    busy: dict[str, int] = defaultdict(int)
    for node in nodes:
        for name, part in node.spent_on.items():
            spent[name] += part
        for name, part in node.busy_ps.items():
            busy[name] += part
    first, longest = nodes[0], max(busy, key=lambda n: busy[n], default="")
    return NodeGroup(
        module, first.operation, first.name, first.result, len(nodes),
        sum(n.critical_ps for n in nodes), dict(spent), longest, busy.get(longest, 0),
        sum(n.instructions for n in nodes), sum(n.flops for n in nodes),
        sum(n.hbm_bytes for n in nodes), sum(n.weight_bytes for n in nodes),
    )  # fmt: skip


__all__ = ["NodeGroup", "NodeTime", "attribute", "grouped", "module_of", "module_pattern"]
