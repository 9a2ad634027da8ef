"""Tensor parallelism: one rank's graph of a model whose weights are split over a mesh axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from tenzing.compiler.graph import (
    Alias,
    Array,
    Graph,
    GraphBuilder,
    GraphError,
    Node,
    Shape,
    Value,
)
from tenzing.compiler.ops import (
    Add,
    AllGather,
    AllReduce,
    Attention,
    BroadcastInDim,
    Concatenate,
    Constant,
    DynamicUpdateSlice,
    Elementwise,
    ExpertLinear,
    Linear,
    Reduce,
    Reshape,
    RmsNorm,
    Rotary,
    Slice,
    Transpose,
)
from tenzing.errors import UsageError

AXIS: Final = "tp"
AXES: Final = (AXIS,)
HEAD_DIM: Final = 1  # of queries, keys and caches [batch, heads, length, width]
COLUMN: Final = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "gate_up_proj", "qkv_proj",
                 "query", "key", "value", "fc1", "c_fc", "c_attn", "intermediate.dense",
                 "lm_head", "wi_0", "wi_1", "q_lin", "k_lin", "v_lin", "lin1")  # fmt: skip
KEY_HEADS: Final = ("k_proj", "v_proj")


@dataclass(frozen=True)
class Split:
    """A dim cut into ``parts``; each of its ``sections`` (sizes that sum up to it) separately.

    With fewer parts than ranks, neighbouring ranks hold the same part.
    """

    dim: int
    parts: int
    sections: tuple[int, ...] = ()

    def local(self, shape: Shape) -> Shape:
        """The shape of one part."""
        return (*shape[: self.dim], shape[self.dim] // self.parts, *shape[self.dim + 1 :])

    def take(self, array: Array, rank: int, ranks: int) -> Array:
        """The part of a rank."""
        part = rank * self.parts // ranks
        sizes = self.sections or (array.shape[self.dim],)
        edges = np.cumsum((0, *sizes))
        pieces = []
        for start, size in zip(edges, sizes, strict=False):
            step = size // self.parts
            index = np.arange(start + part * step, start + (part + 1) * step)
            pieces.append(np.take(array, index, self.dim))
        return np.concatenate(pieces, self.dim)


@dataclass(frozen=True)
class Sharded:
    """The graph of every rank, and how its parameters and inputs are cut from the whole ones."""

    graph: Graph
    ranks: int
    cuts: Mapping[str, Split] = field(hash=False)
    outputs: tuple[Split | None, ...] = ()  # how results stay cut: caches by heads

    def arrays(self, whole: Mapping[str, Array], rank: int) -> dict[str, Array]:
        """A rank's share of named arrays."""
        return {
            name: self.cuts[name].take(array, rank, self.ranks) if name in self.cuts else array
            for name, array in whole.items()
        }


State = tuple[Value, Split | None]


def shard(graph: Graph, ranks: int) -> Sharded:
    """One rank's graph for ``ranks`` tensor-parallel cores, collectives inserted.

    Projections into heads and gates are split by columns, those behind them by rows with a sum
    over ranks; attention by heads, key heads shared by ranks when there are fewer; experts inside
    their width; caches by heads; logits by vocabulary, gathered at the end. Raises UsageError when
    a model cannot be split that way, naming the parameter.
    """
    if ranks < 1:
        raise UsageError("tensor parallel ranks", got=ranks, allowed="1 or more")
    return _Sharder(graph, ranks).run()


