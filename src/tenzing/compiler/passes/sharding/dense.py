"""Heads, projections and vocabulary cut over ranks, with the collectives that this needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from tenzing.compiler.graph import Alias, Graph, GraphBuilder, Node, Value
from tenzing.compiler.ops import (
    Add,
    AllGather,
    AllReduce,
    Attention,
    AxisIndex,
    BroadcastInDim,
    Concatenate,
    Constant,
    DynamicSlice,
    DynamicUpdateSlice,
    Elementwise,
    ExpertLinear,
    Gather,
    Linear,
    Multiply,
    ReduceScatter,
    Reshape,
    RmsNorm,
    Rotary,
    Slice,
    Subtract,
    TakeRows,
)
from tenzing.compiler.ops.reduction import RowComposite
from tenzing.compiler.passes.sharding.layout import Section, Sharded, Split
from tenzing.compiler.passes.sharding.moves import moved
from tenzing.compiler.passes.sharding.norms import cut_rms_norm
from tenzing.compiler.passes.sharding.plan import Plan
from tenzing.errors import UsageError
from tenzing.fabric import Mesh

TOKEN_DIM: Final = 1  # of activations [batch, tokens, width]
ACTIVATION_RANK: Final = 3
HEAD_DIM: Final = 1  # of queries, keys and caches [batch, heads, length, width]
INDEX: Final = np.dtype(np.int32)
State = tuple[Value, Split | None]


def shard_dense(
    graph: Graph, mesh: Mesh, axes: tuple[str, ...], inner: tuple[str, ...],
    sequence: bool = False, streams: Collection[str] = (),
) -> Sharded:  # fmt: skip
    """Everything but the choice of experts cut along ``axes``; experts' widths along ``inner``.

    ``sequence``: between products every rank holds its part of the tokens, so that norms and
    residuals are not computed on all ranks: a sum scatters them, the next product gathers them. The
    inputs ``streams`` are held that way from the start.
    """
    if mesh.size(axes) == 1:
        return Sharded(graph, mesh, {}, ((),) * len(graph.outputs))
    return _Sharder(graph, mesh, axes, inner, sequence, streams if sequence else ()).run()


@dataclass
class _Sharder:
    graph: Graph
    mesh: Mesh
    axes: tuple[str, ...]
    inner: tuple[str, ...]
    sequence: bool
    streams: Collection[str] = ()
    states: dict[Value, State] = field(default_factory=dict)
    cuts: dict[str, tuple[Split, ...]] = field(default_factory=dict)
    gathered: dict[tuple[Value, Split], Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.builder = GraphBuilder(self.graph.name, [v.name for v in self.graph.values()])
        self.ranks = self.mesh.size(self.axes)
        self.plan = Plan(self.graph, self.axes, self.ranks)
        self.outside = {*self.graph.inputs, *self.graph.parameters}

    def run(self) -> Sharded:
        for value in self.graph.inputs:
            if value.name in self.streams:
                self._outer(value, Split.of(TOKEN_DIM, value.shape[TOKEN_DIM], self.ranks,
                                            self.axes))  # fmt: skip
        for node in self.graph.nodes:
            self.builder.loc, self.builder.scope = node.loc, node.scope
            self._node(node)
        outputs, kept = [], []
        for value in self.graph.outputs:
            new, split = self._state(value)
            if split is not None and split.dim == len(new.shape) - 1:
                new, split = self._whole(new, split), None  # logits and the like
            outputs.append(new)
            kept.append(() if split is None else (split,))
        built = self.builder.build(outputs, [Alias(a.output, a.target) for a in self.graph.aliases])
        return Sharded(in_order(built, self.graph), self.mesh, self.cuts, tuple(kept))

    # -- values -------------------------------------------------------------------------------

    def _state(self, value: Value) -> State:
        if value not in self.states:
            assert value in self.outside
            self._outer(value, None)
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
            self.cuts[value.name] = (split,)
        self.states[value] = (local, split)
        return self.states[value]

    def _cut(self, value: Value, split: Split) -> Value:
        """A rank's part of a parameter, or of a value that every rank holds whole."""
        if value in self.outside:
            return self._outer(value, split)[0]
        part = self._like(*self._state(value), split)
        if part is None:
            raise self._refused(value, "cannot be cut")
        return part

    def _refused(self, value: Value, why: str) -> UsageError:
        return UsageError(
            f"%{value.name} {why}", got=f"{self.ranks} ranks", where=self.builder.loc,
            next_step="use a number of ranks that divides heads and widths",
        )  # fmt: skip

    def _whole(self, value: Value, split: Split | None) -> Value:
        """The value with all parts, gathered from the ranks."""
        if split is None:
            return value
        if (value, split) not in self.gathered:
            self.gathered[value, split] = self._gather(value, split)
        return self.gathered[value, split]

    def _gather(self, value: Value, split: Split) -> Value:
        dim, pieces, start = split.dim, [], 0
        ranks = self.mesh.size(split.axes)
        for section in split.sections:
            own = self._range(value, dim, start, start + section.step)
            start += section.step
            piece = self.builder.add(AllGather(split.axes, ranks, dim), own)
            if section.parts < ranks:  # the same part from several ranks: take it once
                piece = self._once(piece, dim, section, ranks // section.parts)
            pieces.append(self._range(piece, dim, 0, section.size))
        return pieces[0] if len(pieces) == 1 else self.builder.add(Concatenate(dim), *pieces)

    def _once(self, value: Value, dim: int, section: Section, copies: int) -> Value:
        lead, rest = value.shape[:dim], value.shape[dim + 1 :]
        apart = Reshape((*lead, section.parts, copies * section.step, *rest))
        one = self._range(self.builder.add(apart, value), dim + 1, 0, section.step)
        return self.builder.add(Reshape((*lead, section.parts * section.step, *rest)), one)

    def _range(self, value: Value, dim: int, start: int, limit: int) -> Value:
        """Positions ``start`` to ``limit`` of a dim."""
        if (start, limit) == (0, value.shape[dim]):
            return value
        low, high = [0] * len(value.shape), list(value.shape)
        low[dim], high[dim] = start, limit
        return self.builder.add(Slice(tuple(low), tuple(high), (1,) * len(low)), value)

    def _first(self, split: Split) -> Value | None:
        """The first position of a rank's part, int32 [1]; None when that is not so simple."""
        section, ranks = split.section, self.mesh.size(split.axes)
        if section is None or section.parts != ranks:
            return None
        place = self.builder.add(AxisIndex(split.axes, ranks))
        step = self.builder.add(Constant.splat(section.step, (), INDEX))
        return self.builder.add(Reshape((1,)), self.builder.add(Multiply(), place, step))

    def _part(self, value: Value, split: Split) -> Value | None:
        """A rank's part of what every rank holds whole; None if it cannot be cut out."""
        first = None if split.padded else self._first(split)
        if first is None or value.shape[split.dim] != split.size:
            return None
        zero = self.builder.add(Constant.splat(0, (1,), INDEX))
        where = [zero] * len(value.shape)
        where[split.dim] = first
        position = where[0] if len(where) == 1 else self.builder.add(Concatenate(0), *where)
        return self.builder.add(DynamicSlice(split.local(value.shape)), value, position)

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Linear):
            self._linear(node)
        elif isinstance(op, ExpertLinear):
            self._experts(node)
        elif isinstance(op, Gather) and node.inputs[0] in self.plan.tables:
            self._lookup(node)
        elif isinstance(op, RmsNorm) and self._cuts_rows(node):
            self._norm(node)
        else:
            self._other(node)

    def _cuts_rows(self, node: Node) -> bool:
        """Whether the rows of a norm are cut, and every rank has a part of its own."""
        value, split = self._state(node.inputs[0])
        cut = split is not None and split.dim == len(value.shape) - 1
        return cut and split is not None and split.everywhere(self.mesh.size(split.axes))

    def _norm(self, node: Node) -> None:
        op, (x, split) = node.op, self._state(node.inputs[0])
        assert isinstance(op, RmsNorm)
        assert split is not None
        weight = [self._cut(v, replace(split, dim=0)) for v in node.inputs[1:]]
        part = cut_rms_norm(self.builder, op, x, weight[0] if weight else None, split,
                            self.mesh.size(split.axes))  # fmt: skip
        self._set(node, (part,), split)

    def _other(self, node: Node) -> None:
        if isinstance(node.op, DynamicUpdateSlice) and node.inputs[0] in self.outside:
            self._outer(node.inputs[0], self._state(node.inputs[1])[1])
        states = [self._state(v) for v in node.inputs]
        for _, split in states:
            done = None if split is None else self._on_parts(node, states, split)
            if done is not None:
                self._set(node, (done[0],), done[1])
                return
        self._set(node, self._again(node, [self._whole(*s) for s in states]), None)

    def _again(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        return self.builder.emit(node.op, *inputs, hint=node.outputs[0].name)

    def _set(self, node: Node, values: Sequence[Value], split: Split | None) -> None:
        if split is not None and split.everywhere(1):  # one part, such as the only key head
            split = None
        pairs = zip(node.outputs, values, strict=True)
        self.states.update({old: (new, split) for old, new in pairs})

    def _on_parts(
        self, node: Node, states: list[State], split: Split
    ) -> tuple[Value, Split] | None:
        op, add = node.op, self.builder.add
        values = [v for v, _ in states]
        rowwise = isinstance(op, RowComposite) and split.dim < len(values[0].shape) - 1
        if isinstance(op, Elementwise):
            parts = [self._like(v, s, split) for v, s in states]
            return None if None in parts else (add(op, *[p for p in parts if p]), split)
        if isinstance(op, Attention) and not op.packed:
            return self._attention(op, states)
        if isinstance(op, Rotary):
            return (add(op, *values), split) if not op.packed and split.dim == HEAD_DIM else None
        if rowwise and states[0][1] == split:
            return add(op, *values), split
        if isinstance(op, DynamicUpdateSlice):
            return (add(op, *values), split) if states[0][1] == states[1][1] else None
        if isinstance(op, Concatenate):
            return self._joined(op, states, split)
        done = moved(op, node.inputs[0].shape, split) if len(states) == 1 else None
        return None if done is None else (add(done[0], *values), done[1])

    def _joined(
        self, op: Concatenate, states: list[State], split: Split
    ) -> tuple[Value, Split] | None:
        parts = [self._like(v, s, split) for v, s in states]
        if op.dim == split.dim or None in parts:
            return None
        return self.builder.add(op, *[p for p in parts if p]), split

    def _like(self, value: Value, own: Split | None, split: Split) -> Value | None:
        """A replicated operand in the local shape of a split one."""
        if own == split:
            return value
        maker = self.builder.maker(value)
        if own is not None:
            return None
        if maker is not None and isinstance(maker.op, Constant) and maker.op.is_splat:
            return self.builder.add(replace(maker.op, shape=split.local(value.shape)))
        if maker is not None and isinstance(maker.op, BroadcastInDim):
            source = maker.inputs[0]
            spans = [n for n, d in zip(source.shape, maker.op.dims, strict=True) if d == split.dim]
            if not spans or spans == [1]:
                local = BroadcastInDim(split.local(value.shape), maker.op.dims)
                return self.builder.add(local, source)
        return self._part(value, split)

    def _attention(self, op: Attention, states: list[State]) -> tuple[Value, Split] | None:
        query, key = (self._heads(s) for _, s in states[:2])
        if states[1][1] is None and op.kv_heads == 1:
            key = Section(1, 1)
        if query is None or key is None or states[1][1] != states[2][1]:
            return None
        split = states[0][1]
        assert split is not None
        masks = []
        for value, own in states[3:]:
            alike = value.shape[HEAD_DIM] == 1
            mask = value if alike and own is None else self._like(value, own, split)
            if mask is None:
                return None
            masks.append(mask)
        local = replace(op, heads=query.step, kv_heads=key.step)
        return self.builder.add(local, *[v for v, _ in states[:3]], *masks), split

    def _heads(self, split: Split | None) -> Section | None:
        return split.section if split is not None and split.dim == HEAD_DIM else None

    # -- products -----------------------------------------------------------------------------

    def _linear(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, Linear)
        x, split = self._state(node.inputs[0])
        weight = node.inputs[1]
        rows = 1 if op.weight == "nk" else 0
        last = len(x.shape) - 1
        plain = not op.activation and not op.residual and weight in self.graph.parameters
        if split is not None and split.dim == last:
            if plain and split.everywhere(self.ranks) and split.axes == self.axes:
                self._row_parallel(node, x, replace(split, dim=rows))
                return
            x, split = self._whole(x, split), None
        columns = None if op.residual else self.plan.columns.get(weight)
        if columns is None:
            given = [self._whole(*self._state(v)) for v in node.inputs[1:]]
            split = None if op.residual else split
            x = x if split else self._whole(*self._state(node.inputs[0]))
            self._set(node, self._again(node, [x, *given]), split)
            return
        given = [self._whole(x, split), self._outer(weight, replace(columns, dim=1 - rows))[0]]
        given += [self._cut(b, replace(columns, dim=0)) for b in node.inputs[2:]]
        self._set(node, (self.builder.add(op, *given),), replace(columns, dim=last))

    def _row_parallel(self, node: Node, x: Value, split: Split) -> None:
        add = self.builder.add
        product = add(node.op, x, self._outer(node.inputs[1], split)[0])
        total, kept = self._sum(product)
        for bias in node.inputs[2:]:  # once, behind the sum over ranks
            spread = BroadcastInDim(total.shape, (len(total.shape) - 1,))
            total = add(Add(), total, add(spread, self._whole(*self._state(bias))))
        self._set(node, (total,), kept)

    def _sum(self, product: Value) -> State:
        """The sum over ranks of [batch, tokens, width]: whole, or every rank's part of tokens."""
        tokens = product.shape[TOKEN_DIM] if len(product.shape) == ACTIVATION_RANK else 0
        if not self.sequence or not tokens or tokens % self.ranks:
            return self.builder.add(AllReduce(self.axes, self.ranks), product), None
        part = self.builder.add(ReduceScatter(self.axes, self.ranks, TOKEN_DIM), product)
        return part, Split.of(TOKEN_DIM, tokens, self.ranks, self.axes)

    def _experts(self, node: Node) -> None:
        op = node.op
        assert isinstance(op, ExpertLinear)
        x, split = self._state(node.inputs[0])
        index = self._whole(*self._state(node.inputs[2]))
        weight, ranks = node.inputs[1], self.mesh.size(self.inner)
        rows, columns = (2, 1) if op.weight == "nk" else (1, 2)
        if split is not None and split.dim == 1 and split.axes == self.inner:
            cut = self._outer(weight, replace(split, dim=rows))[0]
            product = self.builder.add(op, x, cut, index)
            self._set(node, (self.builder.add(AllReduce(self.inner, ranks), product),), None)
            return
        x = self._whole(x, split)
        if ranks == 1:
            self._set(node, self._again(node, [x, self._state(weight)[0], index]), None)
            return
        sections = self.plan.sections(node.outputs[0]) or (weight.shape[columns],)
        own = Split(1, tuple(Section(n, ranks) for n in sections), self.inner)
        cut = self._outer(weight, replace(own, dim=columns))[0]
        self._set(node, (self.builder.add(op, x, cut, index),), own)

    def _lookup(self, node: Node) -> None:
        """Rows of a table that is cut by rows: every rank has some, the others give zeros."""
        table, index = node.inputs
        add = self.builder.add
        split = self.plan.tables[table]
        local = self._outer(table, split)[0]
        places = add(Reshape((index.type.elements,)), self._whole(*self._state(index)))
        first = self._first(split)
        assert first is not None
        own = add(Subtract(), places, add(BroadcastInDim(places.shape, (0,)), first))
        rows = add(Reshape(node.outputs[0].shape), add(TakeRows(), local, own))
        total, kept = self._sum(rows)
        self._set(node, (total,), kept)


def in_order(built: Graph, like: Graph) -> Graph:
    """Inputs and parameters in the order of another graph.

    Inputs that nobody reads stay, and so does state that is only written.
    """
    order = {v.name: k for k, v in enumerate((*like.inputs, *like.parameters))}
    read = {v.name for v in (*built.inputs, *built.parameters)}
    written = {alias.target for alias in like.aliases}
    inputs = [v for v in like.inputs if v.name not in read]
    state = [v for v in like.parameters if v.name in written - read]

    def sort(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(sorted(values, key=lambda v: order[v.name]))

    return replace(built, inputs=sort((*built.inputs, *inputs)),
                   parameters=sort((*built.parameters, *state)))  # fmt: skip


__all__ = ["in_order", "shard_dense"]
