"""Programs written per rank: ``shard_map`` as Shardy's manual computation, and collectives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.frontends.hlo.mlir import Operation, functions, tensor_type
from tenzing.compiler.frontends.hlo.reader import RETURNS, Found, Reader, hlo
from tenzing.compiler.frontends.hlo.reduction import combiner
from tenzing.compiler.graph import GraphBuilder, Shape, Value
from tenzing.compiler.passes.sharding import Sharded, Split
from tenzing.compiler.verify import verify
from tenzing.errors import UnsupportedOp
from tenzing.fabric import Mesh

AXIS: Final = re.compile(r'axis_ref<name = "([^"]+)"')
MANUAL: Final = "sdy.manual_computation"
COMBINED: Final = {"add": "add", "maximum": "max", "minimum": "min"}


class Written(NamedTuple):
    """A manual computation, and which argument of the program each of its operands is."""

    operation: Operation
    arguments: list[int]


def read_sharded(module: Any, name: str, names: Sequence[str]) -> Sharded | None:
    """The graph of one rank when the program is one manual computation; None when it has none.

    Raises UnsupportedOp when something stands around the computation.
    """
    table = functions(module)
    main = table.get("main") or next(iter(table.values()))
    block = main.regions[0].blocks[0]
    if not any(_is_manual(function) for function in table.values()):
        return None
    operation, arguments = _written(table, block, list(range(len(block.arguments))))
    mesh = _mesh(module, operation)
    builder = GraphBuilder(name)
    reader = Reader(builder, table, mesh)
    inner = operation.blocks()[0]
    kinds = [tensor_type(value.type) for value in inner.arguments]
    chosen = [names[k] for k in arguments]
    given = [builder.input(n, t.shape, t.dtype) for n, t in zip(chosen, kinds, strict=True)]
    results = reader.block(inner, given)
    cuts = _cuts(operation, "in_shardings", [v.shape for v in given], mesh)
    outputs = _cuts(operation, "out_shardings", [v.shape for v in results], mesh)
    by_name = {value.name: value for value in given}
    builder.inputs = [
        by_name.get(n) or Value(n, kind.shape, kind.dtype)  # one that no rank reads
        for n, kind in zip(names, (tensor_type(v.type) for v in block.arguments), strict=True)
    ]
    return Sharded(verify(builder.build(results)), mesh,
                   dict(zip(by_name, cuts, strict=True)), tuple(outputs))  # fmt: skip


def whole(value: Value, sharded: Sharded | None) -> Value:
    """An input as the caller gives it, before it is cut."""
    shape = list(value.shape)
    for split in reversed(sharded.cuts.get(value.name, ()) if sharded else ()):
        shape[split.dim] = split.size
    return replace(value, shape=tuple(shape))


def _is_manual(function: Any) -> bool:
    return any(raw.operation.name == MANUAL for raw in function.regions[0].blocks[0].operations)


def _written(table: Mapping[str, Any], block: Any, places: list[int]) -> Written:
    """The manual computation that a function consists of, through calls around it."""
    own = dict(zip(block.arguments, places, strict=True))
    first, *rest = [Operation(raw.operation) for raw in block.operations]
    returned = rest[0] if len(rest) == 1 and rest[0].name in RETURNS else None
    alone = returned is not None and returned.operands == first.results
    if not alone or first.name not in (MANUAL, "func.call") or set(first.operands) - set(own):
        raise UnsupportedOp(
            "something stands around a shard_map", got=first.name, where=first.loc,
            next_step="put all of the function inside the shard_map",
        )  # fmt: skip
    arguments = [own[value] for value in first.operands]
    if first.name == MANUAL:
        return Written(first, arguments)
    return _written(table, table[first.text("callee")].regions[0].blocks[0], arguments)


def _mesh(module: Any, operation: Operation) -> Mesh:
    """The mesh that the computation names; all of its axes must be manual."""
    from jaxlib.mlir.dialects import sdy

    for raw in module.body.operations:
        if raw.operation.name == "sdy.mesh":
            found = sdy.MeshAttr(raw.operation.attributes["mesh"])
            axes = [sdy.MeshAxisAttr(axis) for axis in found.axes]
            manual = str(operation.attribute("manual_axes"))
            free = [a.name for a in axes if a.size > 1 and f'"{a.name}"' not in manual]
            numbered = list(found.device_ids)
            if axes and not free and numbered in ([], sorted(numbered)):
                return Mesh(tuple((axis.name, axis.size) for axis in axes))
            if axes:
                raise UnsupportedOp(
                    "a shard_map over some axes of a mesh, or over devices in another order",
                    got=", ".join(free) or numbered, where=operation.loc,
                    next_step="name every axis of the mesh in shard_map",
                )  # fmt: skip
    raise UnsupportedOp("a shard_map without a mesh", where=operation.loc)


def _cuts(
    operation: Operation, name: str, shapes: Sequence[Shape], mesh: Mesh
) -> list[tuple[Split, ...]]:
    """How each value lies on the ranks; an axis cuts what the ones before it left."""
    from jaxlib.mlir.dialects import sdy

    shardings = sdy.TensorShardingPerValueAttr(operation.attribute(name)).shardings
    found = []
    for sharding, shape in zip(shardings, shapes, strict=True):
        splits: list[Split] = []
        for dim, entry in enumerate(sdy.TensorShardingAttr(sharding).dimension_shardings):
            axes = [sdy.AxisRefAttr(a).name for a in sdy.DimensionShardingAttr(entry).axes]
            size = shape[dim] * mesh.size(axes)
            for axis in axes:
                splits.append(Split.of(dim, size, mesh.size([axis]), (axis,)))
                size //= mesh.size([axis])
        found.append(tuple(splits))
    return found


# -- collectives -------------------------------------------------------------------------------


def _axes(reader: Reader, operation: Operation) -> tuple[tuple[str, ...], int]:
    """The mesh axes along which the groups of a collective meet, and the size of a group."""
    mesh = _of(reader, operation)
    named = AXIS.findall(str(operation.attribute("replica_groups")))
    if named:  # newer releases of JAX name the axes themselves
        axes = tuple(name for name in mesh.names if name in named)
        return axes, mesh.size(axes)
    groups = np.asarray(operation.attribute("replica_groups")).tolist()
    for axes in _subsets(mesh):
        if sorted(map(tuple, groups)) == sorted(mesh.groups(axes)):
            return axes, mesh.size(axes)
    raise reader.unsupported(operation, f"in groups {groups} that follow no axes of the mesh")


def _of(reader: Reader, operation: Operation) -> Mesh:
    if reader.mesh is None:
        raise reader.unsupported(operation, "outside shard_map")
    return reader.mesh


def _subsets(mesh: Mesh) -> Iterator[tuple[str, ...]]:
    for count in range(1, len(mesh.names) + 1):
        yield from combinations(mesh.names, count)


@hlo("stablehlo.all_reduce")
def _all_reduce(reader: Reader, operation: Operation, *operands: Value) -> Found:
    axes, ranks = _axes(reader, operation)
    op = ops.AllReduce(axes, ranks, _combine(reader, operation))
    return [reader.add(op, x) for x in operands]


def _combine(reader: Reader, operation: Operation) -> str:
    kind = combiner(reader, operation, operation.blocks()[0])
    if kind not in COMBINED:
        raise reader.unsupported(operation, f"with {kind}")
    return COMBINED[kind]


@hlo("stablehlo.all_gather")
def _all_gather(reader: Reader, operation: Operation, *operands: Value) -> Found:
    axes, ranks = _axes(reader, operation)
    op = ops.AllGather(axes, ranks, operation.integer("all_gather_dim"))
    return [reader.add(op, x) for x in operands]


@hlo("stablehlo.reduce_scatter")
def _reduce_scatter(reader: Reader, operation: Operation, x: Value) -> Value:
    axes, ranks = _axes(reader, operation)
    dim = operation.integer("scatter_dimension")
    return reader.add(ops.ReduceScatter(axes, ranks, dim, _combine(reader, operation)), x)


@hlo("stablehlo.all_to_all")
def _all_to_all(reader: Reader, operation: Operation, *operands: Value) -> Found:
    axes, ranks = _axes(reader, operation)
    dims = operation.integer("split_dimension"), operation.integer("concat_dimension")
    return [reader.add(ops.AllToAll(axes, ranks, *dims), x) for x in operands]


@hlo("stablehlo.collective_permute")
def _collective_permute(reader: Reader, operation: Operation, x: Value) -> Value:
    """Pairs of ranks that are the same pairs of places in every group along some axes."""
    mesh = _of(reader, operation)
    given = np.asarray(operation.attribute("source_target_pairs")).reshape(-1, 2).tolist()
    pairs = set(map(tuple, given))
    for axes in _subsets(mesh):
        local = {(mesh.place(s, axes), mesh.place(t, axes)) for s, t in pairs}
        spread = {(group[s], group[t]) for group in mesh.groups(axes) for s, t in local}
        if spread == pairs:
            op = ops.CollectivePermute(axes, mesh.size(axes), tuple(sorted(local)))
            return reader.add(op, x)
    raise reader.unsupported(operation, "between ranks that follow no axes of the mesh")


@hlo("stablehlo.partition_id")
def _partition_id(reader: Reader, operation: Operation) -> Value:
    mesh = _of(reader, operation)
    place = reader.add(ops.AxisIndex(mesh.names, mesh.ranks))
    return reader.convert(place, operation.type.dtype)


@hlo("stablehlo.replica_id")
def _replica_id(reader: Reader, operation: Operation) -> Value:
    return reader.constant(0, operation.type.dtype)


__all__ = ["read_sharded", "whole"]
