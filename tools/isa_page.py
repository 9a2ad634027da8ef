"""The reference page of the instruction set, from the classes and their tested examples."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from generated import ROOT
from stub_text import declaration
from stubs import instruction_parameters

from tenzing import facts
from tenzing.facts import Chip
from tenzing.isa import REGISTRY, Engine, Exactness, Instruction
from tenzing.isa.instruction import Cost, OperandSpec
from tenzing.isa.operand import Layout
from tenzing.units import PS_PER_NS

SIZE: Final = 512  # what the examples are built with: a PSUM bank of float32
EXAMPLES: Final = ("tests.isa.cases", "tests.isa.cases_tensor_dma")  # legal on every chip
ENGINE_ORDER: Final = (
    Engine.tensor, Engine.vector, Engine.scalar, Engine.gpsimd, Engine.dma, Engine.sync,
)  # fmt: skip
EXACTNESS: Final = {
    Exactness.exact: "the documented meaning fixes every bit",
    Exactness.bounded: "close to the silicon's result, not bit for bit",
    Exactness.modelled: "the documentation leaves the bits open; ours are one choice",
}
INTRODUCTION: Final = f"""\
# Instructions

Every function of `nki.isa`. Costs are in nanoseconds, of the example beside them (size {SIZE}):
first how long the engine is *busy* and takes no other instruction, then the *latency* from
dispatch to the visible result. Of a transfer: busy queue, then the data phase with the number of
DMA engines that share it, then the fixed part. Waiting for operands, queues and shared bandwidth
is extra. How time is computed from them: [timing](../explanation/timing.md). What the marks of
exactness mean: [numerics](../explanation/numerics.md). The facts named are on the chips' pages:
{{chips}}.
"""


def isa_page() -> str:
    """Every instruction, grouped by the first engine that runs it."""
    examples = load_examples()
    links = ", ".join(f"[{name}](chips/{name}.md)" for name in facts.chips())
    lines = [INTRODUCTION.format(chips=links)]
    groups = [(e, [k for k in REGISTRY.values() if k.engines[0] is e]) for e in ENGINE_ORDER]
    lines += [
        f"- **{engine.name}**: " + ", ".join(f"[{k.nki}](#{k.nki})" for k in _sorted(kinds))
        for engine, kinds in groups
        if kinds
    ]
    for engine, kinds in groups:
        if kinds:
            lines += ["", f"## {engine.name.capitalize()} engine"]
        for kind in _sorted(kinds):
            lines += ["", *instruction_section(kind, examples)]
    return "\n".join(lines) + "\n"


def load_examples() -> dict[str, Callable[[Chip, int], Any]]:
    """The legal example of every instruction and variant that the law tests use."""
    sys.path.insert(0, str(ROOT))
    try:
        modules = [importlib.import_module(name) for name in EXAMPLES]
    finally:
        sys.path.remove(str(ROOT))
    return {name: builder for module in modules for name, builder in module.CASES.items()}


def _sorted(kinds: Iterable[type[Instruction]]) -> list[type[Instruction]]:
    return sorted(kinds, key=lambda kind: kind.nki)


def instruction_section(
    kind: type[Instruction], examples: dict[str, Callable[[Chip, int], Any]]
) -> list[str]:
    """Signature, meaning, operands, limits and cost of one instruction."""
    signature = declaration(kind.nki, instruction_parameters(kind), "None", None)
    lines = [f"### {kind.nki}", "", "```text", signature.removesuffix(": ..."), "```", ""]
    lines += [markdown(kind.__doc__ or ""), ""]
    lines += [
        f"Engines: {', '.join(e.name for e in kind.engines)}. "
        f"Exactness: **{kind.exactness.value}** ({EXACTNESS[kind.exactness]}). "
        f"Since NeuronCore-v{kind.since}.",
        "",
        *operand_table(kind),
    ]
    mine = {n: b for n, b in examples.items() if n.split("/")[0] == kind.nki}
    return [*lines, "", *cost_table(mine), *_facts_lines(mine)]


def markdown(doc: str) -> str:
    """A docstring as Markdown: its literals have two back quotes."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(doc))


def operand_table(kind: type[Instruction]) -> list[str]:
    """Role, memories, dtypes and size limits of every tensor operand."""
    lines = [
        "| operand | role | memories | dtypes | limits |",
        "|---|---|---|---|---|",
    ]
    return lines + [_operand_row(name, spec) for name, spec in kind.operands.items()]


def _operand_row(name: str, spec: OperandSpec) -> str:
    role = spec.role + (", optional" if spec.optional else "")
    spaces = ", ".join(s.name for s in spec.spaces) + (" or a number" if spec.scalar else "")
    dtypes = ", ".join(spec.dtypes) or "any"
    on_chip = any(s.on_chip for s in spec.spaces)
    limits = f"partitions `{spec.partitions_fact}`, free `{spec.free_fact}`" if on_chip else ""
    return f"| `{name}` | {role} | {spaces} | {dtypes} | {limits} |"


def cost_table(examples: dict[str, Callable[[Chip, int], Any]]) -> list[str]:
    """Busy and latency of each example on each chip."""
    names = facts.chips()
    newest = facts.chip(names[-1])
    rows = [["example", *names], ["---"] * (1 + len(names))]
    for label, build in examples.items():
        example = _example_text(label, build(newest, SIZE).template)
        rows.append([example, *(_cost_cell(build, facts.chip(name)) for name in names)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cost_cell(build: Callable[[Chip, int], Any], chip: Chip) -> str:
    template: Instruction = build(chip, SIZE).template
    if template.broken_rules(chip):
        return "refused"
    cost = cost_text(template.cost(chip))
    return f"{cost} ({template.engine_on(chip).name})" if len(template.engines) > 1 else cost


def cost_text(cost: Cost) -> str:
    """Busy and latency in nanoseconds; of a transfer, its data phase and its fixed part."""
    moved = cost.transfer
    if moved is None:
        return f"{_ns(cost.issue_ps)}, {_ns(cost.latency_ps)}"
    return (
        f"{_ns(cost.issue_ps)}, {_ns(moved.service_ps)} on {moved.engines}, {_ns(moved.fixed_ps)}"
    )


def _ns(time_ps: float) -> str:
    return f"{time_ps / PS_PER_NS:.1f}"


def _example_text(label: str, template: Instruction) -> str:
    variant = label.partition("/")[2]
    shapes = ", ".join(f"{name} {_layout(layout)}" for name, _, layout in template.layouts())
    return f"{variant}: {shapes}" if variant else shapes


def _layout(layout: Layout) -> str:
    shape = "x".join(map(str, layout.shape))
    return f"{layout.space.name} {_dtype(layout)}[{shape}]"


def _dtype(layout: Layout) -> str:
    return (layout.dtype.names or (layout.dtype.name,))[0]


def _facts_lines(examples: dict[str, Callable[[Chip, int], Any]]) -> list[str]:
    """The facts that legality and cost of the examples asked for."""
    legality, cost = set[str](), set[str]()
    for build in examples.values():
        for name in facts.chips():
            template, chip = build(facts.chip(name), SIZE).template, facts.chip(name)
            broken = template.broken_rules(chip)
            legality |= set(chip.used)
            if not broken:
                chip = facts.chip(name)
                template.cost(chip)
                cost |= set(chip.used)
    return ["", f"Limits from {_keys(legality)}. Cost from {_keys(cost)}."]


def _keys(paths: Iterable[str]) -> str:
    listed: Sequence[str] = sorted(paths)
    return ", ".join(f"`{path}`" for path in listed) or "no facts"
