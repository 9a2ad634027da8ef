"""The functions behind the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenzing import commands
from tenzing.errors import FactsError, KernelError, UsageError
from tenzing.machine import analyse
from tenzing.nki import session

HEADER = """
import nki, sys
import numpy as np
import nki.language as nl

@nki.jit
def copy(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x))
    return out

"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "copies.py"
    path.write_text(HEADER + "for n in map(int, sys.argv[1:] or ['8']):\n"
                    "    copy(np.ones((128, n), np.float32))\n")  # fmt: skip
    return path


def test_run_returns_every_launch(script: Path) -> None:
    result = commands.run(str(script), argv=["8", "16", "8"])
    assert [k.name for k in result.kernels] == ["copy"] * 3
    assert [k.slowest.hbm_read_bytes for k in result.kernels] == [4096, 8192, 4096]
    first, wide, again = (k.latency_ps for k in result.kernels)
    assert first == again < wide
    assert result.findings == []
    assert result.kernels[0].where == "copies.py:13 in <module>"


def test_run_tells_its_progress(script: Path) -> None:
    told: list[str] = []
    commands.run(str(script), progress=told.append)
    assert told == ["copy: recorded 2 instructions"]


def test_time_only_gives_the_same_times(script: Path) -> None:
    full, timed = (commands.run(str(script), values=v).kernels[0] for v in (True, False))
    assert full.latency_ps == timed.latency_ps


def test_the_bill_is_of_the_cheapest_instance(script: Path) -> None:
    bill = commands.run(str(script)).kernels[0].bill
    assert bill is not None
    assert bill.items_per_s > 0


def test_the_slowest_core_sets_the_latency(tmp_path: Path) -> None:
    path = tmp_path / "cores.py"
    path.write_text(HEADER.replace("nl.store(", "for _ in range(1 + nl.program_id(0)): nl.store(")
                    + "copy[2](np.ones((128, 8), np.float32))\n")  # fmt: skip
    (kernel,) = commands.run(str(path)).kernels
    short, long = (a.total_ps for a in kernel.analyses)
    assert short < long
    assert kernel.latency_ps == kernel.analyses[1].latency_ps


def test_the_same_finding_of_two_cores_is_one(tmp_path: Path) -> None:
    path = tmp_path / "unwritten.py"
    source = HEADER.replace("nl.load(x)", "nl.ndarray(x.shape, x.dtype)")
    path.write_text(source + "copy[2](np.ones((128, 8), np.float32))\n")
    result = commands.run(str(path))
    assert len(result.kernels[0].analyses) == 2
    assert [f.rule for f in result.findings] == ["uninitialised"]


def test_errors_are_exceptions_here(script: Path, tmp_path: Path) -> None:
    with pytest.raises(FactsError):
        commands.run(str(script), target="trn9")
    with pytest.raises(UsageError):
        commands.run(str(tmp_path / "none.py"))
    bad = tmp_path / "bad.py"
    bad.write_text(HEADER + "copy(np.ones((129, 8), np.float32))\n")
    with pytest.raises(KernelError) as told:
        commands.run(str(bad))
    assert told.value.loc is not None
    assert told.value.loc.line == 9


def test_compare_keeps_refusals_beside_results(tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    on_scalar = (
        "    import nki.isa as nisa\n    t = nl.load(x)\n"
        "    nisa.tensor_copy(dst=t, src=t, engine=nisa.scalar_engine)\n    nl.store"
    )
    script = HEADER.replace("    nl.store", on_scalar)
    path.write_text(script + "copy(np.ones((128, 8), np.float32))\n")
    refused, accepted = commands.run_on(str(path), targets=["trn1", "trn2"])
    assert isinstance(refused, KernelError)
    assert isinstance(accepted, commands.RunResult)


def test_compare_stops_at_a_chip_nobody_knows(script: Path) -> None:
    with pytest.raises(FactsError):
        commands.run_on(str(script), targets=["trn2", "trn9"])


@pytest.mark.parametrize(
    ("path", "file", "attribute"),
    [("copies.py", "copies.py", ""), ("copies.py:net", "copies.py", "net")],
)
def test_split_path(
    script: Path, monkeypatch: pytest.MonkeyPatch, path: str, file: str, attribute: str
) -> None:
    monkeypatch.chdir(script.parent)
    assert commands.split_path(path) == (Path(file), attribute)


MODEL = """
class Net:
    def forward(self, x): return x

net = Net()
pair = (net, 1)
example_inputs = [1, 2]
def make(): return net, [3]
def bare(): return net
def function(x): return x
"""


@pytest.mark.parametrize(
    ("attribute", "inputs"),
    [("net", (1, 2)), ("pair", (1,)), ("make", (3,)), ("bare", (1, 2)), ("function", (1, 2))],
)
def test_load_model(tmp_path: Path, attribute: str, inputs: tuple[int, ...]) -> None:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    module, found = commands.load_model(path, attribute)
    assert type(module).__name__ == ("function" if attribute == "function" else "Net")
    assert found == inputs


def test_analyse_program_equals_the_analysis_of_its_launch(script: Path) -> None:
    with session("trn2") as current:
        from tenzing.nki import run_script

        run_script(script, session=current)
    (launch,) = current.launches
    result = commands.analyse_program("copy", launch.programs[0], items=4)
    assert result.latency_ps == analyse(launch.programs[0]).latency_ps
    assert result.bill is not None
