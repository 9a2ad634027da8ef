"""Changes to matrix products: narrower factors, sums that stay in PSUM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tenzing.errors import Loc
from tenzing.isa.operand import Space
from tenzing.isa.program import Template
from tenzing.isa.vector import TensorTensor
from tenzing.machine.advice.edits import Change, Edit, Recorded

FACTORS: Final = ("stationary", "moving")  # operands of a matrix product
FEWEST_SUMS: Final = 2


def narrow_products(recorded: Recorded) -> Iterator[Change]:
    """Lines that multiply in float32: the same in one pass."""
    program = recorded.program
    lines: dict[Loc | None, list[Template]] = defaultdict(list)
    for template in program.templates:
        pairs = zip(template.operands, template.layouts, strict=True)
        wide = [x.dtype.name == "float32" for name, x in pairs if name in FACTORS]
        if wide and all(wide) and template.instruction.flops():
            lines[template.loc].append(template)
    chip = program.chip
    share = chip.number("tensor.fp32_cycles_per_row") * chip.integer("tensor.fp32_passes")
    loads = chip.number("tensor.load_cycles_16bit") / chip.number("tensor.load_cycles_fp32")
    for loc, templates in lines.items():
        narrow = list(program.templates)
        for template in templates:
            cost = template.cost
            shorter = round(cost.issue_ps / share)
            saved = cost.issue_ps - shorter
            narrow[template.number] = replace(
                template,
                cost=replace(cost, issue_ps=shorter, latency_ps=cost.latency_ps - saved,
                             load_ps=round(cost.load_ps * loads)),
            )  # fmt: skip
        why = f"float32 takes {share:g} times the cycles of bf16"
        changed = replace(program, templates=narrow)
        yield Change(loc, "multiply in bf16", why, changed, recorded.dependencies)


def products_kept_in_psum(recorded: Recorded) -> Iterator[Change]:
    """Lines that add every product to a sum in SBUF: the sum in PSUM, read once."""
    lines: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
    for chain in _chains(recorded):
        loc = recorded.program.template(chain[0]).loc
        if loc is not None and len(chain) >= FEWEST_SUMS:
            lines[loc.file, loc.line].append(chain)
    for chains in lines.values():
        edit = Edit(recorded)
        for chain in chains:
            for index in chain[:-1]:
                edit.drop(index)
        count = sum(map(len, chains))
        why = f"{count} times a product leaves PSUM to be added in SBUF; PSUM adds for nothing"
        what = f"accumulate in PSUM over the loop, and read the sum once ({len(chains)} in all)"
        yield edit.change(recorded.program.template(chains[0][0]).loc, what, why)


def _chains(recorded: Recorded) -> Iterator[list[int]]:
    """Additions of a product in PSUM to a sum in SBUF, each to the sum of the one before."""
    program = recorded.program
    holds: dict[int, list[int]] = {}  # SBUF storage -> the additions that made its content
    products: set[int] = set()  # PSUM storages whose content is a matrix product
    for index, row in enumerate(program.rows):
        template = program.templates[row[0]]
        touched = {place: row[1 + 2 * place] for place in range(len(template.layouts))}
        if template.instruction.flops():
            products.update(touched[place] for place in template.writes)
            continue
        source = _sum_of(template, touched, products)
        chain = holds.pop(source, None) if source is not None else None
        for place in template.writes:
            replaced = holds.pop(touched[place], None)
            if replaced is not None:
                yield replaced
        if source is not None:
            holds[touched[template.writes[0]]] = [*(chain or ()), index]
    yield from holds.values()


def _sum_of(template: Template, touched: dict[int, int], products: set[int]) -> int | None:
    """The SBUF storage to which an instruction adds a product; None for any other instruction."""
    instruction = template.instruction
    if type(instruction) is not TensorTensor or instruction.op.name != "add":
        return None
    spaces = {place: template.layouts[place].space for place in template.reads}
    added = [place for place, space in spaces.items() if space is Space.PSUM]
    kept = [place for place, space in spaces.items() if space is Space.SBUF]
    if len(added) != 1 or len(kept) != 1 or touched[added[0]] not in products:
        return None
    return touched[kept[0]]


__all__ = ["narrow_products", "products_kept_in_psum"]
