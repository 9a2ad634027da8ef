"""The rules of the graph IR, checked after import and after every pass."""

from __future__ import annotations

from tenzing.compiler.graph import Graph, GraphError, Node, Value
from tenzing.errors import Finding, TenzingError


class BrokenGraph(GraphError):
    """A graph breaks one or more rules; all of them are listed."""

    def __init__(self, graph: str, stage: str, findings: list[Finding]) -> None:
        first = findings[0]
        super().__init__(f"graph {graph} is broken {stage}: {first.message}", where=first.loc)
        self.findings = tuple(findings)

    def render(self) -> str:
        """Every broken rule on its own lines."""
        return "\n".join([str(self), *(f"  {f.render()}" for f in self.findings)])


def verify(graph: Graph, stage: str = "after import") -> Graph:
    """Return ``graph`` unchanged, or raise BrokenGraph naming every broken rule.

    Rules: names are unique; values are defined before use, with the type of their definition;
    types equal what each op infers; outputs are defined; aliases join equal types; graphs
    inside nodes keep the same rules.
    """
    checker = _Checker()
    for value in (*graph.inputs, *graph.parameters):
        checker.define(value, None)
    for node in graph.nodes:
        checker.node(node)
    for value in graph.outputs:
        checker.use(value, None)
    checker.aliases(graph)
    if graph.preparation is not None:
        checker.preparation(graph, graph.preparation)
        verify(graph.preparation, stage)
    if checker.findings:
        raise BrokenGraph(graph.name, stage, checker.findings)
    return graph


class _Checker:
    def __init__(self) -> None:
        self.defined: dict[str, Value] = {}
        self.findings: list[Finding] = []

    def report(self, message: str, node: Node | None) -> None:
        self.findings.append(Finding("graph", message, node.loc if node else None))

    def define(self, value: Value, node: Node | None) -> None:
        if value.name in self.defined:
            self.report(f"%{value.name} is defined twice", node)
        if any(size < 0 for size in value.shape):
            self.report(f"%{value.name} has a negative dim: {value.type}", node)
        self.defined[value.name] = value

    def use(self, value: Value, node: Node | None) -> None:
        where = node.op.name if node else "the graph's outputs"
        definition = self.defined.get(value.name)
        if definition is None:
            self.report(f"{where} uses %{value.name} before it is defined", node)
        elif definition != value:
            self.report(f"{where} uses {value} but it is defined as {definition.type}", node)

    def regions(self, node: Node) -> None:
        """The graphs that a node holds keep the same rules and read nothing from outside."""
        for region in node.op.regions:
            try:
                verify(region, f"inside {node.op.name}")
            except BrokenGraph as broken:
                self.findings.extend(broken.findings)
            if region.parameters or region.aliases or region.preparation is not None:
                self.report(f"{region.name} inside {node.op.name} has parameters or aliases", node)

    def node(self, node: Node) -> None:
        self.regions(node)
        for value in node.inputs:
            self.use(value, node)
        try:
            expected = node.op.infer(*(value.type for value in node.inputs))
        except TenzingError as error:
            self.report(f"{node.op.name}: {error}", node)
        else:
            got = tuple(value.type for value in node.outputs)
            if got != expected:
                self.report(f"{node.op.name} yields {_types(expected)}, not {_types(got)}", node)
        for value in node.outputs:
            self.define(value, node)

    def aliases(self, graph: Graph) -> None:
        sources = {value.name: value for value in (*graph.inputs, *graph.parameters)}
        for alias in graph.aliases:
            if not 0 <= alias.output < len(graph.outputs):
                self.report(f"alias names output {alias.output} of {len(graph.outputs)}", None)
            elif alias.target not in sources:
                self.report(f"alias target %{alias.target} is no input or parameter", None)
            elif graph.outputs[alias.output].type != sources[alias.target].type:
                self.report(f"alias of %{alias.target} joins different types", None)

    def preparation(self, graph: Graph, preparation: Graph) -> None:
        prepared = {value.name: value.type for value in preparation.outputs}
        for value in graph.parameters:
            if prepared.get(value.name, value.type) != value.type:
                self.report(f"%{value.name} is prepared as {prepared[value.name]}", None)


def _types(types: tuple[object, ...]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"
