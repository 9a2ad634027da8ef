"""One rank's graph of a model that is split over a mesh."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from tenzing.compiler.graph import Graph
from tenzing.compiler.passes.cleanup import CommonSubexpressions, DeadCode, Simplify
from tenzing.compiler.passes.pipeline import Pipeline
from tenzing.compiler.passes.sharding.dense import shard_dense
from tenzing.compiler.passes.sharding.experts import split_experts
from tenzing.compiler.passes.sharding.layout import AXIS, EXPERT_AXIS, Section, Sharded, Split
from tenzing.compiler.passes.sharding.search import SearchBeforeGather
from tenzing.compiler.passes.sharding.sums import DelaySums
from tenzing.errors import UsageError
from tenzing.fabric import Mesh

AXES: Final = (AXIS, EXPERT_AXIS)
TIDY: Final = Pipeline((CommonSubexpressions(), Simplify(), DeadCode()))


def shard(
    graph: Graph, mesh: Mesh, sequence: bool = False, streams: Collection[str] = ()
) -> Sharded:
    """One rank's graph of ``graph``, collectives inserted.

    Projections are split by columns or heads, those behind them by rows with a sum over ranks;
    attention by heads, key heads shared by ranks when there are fewer; tables and logits by
    vocabulary. All this is cut over all ranks; the experts of a mixture over the axis ``ep``, and
    inside their width over ``tp``. ``sequence`` also cuts the tokens between products, and those of
    the inputs ``streams`` [batch, tokens, width], which come from such a place. Raises
    UsageError when a model cannot be split that way, naming the parameter, or for other axes.
    """
    check_axes(mesh)
    inner = tuple(name for name in mesh.names if name == AXIS)
    dense = shard_dense(TIDY.run(graph), mesh, mesh.names, inner, sequence, streams)
    sharded = split_experts(dense)
    after = (DelaySums(mesh.names), DeadCode(), SearchBeforeGather(), DeadCode())
    return replace(sharded, graph=Pipeline(after).run(sharded.graph))


def check_axes(mesh: Mesh) -> None:
    """Raise UsageError for axes that mean nothing here."""
    if not set(mesh.names) <= set(AXES):
        raise UsageError("mesh axes", got=dict(mesh.axes), allowed=" and ".join(AXES))


__all__ = ["AXIS", "EXPERT_AXIS", "Section", "Sharded", "Split", "check_axes", "shard"]
