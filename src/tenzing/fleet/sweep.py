"""The same function over many items: kept on disk, on one process, several, or a Ray cluster."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from tenzing.errors import TenzingError, UsageError
from tenzing.fleet import engines
from tenzing.fleet.content import from_json, to_json
from tenzing.machine import store

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[str], None]
KIND: Final = "sweep"  # of kept results
CHUNKS_PER_JOB: Final = 8  # so that a slow chunk does not leave the other processes idle
MOST_CHUNK: Final = 64  # items; progress is told, and results are kept, chunk by chunk
WORTH_A_PROCESS: Final = 8  # items for each: fewer take less time than a process takes to start


def sweep(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    ray: str = "",
    jobs: int | None = None,
    keep: bool = True,
    progress: Progress = lambda _: None,
) -> list[Result | TenzingError]:
    """``function`` of every item, in order; a TenzingError in place of what an item failed with.

    The answers do not depend on where they are computed: in this process (``jobs=1``), in ``jobs``
    local ones (by default one per CPU, where there is enough to do), or on the Ray cluster at the
    address ``ray``. The function stands at the top of a module, and depends on its item alone.

    With ``keep``, results are kept on disk under the content of function and item (see
    ``TENZING_CACHE``), so items and results are made of numbers, text, lists, tuples, mappings,
    enums and dataclasses. Errors are not kept. Raises UsageError where no engine can run, and for
    items that have no content.
    """
    _check(function, jobs)
    found: dict[int, Result | TenzingError] = {}
    keys = _keys(function, items) if keep else {}
    for number, key in keys.items():
        kept = _find(key)
        if kept is not None:
            found[number] = kept.value
    rest = [(number, item) for number, item in enumerate(items) if number not in found]
    if found and rest:
        progress(f"{len(found)} of {len(items)} are known from before")
    with closing(_run(function, rest, ray, jobs)) as engine:  # Ctrl-C here stops it at once
        for outcomes in engine:
            done = [(n, _settled(result) if keep else result) for n, result in outcomes]
            found.update(done)
            store.keep(KIND, [(keys[n], to_json(r)) for n, r in done if keep and not _failed(r)])
            progress(f"{len(found)} of {len(items)}")
    return [found[number] for number in range(len(items))]


def _check(function: Callable[..., Any], jobs: int | None) -> None:
    if jobs is not None and jobs < 1:
        raise UsageError("jobs", got=jobs, allowed="a number of processes from 1 on")
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", "")
    found: Any = None
    if name and module:
        found = getattr(import_module(module), name, None)
    if found is not function:
        raise UsageError(
            "a sweep needs a function that other processes can import", got=name or repr(function),
            next_step="define it at the top of a module; what it needs belongs into the items",
        )  # fmt: skip


def _run(
    function: Callable[[Item], Result], rest: list[tuple[int, Item]], ray: str, jobs: int | None
) -> Generator[list[tuple[int, Result | TenzingError]], None, None]:
    if ray and rest:
        return engines.on_ray(function, _chunks(rest, len(rest)), ray)
    count = jobs or min(_cpus(), len(rest) // WORTH_A_PROCESS)
    if count <= 1:
        return engines.serial(function, _chunks(rest, 1))
    return engines.processes(function, _chunks(rest, count), min(count, len(rest)))


def _chunks(rest: list[tuple[int, Item]], jobs: int) -> list[list[tuple[int, Item]]]:
    size = min(max(len(rest) // (jobs * CHUNKS_PER_JOB), 1), MOST_CHUNK)
    return [rest[start : start + size] for start in range(0, len(rest), size)]


def _cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- what is kept -------------------------------------------------------------------------------


def _keys(function: Callable[..., Any], items: Sequence[Any]) -> dict[int, Mapping[str, Any]]:
    """What the result of each item depends on, beside our own sources and facts."""
    code = _code_of(function)
    name = f"{function.__module__}:{function.__qualname__}"
    return {
        number: {"function": name, "code": code, "item": to_json(item)}
        for number, item in enumerate(items)
    }


def _code_of(function: Callable[..., Any]) -> str:
    """The digest of a function's file where it is not one of ours, whose digest is in every key."""
    if function.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return ""
    try:
        text = Path(inspect.getfile(function)).read_bytes()
    except (OSError, TypeError):
        raise UsageError("the source of the function is not in a file", got=function.__qualname__,
                         next_step="give keep=False") from None  # fmt: skip
    return hashlib.sha256(text).hexdigest()


def _find(key: Mapping[str, Any]) -> store.Kept | None:
    kept = store.find(KIND, key)
    try:
        return None if kept is None else store.Kept(from_json(kept.value))
    except (TenzingError, ImportError, AttributeError, KeyError, TypeError, ValueError):
        return None  # an entry that somebody changed


def _settled(result: Result | TenzingError) -> Result | TenzingError:
    """A result as a later sweep will read it; the item's error when it cannot be kept."""
    return result if _failed(result) else engines.outcome(_there_and_back, result)


def _there_and_back(value: Any) -> Any:
    return from_json(to_json(value))


def _failed(result: Any) -> bool:
    return isinstance(result, TenzingError)


__all__ = ["sweep"]
