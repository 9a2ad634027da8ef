"""A sweep: the same answers whatever computes them, kept by content, no item loses another."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tenzing.errors import Finding, LegalityError, Loc, TenzingError, UsageError
from tenzing.fleet import sweep
from tenzing.fleet.content import from_json, to_json
from tenzing.machine import store

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture(scope="module")
def swept() -> Iterator[ModuleType]:
    """The module of functions, importable here and in processes that are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setenv("PYTHONPATH", f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield importlib.import_module("swept")


def texts(found: list[Any]) -> list[Any]:
    return [x.render() if isinstance(x, TenzingError) else x for x in found]


def test_results_in_order_and_of_their_own_kind(swept: ModuleType) -> None:
    options = [swept.Option(n, swept.Dtype.FP8, (n, 1)) for n in range(20)]
    assert sweep(swept.answer, options, jobs=1) == [swept.answer(o) for o in options]


def test_what_is_known_is_not_computed_again(swept: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = [swept.Option(n, log=str(log)) for n in range(6)]
    first = sweep(swept.answer, options[:4], jobs=1)
    lines: list[str] = []
    assert sweep(swept.answer, options, jobs=1, progress=lines.append)[:4] == first
    assert log.read_text().split() == ["0", "1", "2", "3", "4", "5"]
    assert lines[0] == "4 of 6 are known from before"
    assert lines[-1] == "6 of 6"
    sweep(swept.answer, options, jobs=1, keep=False)
    assert len(log.read_text().split()) == 12


def test_the_number_of_kept_results_is_bounded(
    swept: ModuleType, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LIMIT_ENTRIES", 8)
    for start in range(0, 40, 10):
        sweep(swept.answer, [swept.Option(n) for n in range(start, start + 10)], jobs=1)
    assert 1 <= len(list(kept.rglob("*.json"))) <= 8


def test_a_changed_entry_is_computed_again(swept: ModuleType, kept: Path) -> None:
    options = [swept.Option(1)]
    first = sweep(swept.answer, options, jobs=1)
    (entry,) = kept.rglob("*.json")
    for class_name in ("os:system", "no_such_module:Answer", "swept:answer"):
        whole = entry.read_text()
        entry.write_text(whole.replace('"value": {"__class__": "swept:Answer"',
                                       f'"value": {{"__class__": "{class_name}"'))  # fmt: skip
        assert entry.read_text() != whole
        assert sweep(swept.answer, options, jobs=1) == first


def test_no_item_loses_another(swept: ModuleType) -> None:
    found = sweep(swept.picky, range(8), jobs=1)
    assert [i for i, x in enumerate(found) if isinstance(x, TenzingError)] == [3, 5, 6]
    assert found[7] == 1.0
    assert "three; got 3" in texts(found)[3]
    assert "ZeroDivisionError" in texts(found)[5]
    assert "swept.py:" in texts(found)[5]
    assert "cannot be kept" in texts(found)[6]


def test_processes_say_what_one_process_says(swept: ModuleType) -> None:
    alone = sweep(swept.picky, range(8), jobs=1)
    store.clear()
    lines: list[str] = []
    together = sweep(swept.picky, range(6), jobs=2, progress=lines.append)
    assert texts(together) == texts(alone)[:6]
    assert lines[-1] == "6 of 6"


@pytest.mark.slow
def test_a_result_that_cannot_travel_is_that_items_error(swept: ModuleType) -> None:
    found = sweep(swept.picky, range(8), jobs=2, keep=False)
    assert "cannot travel" in texts(found)[6]
    assert found[7] == 1.0


@pytest.mark.slow
def test_an_item_that_ends_its_process_is_found(swept: ModuleType) -> None:
    found = sweep(swept.deadly, range(8), jobs=2)
    assert [x for i, x in enumerate(found) if i != 4] == [n * n for n in range(8) if n != 4]
    assert "its process was ended" in texts(found)[4]


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import swept
from tenzing.fleet import sweep
print("ready", flush=True)
sweep(swept.slow, range(4), jobs=2)
"""


def left_in(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(tmp_path: Path, how: int) -> None:
    script = tmp_path / "script.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in SCRIPT.format(folder=str(FOLDER)).splitlines()))  # fmt: skip
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as run:  # fmt: skip
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 20
        while len(left_in(run.pid)) < 4 and time.monotonic() < deadline:  # tracker, two workers
            time.sleep(0.1)
        time.sleep(2)  # the workers are at their items
        assert len(left_in(run.pid)) >= 3
        run.send_signal(how)
        run.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while left_in(run.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_in(run.pid) == []


@pytest.mark.slow
def test_a_script_without_a_guard_gets_advice(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(FOLDER)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True,
                          check=False, timeout=60)  # fmt: skip
    assert "local processes cannot start" in done.stderr.splitlines()[-1]


def inside() -> Any:
    def local(number: int) -> int:
        return number

    return local


@pytest.mark.parametrize("function", [lambda x: x, inside(), print])
def test_a_function_that_cannot_be_imported_is_refused(function: Any) -> None:
    if function is print:  # it can be imported, but has no file whose content is known
        with pytest.raises(UsageError, match="not in a file"):
            sweep(function, [1])
        return
    with pytest.raises(UsageError, match="can import"):
        sweep(function, [1])


def test_wrong_calls_are_refused(swept: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="jobs; got 0"):
        sweep(swept.picky, [1], jobs=0)
    with pytest.raises(UsageError, match="cannot be kept by its content"):
        sweep(swept.picky, [object()])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs Ray"):
        sweep(swept.picky, [1], ray="auto")
    assert sweep(swept.picky, []) == []


def test_contents_keep_their_kind(swept: ModuleType) -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": ((1,), ()), "c": swept.Dtype.FP8,
             "d": swept.Size(1, 2), "e": swept.Option(3)}  # fmt: skip
    back = from_json(to_json(value))
    assert back == value
    assert type(back["d"]) is swept.Size
    assert type(back["b"][1]) is tuple
    with pytest.raises(UsageError, match="text keys"):
        to_json({1: 2})


def test_errors_travel_with_what_they_say() -> None:
    finding = Finding("legality", "too wide", Loc("kernel.py", 3), "narrow it")
    plain = UsageError("no", got=1, allowed=2, where=Loc("a.py", 1), next_step="yes")
    for error in (LegalityError([finding, finding]), plain):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert back.render() == error.render()
        assert str(back) == str(error)


@pytest.mark.slow
def test_a_cluster_of_two_nodes_says_the_same(swept: ModuleType) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the ray extra")
    alone = sweep(swept.picky, range(8), jobs=1)
    store.clear()
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        lines: list[str] = []
        found = sweep(swept.picky, range(8), ray=cluster.address, progress=lines.append)
        assert texts(found) == texts(alone)
        assert lines[-1] == "8 of 8"
        again = sweep(swept.picky, range(8), jobs=1)
        assert texts(again) == texts(alone)
        lost = sweep(swept.deadly, range(8), ray=cluster.address)
        assert "Ray worker was lost" in texts(lost)[4]
        assert [x for i, x in enumerate(lost) if i != 4] == [n * n for n in range(8) if n != 4]
    finally:
        cluster.shutdown()
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        sweep(swept.picky, range(3), ray="127.0.0.1:1", keep=False)
