"""How much of the time between ranks the rest of a program hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenzing.compiler.graph import Graph, Value


def overlapped_ps(graph: Graph, ends_ps: Sequence[int], waits_ps: Mapping[int, int]) -> int:
    """Makespan of a program whose collectives run beside the nodes that do not wait for them.

    ``ends_ps``: when everything up to each node is done, without collectives; ``waits_ps``: the
    duration of each collective by node number. Nodes keep their order: one starts when the node
    before it has made its progress and everything it reads is there. Collectives run one after
    another, each once its input is there. What follows a collective and does not depend on it
    hides it; nothing is reordered, split or run twice for that.
    """
    ready: dict[Value, int] = {}
    now, link, before = 0, 0, 0
    for number, (node, end) in enumerate(zip(graph.nodes, ends_ps, strict=True)):
        given = max((ready.get(v, 0) for v in node.inputs), default=0)
        spent, before = max(end - before, 0), max(end, before)
        if number in waits_ps:
            # a collective reads what nodes before it wrote, which the queue has reached by now
            link = max(given, now + spent, link) + waits_ps[number]
            now += spent
            done = link
        else:
            now = max(now, given) + spent
            done = now
        ready.update((value, done) for value in node.outputs)
    return max(now, link)


__all__ = ["overlapped_ps"]
