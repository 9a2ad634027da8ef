"""Results kept on disk by what they depend on: facts, sources of the simulator, and a key."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import tenzing

FOLDER: Final = "TENZING_CACHE"  # a folder, or "off"
OFF: Final = ("off", "0", "no")
FORMAT: Final = 1
LIMIT_ENTRIES: Final = 4096  # of one kind; an entry is a few kilobytes


def cached(kind: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """The JSON value of ``compute()``, from disk when it was computed before.

    ``key`` is everything the value depends on beside facts and sources, as JSON-able values. An
    unreadable or foreign entry is computed again; an unwritable folder means no cache.
    """
    folder = cache_folder()
    if folder is None:
        return compute()
    text = json.dumps({"kind": kind, "key": key, "sources": source_digest(), "format": FORMAT},
                      sort_keys=True)  # fmt: skip
    path = folder / kind / (hashlib.sha256(text.encode()).hexdigest() + ".json")
    found = _read(path, text)
    if found is not None:
        return found["value"]
    entry = json.dumps({"of": text, "value": compute()})
    _write(path, entry)
    return json.loads(entry)["value"]  # what the next call will read, tuples as lists


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


def _read(path: Path, text: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and entry.get("of") == text and "value" in entry
    return entry if whole else None


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
        _prune(path.parent)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Past the limit the oldest entries go, a quarter at a time so that this is rare."""
    files = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(folder)]
    if len(files) > LIMIT_ENTRIES:
        for _, name in sorted(files)[: len(files) // 4]:
            Path(name).unlink(missing_ok=True)


__all__ = ["cache_folder", "cached", "clear", "source_digest"]
