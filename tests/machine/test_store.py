"""Kept results: computed once, never half written, never taken from a broken or foreign entry."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tenzing.machine import store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "kept"))
    return tmp_path / "kept"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, int]:
        self.calls += 1
        return {"answer": self.calls}


def test_the_second_call_reads_the_first(folder: Path) -> None:
    count = Counter()
    assert store.cached("kind", {"a": 1}, count) == {"answer": 1}
    assert store.cached("kind", {"a": 1}, count) == {"answer": 1}
    assert store.cached("kind", {"a": 2}, count) == {"answer": 2}
    assert store.cached("other", {"a": 1}, count) == {"answer": 3}
    assert len(entries(folder)) == 3


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"of": "another", "value": 5}', "\x00\xff", "[" * 100_000]
)
def test_broken_and_foreign_entries_are_computed_again(folder: Path, damage: str) -> None:
    count = Counter()
    store.cached("kind", {"a": 1}, count)
    (entry,) = entries(folder)
    entry.write_text(damage)
    assert store.cached("kind", {"a": 1}, count) == {"answer": 2}
    assert json.loads(entry.read_text())["value"] == {"answer": 2}


def test_a_changed_source_starts_afresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = Counter()
    store.cached("kind", {}, count)
    monkeypatch.setattr(store, "source_digest", lambda: "another version")
    assert store.cached("kind", {}, count) == {"answer": 2}


def test_writers_side_by_side_leave_one_whole_entry(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.cached("kind", {}, lambda: "x" * 100_000), range(32)))
    assert set(found) == {"x" * 100_000}
    (entry,) = entries(folder)
    assert json.loads(entry.read_text())["value"] == "x" * 100_000
    assert not list(folder.rglob("*.part"))


def test_without_a_folder_everything_is_computed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counter()
    monkeypatch.setenv(store.FOLDER, "off")
    assert [store.cached("k", {}, count)["answer"] for _ in range(2)] == [1, 2]
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv(store.FOLDER, str(blocked))
    assert store.cached("k", {}, count) == {"answer": 3}


def test_the_first_answer_is_what_later_ones_read(folder: Path) -> None:
    first = store.cached("kind", {}, lambda: {"pair": (1, 2)})
    assert first == store.cached("kind", {}, Counter()) == {"pair": [1, 2]}


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(store.FOLDER, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert store.cache_folder() is None


def test_a_failed_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert store.cached("kind", {}, Counter()) == {"answer": 1}
    assert list((folder / "kind").iterdir()) == []


def test_the_oldest_entries_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LIMIT_ENTRIES", 8)
    for number in range(20):
        store.cached("kind", {"n": number}, Counter())
    assert 4 <= len(entries(folder)) <= 8


def test_large_entries_make_room_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LIMIT_BYTES", 50_000)
    for number in range(20):
        store.cached("kind", {"n": number}, lambda: "x" * 5_000)
    assert sum(file.stat().st_size for file in entries(folder)) <= 50_000
    assert len(entries(folder)) >= 4


def test_many_are_kept_at_once_and_none_is_a_value(folder: Path) -> None:
    store.keep("kind", [({"n": n}, None if n == 3 else n) for n in range(5)])
    found = [store.find("kind", {"n": n}) for n in range(6)]
    assert found == [(0,), (1,), (2,), (None,), (4,), None]


def test_clear(folder: Path) -> None:
    store.cached("kind", {}, Counter())
    assert store.clear() == 1
    assert entries(folder) == []
