"""Laws of every Tensor, GpSimd and DMA instruction on every chip, and of their cost."""

from typing import Any

import numpy as np
import pytest
from tests.isa.cases import Case, unwritten
from tests.isa.cases_tensor_dma import CASES, LARGEST

from tenzing import facts
from tenzing.facts import Chip
from tenzing.isa import dma, gpsimd, gpsimd_search, numerics, tensor
from tenzing.isa.instruction import REGISTRY, Engine, Instruction
from tenzing.isa.operand import Layout, Space

MODULES = {m.__name__ for m in (tensor, gpsimd, gpsimd_search, dma)}
MINE = sorted(n for n, kind in REGISTRY.items() if kind.__module__ in MODULES)


@pytest.fixture(params=facts.chips())
def chip(request: pytest.FixtureRequest) -> Chip:
    return facts.chip(request.param)


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def example(name: str, chip: Chip, size: int) -> Case:
    """The example, or a skip where this generation has no such instruction."""
    if chip.generation < REGISTRY[name.split("/")[0]].since:
        pytest.skip(f"{chip.name} has no {name}")
    return CASES[name](chip, size)


def run(template: Instruction, arrays: dict[str, Any]) -> Any:
    """The result of compute on fresh copies, with fresh registers."""
    copies = {k: None if v is None else v.copy() for k, v in arrays.items()}
    with np.errstate(all="ignore"):
        if template.stateful:
            return template.compute({}, **copies)
        result = template.compute(**copies)
    return copies["dst"] if result is None else result


def changed(template: Instruction, **fields: Any) -> Instruction:
    """The same call with other operands or attributes."""
    return type(template)(**{n: getattr(template, n) for n in template.specs} | fields)


def resized(layout: Layout, **changes: Any) -> Layout:
    """A dense layout with some of space, dtype and shape replaced."""
    fields = {"space": layout.space, "dtype": layout.dtype, "shape": layout.shape} | changes
    return Layout.dense(fields["space"], fields["dtype"], fields["shape"])


def test_every_instruction_has_an_example() -> None:
    assert sorted({n.split("/")[0] for n in CASES}) == MINE


@pytest.mark.parametrize("size", [1, 16, LARGEST])
def test_the_example_is_legal(name: str, chip: Chip, size: int) -> None:
    assert example(name, chip, size).template.broken_rules(chip) == []


def test_an_older_generation_refuses_with_the_one_it_needs(chip: Chip) -> None:
    for nki in MINE:
        if chip.generation < REGISTRY[nki].since:
            (text,) = CASES[nki](chip, 1).template.broken_rules(chip)
            assert text == f"{chip.name} has no {nki}; it needs NeuronCore-v3 or newer"


def test_partition_edge_is_accepted_and_one_past_it_named(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
        if not layout.space.on_chip:
            continue
        limit = chip.integer(spec.partitions_fact)
        edge = resized(layout, shape=(limit, *layout.shape[1:]))
        past = resized(layout, shape=(limit + 1, *layout.shape[1:]))
        assert list(spec.broken(operand, edge, chip)) == []
        (text,) = changed(template, **{operand: past}).broken_rules(chip)
        assert text == (f"{operand} has {limit + 1} partitions; {chip.name} allows {limit} "
                        f"({spec.partitions_fact})")  # fmt: skip


def test_free_edge_is_accepted_and_one_past_it_named(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
        if not layout.space.on_chip:
            continue
        limit = chip.integer(spec.free_fact)
        edge, past = (resized(layout, shape=(1, n)) for n in (limit, limit + 1))
        assert list(spec.broken(operand, edge, chip)) == []
        texts = changed(template, **{operand: past}).broken_rules(chip)
        assert (f"{operand} has {limit + 1} free elements; {chip.name} allows {limit} "
                f"({spec.free_fact})") in texts  # fmt: skip


def test_wrong_memory_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
        for space in set(Space) - set(spec.spaces):
            texts = changed(template, **{operand: resized(layout, space=space)}).broken_rules(chip)
            assert any(t.startswith(f"{operand} is in {space.name}; allowed: ") for t in texts)


def test_wrong_dtype_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
        if spec.dtypes:
            other = resized(layout, dtype=numerics.dtype("int8"))
            texts = changed(template, **{operand: other}).broken_rules(chip)
            assert any(t.startswith(f"{operand} has dtype int8; allowed: ") for t in texts)


def test_a_missing_operand_is_named(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec in template.operands.items():
        if not spec.optional:
            texts = changed(template, **{operand: None}).broken_rules(chip)
            assert f"{operand} is missing; give a tile" in texts


def test_an_engine_that_cannot_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    if "engine" in template.specs:
        (text,) = changed(template, engine=Engine.dma).broken_rules(chip)
        assert text.startswith("engine dma cannot run it; allowed: ")


def test_cost_is_positive_and_never_visible_before_issue(name: str, chip: Chip) -> None:
    cost = example(name, chip, 1).template.cost(chip)
    assert isinstance(cost.issue_ps, int)
    assert 0 < cost.issue_ps <= cost.latency_ps


def test_cost_grows_with_work(name: str, chip: Chip) -> None:
    sizes = [1, 2, 8, 16, 64, 128, 256, LARGEST]
    costs = [example(name, chip, n).template.cost(chip) for n in sizes]
    times = [c.transfer.service_ps if c.transfer else c.issue_ps for c in costs]
    assert times == sorted(times)
    if not name.startswith("rand_"):  # always one state per lane
        assert times[0] < times[-1] or name == "nc_transpose/vector"


def test_unwritten_in_is_nan_out(name: str, chip: Chip) -> None:
    case = example(name, chip, 16)
    for operand in case.flows:
        layout = getattr(case.template, operand)
        result = run(case.template, case.arrays | {operand: unwritten(layout)})
        assert np.isnan(numerics.f32(result)).all()


def test_same_input_same_bits(name: str, chip: Chip) -> None:
    case = example(name, chip, 48)
    first, second = (run(case.template, case.arrays) for _ in range(2))
    if first is not None:
        assert np.asarray(first).tobytes() == np.asarray(second).tobytes()


def test_arrays_fit_the_result(name: str, chip: Chip) -> None:
    """What compute returns reshapes to the destination."""
    case = example(name, chip, 48)
    result = run(case.template, case.arrays)
    if "dst" in case.template.specs:
        assert np.size(result) == case.template.dst.size
