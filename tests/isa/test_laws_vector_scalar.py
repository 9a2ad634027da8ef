"""Laws of every Vector and Scalar instruction on every chip, and of their cost."""

from typing import Any

import numpy as np
import pytest
from tests.isa.cases import CASES, LARGEST, MODULES, NEEDS, Case, supported, unwritten

from tenzing import facts
from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.instruction import REGISTRY, AttrSpec, Engine, Instruction
from tenzing.isa.operand import Layout, Space

MINE = sorted(n for n, kind in REGISTRY.items() if kind.__module__ in {m.__name__ for m in MODULES})
FREE_OF = {  # operands whose free size no other operand fixes
    "bn_stats": "data", "bn_aggr": "data", "max8": "src", "nc_find_index8": "data", "rand2": "dst",
    "tensor_reduce": "data",
}  # fmt: skip
PAIRS = [(n, c) for n in sorted(CASES) for c in facts.chips() if supported(n, facts.chip(c))]


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An example and a chip that has it."""
    return request.param


@pytest.fixture
def name(pair: tuple[str, str]) -> str:
    return pair[0]


@pytest.fixture
def chip(pair: tuple[str, str]) -> Chip:
    return facts.chip(pair[1])


@pytest.fixture(params=facts.chips())
def any_chip(request: pytest.FixtureRequest) -> Chip:
    return facts.chip(request.param)


def example(name: str, chip: Chip, size: int) -> Case:
    """The example at a size."""
    return CASES[name](chip, size)


def run(template: Instruction, arrays: dict[str, Any]) -> dict[str, Any]:
    """Results by operand name, from fresh copies and fresh registers."""
    copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    registers: list[Any] = [{}] if template.stateful else []
    with np.errstate(all="ignore"):
        result = template.compute(*registers, **copies)
    if result is None:
        return {}
    return result if isinstance(result, dict) else {"dst": result}


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


def test_an_older_generation_refuses_with_the_one_it_needs(any_chip: Chip) -> None:
    for nki in MINE:
        since = REGISTRY[nki].since
        if any_chip.generation < since:
            (text,) = CASES[nki](any_chip, 1).template.broken_rules(any_chip)
            assert text == f"{any_chip.name} has no {nki}; it needs NeuronCore-v{since} or newer"


def test_a_missing_capability_is_refused_with_its_fact(any_chip: Chip) -> None:
    for name, flag in NEEDS.items():
        if not any_chip.flag(flag):
            texts = CASES[name](any_chip, 1).template.broken_rules(any_chip)
            assert any(f"({flag})" in text for text in texts)


def test_partition_edge_is_accepted_and_one_past_it_named(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
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
        limit = chip.integer(spec.free_fact)
        edge, past = (resized(layout, shape=(1, n)) for n in (limit, limit + 1))
        assert list(spec.broken(operand, edge, chip)) == []
        texts = changed(template, **{operand: past}).broken_rules(chip)
        assert (f"{operand} has {limit + 1} free elements; {chip.name} allows {limit} "
                f"({spec.free_fact})") in texts  # fmt: skip


def test_hbm_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, _, layout in template.layouts():
        texts = changed(template, **{operand: resized(layout, space=Space.HBM)}).broken_rules(chip)
        assert f"{operand} is in HBM; allowed: SBUF or PSUM" in texts


def test_wrong_dtype_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec, layout in template.layouts():
        if spec.dtypes:
            other = resized(layout, dtype=numerics.dtype("float8_e8m0fnu"))
            texts = changed(template, **{operand: other}).broken_rules(chip)
            assert any(t.startswith(f"{operand} has dtype float8_e8m0fnu; allow") for t in texts)


def test_a_missing_operand_is_named(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    for operand, spec in template.operands.items():
        if not spec.optional and not spec.has_default:
            texts = changed(template, **{operand: None}).broken_rules(chip)
            assert f"{operand} is missing; give a tile" in texts


def test_a_missing_attribute_is_named(name: str, chip: Chip) -> None:
    """No operator, axis or number, and no traceback: a sentence (tensor_scalar may do without)."""
    template = example(name, chip, 16).template
    for attribute, spec in template.specs.items():
        if isinstance(spec, AttrSpec) and not spec.has_default and template.nki != "tensor_scalar":
            texts = changed(template, **{attribute: None}).broken_rules(chip)
            assert any(t.startswith(f"{attribute} is ") for t in texts)


def test_other_partitions_are_refused(name: str, chip: Chip) -> None:
    """No operand broadcasts over partitions; only a shuffle takes fewer rows than it gives."""
    template = example(name, chip, 16).template
    if len(list(template.layouts())) == 1 or template.nki == "nc_stream_shuffle":
        return
    for operand, _, layout in template.layouts():
        half = resized(layout, shape=(layout.partitions // 2, *layout.shape[1:]))
        texts = changed(template, **{operand: half}).broken_rules(chip)
        assert any(f" has {layout.partitions // 2}" in t for t in texts)


def test_other_free_sizes_are_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    if len(list(template.layouts())) == 1:
        return
    for operand, _, layout in template.layouts():
        if FREE_OF.get(template.nki) != operand:
            shape = (layout.partitions, *layout.shape[1:], 7)
            texts = changed(template, **{operand: resized(layout, shape=shape)}).broken_rules(chip)
            assert any(f" has {layout.free * 7}" in t for t in texts)


def test_an_engine_that_cannot_is_refused(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    if "engine" in template.specs:
        (text,) = changed(template, engine=Engine.dma).broken_rules(chip)
        assert text.startswith("engine dma cannot run it; allowed: ")


def test_gpsimd_cannot_reach_psum(name: str, chip: Chip) -> None:
    template = example(name, chip, 16).template
    if Engine.gpsimd in template.engines:
        moved = resized(template.dst, space=Space.PSUM)
        texts = changed(template, dst=moved, engine=Engine.gpsimd).broken_rules(chip)
        assert "GpSimd cannot access PSUM, where dst is" in texts


def test_cost_is_positive_and_never_visible_before_issue(name: str, chip: Chip) -> None:
    cost = example(name, chip, 1).template.cost(chip)
    assert isinstance(cost.issue_ps, int)
    assert 0 < cost.issue_ps <= cost.latency_ps


def test_cost_grows_with_work(name: str, chip: Chip) -> None:
    sizes = [1, 2, 8, 16, 64, 128, 256, LARGEST]
    times = [example(name, chip, n).template.cost(chip).issue_ps for n in sizes]
    assert times == sorted(times)
    assert times[0] < times[-1] or name == "set_rng_seed"  # always one element


def test_cost_uses_only_facts_that_exist(name: str, chip: Chip) -> None:
    example(name, chip, 16).template.cost(chip)
    assert chip.used


def test_unwritten_in_is_nan_out(name: str, chip: Chip) -> None:
    case = example(name, chip, 16)
    for operand in (*case.flows, *case.reaches):
        poison = case.arrays | {operand: unwritten(getattr(case.template, operand))}
        nan = np.isnan(numerics.f32(run(case.template, poison)["dst"]))
        assert nan.all() if operand in case.flows else nan.any()


def test_same_input_same_bits(name: str, chip: Chip) -> None:
    case = example(name, chip, 48)
    first, second = (run(case.template, case.arrays) for _ in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.asarray(value).tobytes() == np.asarray(second[key]).tobytes()


def test_inputs_stay_as_they_were(name: str, chip: Chip) -> None:
    case = example(name, chip, 48)
    before = {k: np.asarray(v).tobytes() for k, v in case.arrays.items()}
    registers: list[Any] = [{}] if case.template.stateful else []
    case.template.compute(*registers, **case.arrays)
    assert {k: np.asarray(v).tobytes() for k, v in case.arrays.items()} == before


def test_results_fit_their_destinations(name: str, chip: Chip) -> None:
    """What compute returns has one value per element of each destination."""
    case = example(name, chip, 48)
    for operand, value in run(case.template, case.arrays).items():
        layout = getattr(case.template, operand)
        if layout is not None:
            assert np.size(value) == layout.size


def test_dims_may_differ_when_sizes_agree(name: str, chip: Chip) -> None:
    """A tile of [P, 48] and one of [P, 6, 8] hold the same elements in the same order."""
    case = example(name, chip, 48)
    if case.template.nki in ("tensor_reduce", "set_rng_seed"):  # their dims have a meaning
        return
    folded, arrays = {}, dict(case.arrays)
    for operand, _, layout in case.template.layouts():
        if layout.free % 8 == 0 and operand != "dst":
            shape = (layout.partitions, layout.free // 8, 8)
            folded[operand] = resized(layout, shape=shape)
            if isinstance(arrays.get(operand), np.ndarray):
                arrays[operand] = arrays[operand].reshape(shape)
    other = changed(case.template, **folded)
    assert other.broken_rules(chip) == []
    expected, got = run(case.template, case.arrays), run(other, arrays)
    assert np.asarray(expected["dst"]).tobytes() == np.asarray(got["dst"]).tobytes()
