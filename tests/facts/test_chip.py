"""Laws every chip file obeys; outside truth is the arithmetic of the hardware itself."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts.fact import KINDS
from tenzing.facts.schema import CHIP_KEYS

NKI_CHIPS = ("trn1", "inf2", "trn2", "trn3")
ALIASES = {
    "trn1": ("trainium1", "gen2"), "inf2": ("inferentia2",), "trn2": ("trainium2", "gen3"),
    "trn3": ("trainium3", "gen4"),
}  # fmt: skip


@pytest.fixture(params=NKI_CHIPS)
def chip(request: pytest.FixtureRequest) -> facts.Chip:
    return facts.chip(request.param)


def test_names() -> None:
    assert set(facts.chips()) == set(NKI_CHIPS)
    assert set(facts.all_chips()) == {*NKI_CHIPS, "inf1"}


@pytest.mark.parametrize(("name", "alias"), [(n, a) for n, xs in ALIASES.items() for a in xs])
def test_alias_is_the_same_chip(name: str, alias: str) -> None:
    assert facts.chip(alias).name == name
    assert facts.chip(alias.upper()).name == name


def test_no_alias_names_two_chips() -> None:
    names = [x for n in facts.all_chips() for x in (n, *facts.chip(n).aliases)]
    assert len(names) == len(set(names))


def test_unknown_chip_lists_the_names() -> None:
    with pytest.raises(FactsError) as caught:
        facts.chip("h100")
    assert "no chip is named 'h100'" in str(caught.value)
    assert all(name in str(caught.value) for name in facts.all_chips())


def test_generations() -> None:
    found = {name: facts.chip(name).generation for name in facts.all_chips()}
    assert found == {"inf1": 1, "trn1": 2, "inf2": 2, "trn2": 3, "trn3": 4}


def test_nki_chips_are_complete(chip: facts.Chip) -> None:
    assert chip.complete
    assert chip.missing == ()


def test_inferentia1_says_what_is_missing() -> None:
    chip = facts.chip("inf1")
    assert not chip.complete
    assert {"tensor.clock_ghz", "sbuf.bytes", "psum.banks"} <= set(chip.missing)
    assert chip.fact("tensor.clock_ghz").unknown
    assert chip.fact("tensor.clock_ghz").text() == "unknown"
    with pytest.raises(FactsError, match=r"inf1: sbuf\.bytes is not publicly known .*core-v1"):
        chip.integer("sbuf.bytes")


@pytest.mark.parametrize("name", facts.all_chips())
def test_every_fact_has_kind_unit_and_a_known_source(name: str) -> None:
    known = facts.sources()
    for path, fact in facts.chip(name).items():
        assert fact.unit == CHIP_KEYS[path].unit, path
        assert fact.source in known, path
        assert all(x.source in known for x in fact.alternatives), path
        assert fact.kind in KINDS or (fact.unknown and fact.kind is None), path
        if fact.kind in {"assumed", "derived"}:
            assert fact.note, f"{path}: say how it came about"
        if fact.disputed:
            assert fact.alternatives, path


def test_no_source_is_an_orphan() -> None:
    folder = Path(facts.__file__).parent
    texts = [file.read_text("utf-8") for file in folder.rglob("*.toml")]
    cited = {name for text in texts for name in re.findall(r'source = "([^"]+)"', text)}
    assert cited >= set(facts.sources())


def test_on_chip_memory_adds_up(chip: facts.Chip) -> None:
    partitions = chip.integer("core.partitions")
    assert chip.integer("sbuf.bytes") == partitions * chip.integer("sbuf.bytes_per_partition")
    assert chip.integer("psum.bytes") == partitions * chip.integer("psum.bytes_per_partition")
    banks = chip.integer("psum.banks") * chip.integer("psum.bank_bytes")
    assert chip.integer("psum.bytes_per_partition") == banks
    if chip.known("sbuf.usable_bytes_per_partition"):
        usable = chip.integer("sbuf.usable_bytes_per_partition")
        assert usable < chip.integer("sbuf.bytes_per_partition")


def test_a_matmul_result_fits_psum(chip: facts.Chip) -> None:
    fp32_bytes = 4 * chip.integer("tensor.moving_free_max")
    whole = chip.integer("psum.bytes_per_partition")
    assert fp32_bytes == (whole if chip.generation >= 4 else chip.integer("psum.bank_bytes"))


def test_peaks_follow_from_the_array_and_its_clock(chip: facts.Chip) -> None:
    rows, columns = chip.integer("tensor.rows"), chip.integer("tensor.columns")
    bf16 = 2 * rows * columns * chip.number("tensor.clock_ghz") / 1000
    assert chip.number("core.peak_bf16_tflops") == pytest.approx(bf16, rel=1e-9)
    factor = chip.integer("tensor.fp32_passes") * chip.number("tensor.fp32_cycles_per_row")
    assert chip.number("core.peak_fp32_tflops") == pytest.approx(bf16 / factor, rel=1e-9)
    fp8 = 4 if chip.flag("tensor.mx") else 2 if chip.flag("tensor.double_row_fp8") else 1
    assert chip.number("core.peak_fp8_tflops") == pytest.approx(fp8 * bf16, rel=1e-9)


def test_derived_peaks_round_to_the_published_ones(chip: facts.Chip) -> None:
    for path in ("core.peak_bf16_tflops", "core.peak_fp32_tflops", "core.peak_fp8_tflops"):
        published = [x.value for x in chip.fact(path).alternatives]
        assert published
        assert chip.number(path) == pytest.approx(float(published[0]), rel=0.03), path


def test_chip_peak_is_near_the_sum_of_its_cores(chip: facts.Chip) -> None:
    cores = chip.integer("core.per_chip") * chip.number("core.peak_bf16_tflops")
    assert chip.number("chip.peak_bf16_tflops") == pytest.approx(cores, rel=0.08)


def test_device_memory_adds_up(chip: facts.Chip) -> None:
    stacks = chip.integer("hbm.stacks")
    assert stacks * chip.integer("hbm.cores_per_stack") == chip.integer("core.per_chip")
    assert stacks * chip.integer("hbm.core_bytes") == chip.integer("hbm.chip_bytes")
    together = stacks * chip.number("hbm.core_gb_s")
    assert together == pytest.approx(chip.number("hbm.chip_gb_s"), rel=0.02)


def test_dma_adds_up(chip: facts.Chip) -> None:
    engines = chip.integer("dma.engines")
    assert engines * chip.integer("dma.partitions_per_engine") == chip.integer("core.partitions")
    fastest = engines * chip.number("dma.engine_gb_s") * chip.integer("core.per_chip")
    assert fastest == pytest.approx(chip.number("chip.dma_gb_s"), rel=0.5)
    assert chip.integer("chip.dma_engines") >= engines * chip.integer("core.per_chip")
    assert chip.text("dma.default_mode") in {"static", "hwdge"}
    assert (chip.text("dma.default_mode") == "hwdge") == chip.flag("dma.hwdge")


def test_gpsimd_simd_and_partitions(chip: facts.Chip) -> None:
    lanes = chip.integer("gpsimd.simd_bits") // 32
    assert chip.integer("gpsimd.cores") * lanes == chip.integer("core.partitions")


@pytest.mark.parametrize("engine", ["tensor", "vector", "scalar", "gpsimd"])
def test_latency_is_not_shorter_than_the_interval(chip: facts.Chip, engine: str) -> None:
    interval = chip.number(f"{engine}.interval_overhead_cycles")
    assert chip.number(f"{engine}.latency_overhead_cycles") >= interval
    assert 0.5 < chip.number(f"{engine}.clock_ghz") < 5


def test_later_generations_keep_capabilities() -> None:
    """A feature that a generation has is not lost by the next."""
    line = [facts.chip(n) for n in ("trn1", "trn2", "trn3")]
    losses = {"psum.vector_scalar_exclusive", "gpsimd.shares_vector_port"}  # restrictions
    flags = [k.path for k in CHIP_KEYS.values() if k.type == "flag" and k.path not in losses]
    for older, newer in itertools.pairwise(line):
        for path in flags:
            assert newer.flag(path) >= older.flag(path), (path, newer.name)
        for path in losses:
            assert newer.flag(path) <= older.flag(path), (path, newer.name)


def test_measured_trainium1_is_only_derived_for_inferentia2() -> None:
    """The two share a core; a number measured on one was not measured on the other."""
    one, two = facts.chip("trn1"), facts.chip("inf2")
    for path, fact in one.items():
        if path.split(".")[0] in {"tensor", "vector", "scalar", "gpsimd", "sbuf", "psum", "dma"}:
            assert two.fact(path).value == fact.value, path
            assert two.fact(path).kind != "measured", path


def test_used_and_assumed_are_tracked() -> None:
    chip = facts.chip("trn3")
    assert chip.used == set()
    chip.number("tensor.interval_overhead_cycles")
    chip.number("tensor.clock_ghz")
    chip.integer("tensor.rows")
    chip.flag("tensor.mx")
    chip.fact("dma.descriptor_ns")
    assert chip.used == {
        "tensor.interval_overhead_cycles", "tensor.clock_ghz", "tensor.rows", "tensor.mx",
        "dma.descriptor_ns",
    }  # fmt: skip
    paths = [path for path, _ in chip.assumed_used()]
    assert paths == ["dma.descriptor_ns", "tensor.interval_overhead_cycles"]
    assert facts.chip("trn3").used == set(), "a fresh chip has used nothing"
    list(chip.items())
    assert len(chip.used) == 5, "looking at everything is not use"


def test_refused_questions_are_not_use() -> None:
    chip = facts.chip("trn2")
    with pytest.raises(FactsError):
        chip.number("tensor.no_such_key")
    assert chip.used == set()


def test_messages_name_chip_key_and_file() -> None:
    chip = facts.chip("trn2")
    with pytest.raises(FactsError) as unknown:
        chip.number("tensor.speed")
    assert "tensor.speed is not a key of the facts schema (asked of trn2, trn2.toml)" in str(
        unknown.value
    )
    assert "tensor.clock_ghz" in str(unknown.value)
    with pytest.raises(FactsError, match=r"trn2 has no fact tensor.mx_group \(trn2.toml\)"):
        chip.integer("tensor.mx_group")
    with pytest.raises(FactsError, match=r"asked for as a whole number .*got 2.4"):
        chip.integer("tensor.clock_ghz")
    with pytest.raises(FactsError, match="asked for as a flag"):
        chip.flag("tensor.rows")
    with pytest.raises(FactsError, match="asked for as a number"):
        chip.number("tensor.mx")
    with pytest.raises(FactsError, match="asked for as text"):
        chip.text("tensor.rows")
    with pytest.raises(FactsError, match="asked for as a list"):
        chip.integers("tensor.rows")


def test_a_chip_is_its_own_key() -> None:
    """Chips compare by identity, so that they can key a cache while they record use."""
    one = facts.chip("trn2")
    assert {one: 1}[one] == 1
    assert one != facts.chip("trn2")
    assert repr(one) == "Chip('trn2')"