class _Sharder:
    def __init__(self, graph: Graph, ranks: int) -> None:
        self.graph, self.ranks = graph, ranks
        self.builder = GraphBuilder(graph.name, [v.name for v in graph.values()])
        self.states: dict[Value, State] = {}
        self.cuts: dict[str, Split] = {}
        self.users = graph.users()
        self.makers = graph.producers()
        self.outside = {*graph.inputs, *graph.parameters}

    def run(self) -> Sharded:
        if self.ranks == 1:
            return Sharded(self.graph, 1, {})
        for node in self.graph.nodes:
            self.builder.loc, self.builder.scope = node.loc, node.scope
            self._node(node)
        targets = {a.output: a.target for a in self.graph.aliases}
        outputs, kept = [], []
        for value in self.graph.outputs:
            new, split = self._state(value)
            if split is not None and split.dim == len(new.shape) - 1:
                new, split = self._whole(new, split), None  # logits and the like
            outputs.append(new)
            kept.append(split)
        built = self.builder.build(outputs, [Alias(k, t) for k, t in targets.items()])
        order = {v.name: k for k, v in enumerate((*self.graph.inputs, *self.graph.parameters))}

        def sort(values: Sequence[Value]) -> tuple[Value, ...]:
            return tuple(sorted(values, key=lambda v: order[v.name]))

        # inputs that no node reads stay part of the interface
        read = {v.name for v in built.inputs}
        rest = [v for v in self.graph.inputs if v.name not in read]
        built = replace(built, inputs=sort((*built.inputs, *rest)),
                        parameters=sort(built.parameters))  # fmt: skip
        return Sharded(built, self.ranks, self.cuts, tuple(kept))

    # -- values -------------------------------------------------------------------------------

    def _state(self, value: Value) -> State:
        if value not in self.states:
            assert value in self.outside
            self.states[value] = self._outer(value, None)
        return self.states[value]

    def _outer(self, value: Value, split: Split | None) -> State:
        """Declare an input or parameter of the whole graph with its local shape."""
        known = self.states.get(value)
        if known is not None:
            if known[1] != split:
                raise self._refused(value, "is read both whole and in parts")
            return known
        shape = value.shape if split is None else split.local(value.shape)
        local = Value(value.name, shape, value.dtype)
        home = self.builder.inputs if value in self.graph.inputs else self.builder.parameters
        home.append(local)
        if split is not None:
            self.cuts[value.name] = split
        self.states[value] = (local, split)
        return self.states[value]

    def _refused(self, value: Value, why: str) -> UsageError:
        return UsageError(f"%{value.name} {why}", got=f"{self.ranks} ranks",
                          where=self.builder.loc,
                          next_step="use a number of ranks that divides heads, widths and "
                          "vocabulary")  # fmt: skip

    def _whole(self, value: Value, split: Split | None) -> Value:
        """The value with all parts, gathered from the ranks."""
        if split is None:
            return value
        if split.parts != self.ranks or len(split.sections) > 1:
            raise self._refused(value, "cannot be gathered from shared parts")
        return self.builder.add(AllGather(AXES, self.ranks, split.dim), value)

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Linear):
            return self._linear(node)
        if isinstance(op, ExpertLinear):
            return self._experts(node)
        if isinstance(op, DynamicUpdateSlice) and node.inputs[0] in self.graph.inputs:
            self._outer(node.inputs[0], self._state(node.inputs[1])[1])
        states = [self._state(v) for v in node.inputs]
        splits = [s for _, s in states if s is not None]
        if not splits:
            return self._set(node, op_outputs(self.builder, node, [v for v, _ in states]), None)
        done = self._split_node(node, states, splits[0])
        if done is None:
            whole = [self._whole(v, s) for v, s in states]
            return self._set(node, op_outputs(self.builder, node, whole), None)
        return self._set(node, (done[0],), done[1])

    def _set(self, node: Node, values: Sequence[Value], split: Split | None) -> None:
        self.states.update({
            old: (new, split) for old, new in zip(node.outputs, values, strict=True)
        })  # fmt: skip

    def _split_node(
        self, node: Node, states: list[State], split: Split
    ) -> tuple[Value, Split] | None:
        op, add = node.op, self.builder.add
        value = states[0][0]
        if isinstance(op, Elementwise):
            parts = [self._like(v, s, split) for v, s in states]
            return None if None in parts else (add(op, *[p for p in parts if p]), split)
        if isinstance(op, Attention) and not op.packed:
            return self._attention(op, states)
        if isinstance(op, Rotary) and not op.packed and split.dim == HEAD_DIM:
            return add(op, *[v for v, _ in states]), split
        if isinstance(op, RmsNorm) and split.dim < len(value.shape) - 1:
            return add(op, *[v for v, _ in states]), split
        if isinstance(op, DynamicUpdateSlice) and states[0][1] == states[1][1]:
            return add(op, *[v for v, _ in states]), split
        if isinstance(op, Concatenate) and op.dim != split.dim:
            return (
                (add(op, *[v for v, _ in states]), split)
                if all(s == split for _, s in states)
                else None
            )
        if len(states) > 1:
            return None
        return self._moved(node, value, split)

    def _moved(self, node: Node, value: Value, split: Split) -> tuple[Value, Split] | None:
        op, add = node.op, self.builder.add
        if isinstance(op, Transpose):
            return add(op, value), replace(split, dim=op.permutation.index(split.dim))
        if isinstance(op, Reduce) and split.dim not in op.dims:
            less = sum(dim < split.dim for dim in op.dims)
            return add(op, value), replace(split, dim=split.dim - less)
        if isinstance(op, Slice):
            return self._slice(op, node.inputs[0].shape, value, split)
        if isinstance(op, Reshape):
            return self._reshape(node, value, split)
        if isinstance(op, BroadcastInDim):
            dim = op.dims[split.dim]
            if op.shape[dim] == node.inputs[0].shape[split.dim] and len(split.sections) < 2:  # noqa: PLR2004
                moved = Split(dim, split.parts)
                return add(BroadcastInDim(moved.local(op.shape), op.dims), value), moved
        return None

    def _slice(
        self, op: Slice, shape: Shape, value: Value, split: Split
    ) -> tuple[Value, Split] | None:
        d = split.dim
        start, limit = list(op.start), list(op.limit)
        if op.stride[d] != 1:
            return None
        edges = [int(e) for e in np.cumsum((0, *(split.sections or (shape[d],))))]
        if start[d] not in edges or limit[d] not in edges:
            return None
        first, last = edges.index(start[d]), edges.index(limit[d])
        sections = tuple((split.sections or (shape[d],))[first:last])
        start[d], limit[d] = start[d] // split.parts, limit[d] // split.parts
        kept = sections if len(sections) > 1 else ()
        local = self.builder.add(Slice(tuple(start), tuple(limit), op.stride), value)
        return local, Split(d, split.parts, kept)

    def _reshape(self, node: Node, value: Value, split: Split) -> tuple[Value, Split] | None:
        """The split dim must be the slow part of the dims it is cut into or joined from."""
        old, new = node.inputs[0].shape, node.outputs[0].shape
        before = math.prod(old[: split.dim])
        for dim in range(len(new)):
            if math.prod(new[:dim]) != before or len(split.sections) > 1:
                continue
            if new[dim] % split.parts == 0 and _nested(old[split.dim :], new[dim:]):
                moved = Split(dim, split.parts)
                return self.builder.add(Reshape(moved.local(new)), value), moved
        return None

    def _like(self, value: Value, own: Split | None, split: Split) -> Value | None:
        """A replicated operand in the local shape of a split one, when every part is alike."""
        if own == split:
            return value
        maker = self.builder.maker(value)
        if own is not None or maker is None:
            return None
        if isinstance(maker.op, Constant) and maker.op.is_splat:
            return self.builder.add(replace(maker.op, shape=split.local(value.shape)))
        if isinstance(maker.op, BroadcastInDim):
            source = maker.inputs[0]
            spans = [n for n, d in zip(source.shape, maker.op.dims, strict=True) if d == split.dim]
            if not spans or spans == [1]:
                local = BroadcastInDim(split.local(value.shape), maker.op.dims)
                return self.builder.add(local, source)
        return None

    # -- products -----------------------------------------------------------------------------

    def _linear(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, Linear)
        x, split = self._state(node.inputs[0])
        weight = node.inputs[1]
        rows, columns = (1, 0) if op.weight == "nk" else (0, 1)
        if split is not None and split.dim == len(x.shape) - 1:
            if split.parts != self.ranks:
                raise self._refused(weight, f"would sum {split.parts} shared parts")
            cut = self._kernel(weight, Split(rows, split.parts, split.sections))
            bare = self.builder.add(replace(op, activation=""), x, cut)
            total = self.builder.add(AllReduce(AXES, self.ranks), bare)
            return self._set(node, (self._finished(op, node, total),), None)
        parts = self._column_parts(weight, columns)
        if parts is None or weight not in self.graph.parameters:
            given = [x, *(self._state(v)[0] for v in node.inputs[1:])]
            return self._set(node, op_outputs(self.builder, node, given), split)
        sections = self._sections(node.outputs[0])
        split = Split(len(x.shape) - 1, parts, sections)
        given = [x, self._kernel(weight, Split(columns, parts, sections))]
        given += [self._outer(b, Split(0, parts, sections))[0] for b in node.inputs[2:]]
        return self._set(node, (self.builder.add(op, *given),), split)

    def _kernel(self, weight: Value, split: Split) -> Value:
        return self._outer(weight, split)[0]

    def _finished(self, op: Linear, node: Node, total: Value) -> Value:
        """Bias and activation after the sum over ranks."""
        add = self.builder.add
        for bias in node.inputs[2:]:
            row = self._state(bias)[0]
            total = add(Add(), total, add(BroadcastInDim(total.shape, (len(total.shape) - 1,)),
                                          row))  # fmt: skip
        if op.activation:
            raise GraphError("an activation behind a row-parallel linear", got=op.activation)
        return total

    def _column_parts(self, weight: Value, dim: int) -> int | None:
        """Parts of a column-parallel weight; None for one that every rank holds whole."""
        path = weight.name.removesuffix(".weight").removesuffix(".T")
        if not _named(path, COLUMN):
            return None
        parts = self.ranks
        if _named(path, KEY_HEADS):
            heads = self._key_heads(weight)
            if heads and heads % parts:
                if parts % heads:
                    raise self._refused(weight, f"has {heads} key heads")
                parts = heads
        if weight.shape[dim] % parts:
            raise self._refused(weight, f"has {weight.shape[dim]} columns")
        return parts

    def _key_heads(self, weight: Value) -> int:
        """Key heads of the attention that a projection feeds; 0 when it feeds none."""
        frontier = {v for node in self.users.get(weight, []) for v in node.outputs}
        for _ in range(12):
            nodes = [n for v in frontier for n in self.users.get(v, [])]
            for node in nodes:
                if isinstance(node.op, Attention):
                    return node.op.kv_heads
            frontier = {v for n in nodes for v in n.outputs}
        return 0

    def _sections(self, value: Value) -> tuple[int, ...]:
        """Sizes of the slices that cut a projection's last dim; () when nothing cuts it."""
        last = len(value.shape) - 1
        cuts = sorted(
            (n.op.start[last], n.op.limit[last])
            for n in self.users.get(value, [])
            if isinstance(n.op, Slice)
        )
        sizes = tuple(b - a for a, b in cuts)
        return sizes if sum(sizes) == value.shape[last] and len(sizes) > 1 else ()

    def _experts(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, ExpertLinear)
        (x, split), (index, _) = self._state(node.inputs[0]), self._state(node.inputs[2])
        weight = node.inputs[1]
        rows, columns = (2, 1) if op.weight == "nk" else (1, 2)
        if split is not None and split.dim == 1:
            cut = self._kernel(weight, Split(rows, split.parts, split.sections))
            total = self.builder.add(AllReduce(AXES, self.ranks),
                                     self.builder.add(op, x, cut, index))  # fmt: skip
            return self._set(node, (total,), None)
        sections = self._sections(node.outputs[0])
        width = weight.shape[columns]
        if any(n % self.ranks for n in sections or (width,)):
            raise self._refused(weight, f"has {width} columns per expert")
        cut = self._kernel(weight, Split(columns, self.ranks, sections))
        product = self.builder.add(op, x, cut, index)
        return self._set(node, (product,), Split(1, self.ranks, sections))

    def _attention(self, op: Attention, states: list[State]) -> tuple[Value, Split] | None:
        splits = [s for _, s in states[:3]]
        if any(s is None or s.dim != HEAD_DIM for s in splits) or splits[1] != splits[2]:
            return None
        query, key = splits[0], splits[1]
        assert query is not None
        assert key is not None
        if any(s is not None for _, s in states[3:]):
            return None
        masks = [v for v, _ in states[3:]]
        if any(m.shape[HEAD_DIM] != 1 for m in masks):
            return None
        local = replace(op, heads=op.heads // query.parts, kv_heads=op.kv_heads // key.parts)
        value = self.builder.add(local, *[v for v, _ in states[:3]], *masks)
        return value, query


def op_outputs(builder: GraphBuilder, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """The node's operation on new inputs."""
    return builder.emit(node.op, *inputs, hint=node.outputs[0].name)


def _named(path: str, names: Sequence[str]) -> bool:
    """Whether a parameter's path ends with one of these module names."""
    return any(path == name or path.endswith("." + name) for name in names)


def _nested(old: Shape, new: Shape) -> bool:
    """Whether the first dim of one shape begins with, or is begun by, that of the other."""
    return old[0] % new[0] == 0 or new[0] % old[0] == 0


__all__ = ["AXIS", "Sharded", "Split", "shard"]
