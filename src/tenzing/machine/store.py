"""Results kept on disk by what they depend on: facts, sources of the simulator, and a key."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import tenzing
from tenzing.units import MIB

FOLDER: Final = "TENZING_CACHE"  # a folder, or "off"
OFF: Final = ("off", "0", "no")
FORMAT: Final = 1
LIMIT_ENTRIES: Final = 4096  # of one kind; an entry is a few kilobytes
LIMIT_BYTES: Final = 256 * MIB  # of one kind
ROOM: Final = 0.75  # of a limit is left once it is passed, so that making room is rare


class Kept(NamedTuple):
    """A value found on disk, which may be None itself."""

    value: Any


def cached(kind: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of ``compute()``, from disk when it was computed before.

    ``key`` is everything the value depends on beside facts and sources, as JSON-able values. An
    unreadable or foreign entry is computed again; an unwritable folder means no cache.
    """
    if cache_folder() is None:
        return compute()
    found = find(kind, key)
    if found is not None:
        return found.value
    value = json.loads(json.dumps(compute()))  # what the next call will read, tuples as lists
    keep(kind, [(key, value)])
    return value


def find(kind: str, key: Mapping[str, Any]) -> Kept | None:
    """The value kept for ``key``; None when there is none, or caching is off."""
    folder = cache_folder()
    if folder is None:
        return None
    text = _text(kind, key)
    try:
        entry = json.loads(_path(folder, kind, text).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and entry.get("of") == text and "value" in entry
    return Kept(entry["value"]) if whole else None


def keep(kind: str, results: Iterable[tuple[Mapping[str, Any], Any]]) -> None:
    """Keep the JSON values of several keys; nothing happens where the folder cannot be written."""
    folder = cache_folder()
    if folder is None:
        return
    for key, value in results:
        text = _text(kind, key)
        _write(_path(folder, kind, text), json.dumps({"of": text, "value": value}))
    _prune(folder / kind)


def _text(kind: str, key: Mapping[str, Any]) -> str:
    whole = {"kind": kind, "key": key, "sources": source_digest(), "format": FORMAT}
    return json.dumps(whole, sort_keys=True)


def _path(folder: Path, kind: str, text: str) -> Path:
    return folder / kind / (hashlib.sha256(text.encode()).hexdigest() + ".json")


def cache_folder() -> Path | None:
    """Where results are kept; None when caching is off."""
    named = os.environ.get(FOLDER, "")
    if named.lower() in OFF and named:
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "tenzing"
    except RuntimeError:  # a user without a home folder
        return None


def clear() -> int:
    """Remove every kept result; how many there were."""
    folder = cache_folder()
    files = list(folder.glob("*/*.json")) if folder is not None else []
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest of every source and facts file of the package: any change starts afresh."""
    root = Path(tenzing.__file__).parent
    digest = hashlib.sha256()
    for file in sorted((*root.rglob("*.py"), *root.rglob("*.toml"))):
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _write(path: Path, entry: str) -> None:
    """Whole or not at all: a reader never sees half an entry."""
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "w") as file:
            file.write(entry)
        part.replace(path)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Past a limit the oldest entries go."""
    try:
        with os.scandir(folder) as entries_of:
            found = [(e.stat().st_mtime, e.stat().st_size, e.path) for e in entries_of]
    except OSError:  # another process makes room, or no folder could be made
        return
    if len(found) <= LIMIT_ENTRIES and sum(size for _, size, _ in found) <= LIMIT_BYTES:
        return
    entries, total_bytes = 0, 0
    for _, size, name in sorted(found, reverse=True):
        entries, total_bytes = entries + 1, total_bytes + size
        if entries > ROOM * LIMIT_ENTRIES or total_bytes > ROOM * LIMIT_BYTES:
            Path(name).unlink(missing_ok=True)


__all__ = ["Kept", "cache_folder", "cached", "clear", "find", "keep", "source_digest"]
