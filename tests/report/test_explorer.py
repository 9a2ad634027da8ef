"""The tables of Neuron Explorer: the published columns, our times in them, readable files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenzing import commands, facts, report
from tenzing.errors import UsageError
from tenzing.machine import Analysis
from tenzing.report.explorer import explorer_tables
from tenzing.report.explorer.parquet import Column, write_parquet

from . import parquet_reader

SCHEMA = facts.explorer_schema()
KERNEL = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def product(a, b):
    out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.shared_hbm)
    left, right = nl.load(a), nl.load(b)
    total = nl.matmul(left, right, transpose_x=True)
    nl.store(out, nl.exp(total))
    return out

product(np.ones((128, 128), np.float32), np.ones((128, 512), np.float32))
"""
# Required columns that a simulation cannot know; docs/how-to/profile.md says so.
UNKNOWN = {
    "Instruction": {"bir_id"},
    "DmaPacketAggregated": {
        "queue_idx", "queue_name", "semaphore_id", "read_sbuf_partitions", "read_offset",
        "read_steps", "write_sbuf_partitions", "write_offset", "write_steps",
    },
    "Metadata": {"ntff_version", "hbm_ddr_bandwidth", "neuroncore_clock_freq"},
    "SchemaFields": {"table_description", "field_description"},
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> commands.RunResult:
    path = tmp_path_factory.mktemp("explorer") / "product.py"
    path.write_text(KERNEL)
    return commands.run(str(path), target="trn2")


@pytest.fixture(scope="module")
def analysis(result: commands.RunResult) -> Analysis:
    found = result.kernels[0].slowest
    assert isinstance(found, Analysis)
    return found


def values(column: Column) -> list[Any]:
    known = column.known(0 if column.values is None else len(column.values))
    raw = [] if column.values is None else column.values.tolist()
    named = [column.texts[v] for v in raw] if column.texts else raw
    return [v if k else None for v, k in zip(named, known, strict=True)]


def test_columns_are_those_of_the_schema_in_type_and_presence(analysis: Analysis) -> None:
    kinds = {"int64": int, "int32": int, "float": (int, float), "double": (int, float),
             "boolean": bool, "string": str}  # fmt: skip
    tables = explorer_tables(analysis, "product")
    assert {"Instruction", "DmaPacketAggregated", "SbufUsage", "PsumUsage", "Flow"} <= set(tables)
    for table, (columns, rows) in tables.items():
        schema = SCHEMA.tables[table]
        assert set(columns) <= set(schema), table
        for name, column in columns.items():
            found = values(column)
            assert len(found) == rows, (table, name)
            for value in found:
                assert value is None or isinstance(value, kinds[schema[name].type]), (table, name)
        empty = {n for n, f in schema.items() if f.required
                 and (n not in columns or None in values(columns[n]))}  # fmt: skip
        assert empty == UNKNOWN.get(table, set()), table


def test_instructions_are_ours(analysis: Analysis) -> None:
    columns, rows = explorer_tables(analysis, "product")["Instruction"]
    assert rows == analysis.instructions
    table = {name: values(column) for name, column in columns.items()}
    assert table["start_ts"] == [round(t / 1000 + 1e-9) for t in analysis.start_ps.tolist()]
    place = table["opcode"].index("MATMUL")
    assert table["engine"][place] == "tensor"
    assert table["raw_flops"][place] == analysis.flops == 2 * 128 * 128 * 512
    assert table["nki_source_location"][place].endswith("product.py:11")
    assert table["psum_write_bytes"][place] == 128 * 512 * 4
    assert sum(table["hbm_read_bytes"]) == analysis.hbm_read_bytes
    assert sum(table["hbm_write_bytes"]) == analysis.hbm_write_bytes
    assert "EXP" in table["scalar_activation_fn"]


def test_totals_agree_with_the_analysis(analysis: Analysis) -> None:
    tables = explorer_tables(analysis, "product")
    summary = {n: values(c)[0] for n, c in tables["Summary"][0].items()}
    assert summary["total_time"] == pytest.approx(analysis.total_ps / 1e12)
    assert summary["mfu_inst_estimated_percent"] == pytest.approx(100 * analysis.mfu)
    assert summary["dma_transfer_total_bytes"] == analysis.dma_bytes
    for engine, share in analysis.utilisation.items():
        if engine != "DMA":
            found = summary[f"{engine.lower()}_engine_active_time_percent"]
            tables_loaded = 100 * 1283.3e3 / analysis.total_ps * (engine == "Scalar")
            assert found == pytest.approx(100 * share - tables_loaded, abs=0.1)
    usage = tables["DmaUsage"][0]
    assert values(usage["total_transfer_bytes"])[-1] == analysis.dma_bytes
    assert values(usage["current_throughput"])[-1] == pytest.approx(0, abs=1e3)
    for name in ("SbufUsage", "PsumUsage"):
        level = values(tables[name][0]["avg_util_percent"])
        assert 0 < max(level) <= 100
        assert level[-1] == pytest.approx(0, abs=1e-9)


def test_flows_lead_to_rows_that_exist(analysis: Analysis) -> None:
    tables = explorer_tables(analysis, "product")
    ids = {"instruction": set(values(tables["Instruction"][0]["id"])),
           "dma_block": set(values(tables["DmaPacketAggregated"][0]["id"]))}  # fmt: skip
    flow = {n: values(c) for n, c in tables["Flow"][0].items()}
    for side in ("in", "out"):
        for number, table in zip(flow[f"{side}_id"], flow[f"{side}_table"], strict=True):
            assert number in ids[table]
    assert min(flow["gap_time"]) >= 0


def test_both_forms_hold_the_same(result: commands.RunResult, tmp_path: Path) -> None:
    report.write_run_explorer(result, tmp_path / "p")
    written = report.write_run_explorer(result, tmp_path / "c", "csv")
    assert written
    for path in written:
        with path.open(newline="") as text:
            head, *rows = csv.reader(text)
        parquet = parquet_reader.read(tmp_path / "p" / f"{path.stem}.parquet")
        assert list(parquet) == head == list(SCHEMA.tables[path.stem])
        for name, *cells in zip(head, *rows, strict=True):
            for cell, value in zip(cells, parquet[name], strict=True):
                if isinstance(value, float):
                    assert float(cell) == pytest.approx(value, rel=1e-6)
                else:
                    assert cell == ("" if value is None else str(value))


COLUMN = st.one_of(
    *(st.tuples(st.just(kind), st.lists(st.one_of(st.none(), value), min_size=7, max_size=7))
      for kind, value in (
          ("int64", st.integers(-2**63, 2**63 - 1)), ("int32", st.integers(-2**31, 2**31 - 1)),
          ("double", st.floats(allow_nan=False)), ("boolean", st.booleans()),
          ("string", st.text(st.characters(codec="utf-8"), max_size=9)),
      ))
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_columns=st.lists(COLUMN, min_size=1, max_size=20))
def test_law_parquet_holds_what_was_given(
    given_columns: list[tuple[str, list[Any]]], tmp_path: Path
) -> None:
    names = [f"column{k}" for k in range(len(given_columns))]
    types = {n: kind for n, (kind, _) in zip(names, given_columns, strict=True)}
    columns = {n: Column.of(v) for n, (_, v) in zip(names, given_columns, strict=True)}
    path = tmp_path / "t.parquet"
    write_parquet(path, types, columns, 7)
    assert parquet_reader.read(path) == {
        n: v for n, (_, v) in zip(names, given_columns, strict=True)
    }


def test_another_reader_agrees(result: commands.RunResult, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for path in report.write_run_explorer(result, tmp_path):
        assert arrow.read_table(path).to_pydict() == parquet_reader.read(path)


def test_a_large_column_is_packed(tmp_path: Path) -> None:
    count = 100_003
    texts = tuple(f"text{k}" for k in range(300))
    column = Column(np.arange(count, dtype=np.int32) % 300, texts)
    write_parquet(tmp_path / "t.parquet", {"name": "string"}, {"name": column}, count)
    found = parquet_reader.read(tmp_path / "t.parquet")["name"]
    assert found[301] == "text1"
    assert found[-1] == texts[(count - 1) % 300]
    assert (tmp_path / "t.parquet").stat().st_size < count


def test_what_cannot_be_written_is_refused(result: commands.RunResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        report.write_run_explorer(result, tmp_path / "file")
    with pytest.raises(UsageError, match="no such form of tables"):
        report.write_run_explorer(result, tmp_path, "xlsx")
    timed = commands.TimeOnly("trn2", 1, 1, 1, 1, 1, 1, 1, 1, 1, {})
    nothing = commands.RunResult("m", "trn2", [commands.KernelResult("m", "trn2", (timed,))])
    with pytest.raises(UsageError, match="without a program"):
        report.write_run_explorer(nothing, tmp_path)


def test_the_command_writes_the_tables(tmp_path: Path, capsys: Any) -> None:
    from tenzing.cli import main

    (tmp_path / "k.py").write_text(KERNEL)
    words = ["profile", str(tmp_path / "k.py"), "--out", str(tmp_path / "o"), "--json",
             "--neuron-explorer", str(tmp_path / "ne"), "--explorer-format", "csv"]  # fmt: skip
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "trn2"
    assert (tmp_path / "ne" / "Instruction.csv").read_text().startswith("start_ts,end_ts,")
