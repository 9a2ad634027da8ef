"""Where the items of a sweep are computed: in this process, in local processes, on a Ray cluster.

An engine is a generator: it takes chunks of numbered items and yields their outcomes chunk by chunk
in any order. Leaving it early, for whatever reason, stops everything that it started.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from tenzing.errors import TenzingError, UsageError
from tenzing.machine.store import source_digest

Item = TypeVar("Item")
Result = TypeVar("Result")
Chunk = Sequence[tuple[int, Item]]
Outcomes = list[tuple[int, Result | TenzingError]]
KNOCK_S: Final = 5.0
KILLED: Final = 1  # exit status of a worker that lost its parent


class ItemError(TenzingError):
    """One item of a sweep failed in a way that nobody foresaw; the others go on."""

    rule = "item"


def compute(function: Callable[[Item], Result], chunk: Chunk[Item]) -> Outcomes[Result]:
    """Outcomes of a chunk: what the function returned, or the error that stands for it."""
    return [(number, outcome(function, item)) for number, item in chunk]


def outcome(function: Callable[[Item], Result], item: Item) -> Result | TenzingError:
    """The result of one item, or its error."""
    try:
        return function(item)
    except TenzingError as error:
        return error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return ItemError(
            f"{type(error).__name__}: {error}",
            got=f"at {Path(last.filename).name}:{last.lineno} in {last.name}",
            next_step="call the function with this item alone to see more",
        )  # fmt: skip


def serial(
    function: Callable[[Item], Result], chunks: Sequence[Chunk[Item]]
) -> Generator[Outcomes[Result], None, None]:
    """In this process, one after another."""
    for chunk in chunks:
        yield compute(function, chunk)


# --- local processes ----------------------------------------------------------------------------


def processes(
    function: Callable[[Item], Result], chunks: Sequence[Chunk[Item]], jobs: int
) -> Generator[Outcomes[Result], None, None]:
    """In ``jobs`` fresh processes; an item that ends its process is found, and is its own error."""
    waiting = dict(enumerate(chunks))
    with suppress(BrokenProcessPool), _pool(jobs) as pool:
        futures = {pool.submit(compute, function, chunk): n for n, chunk in waiting.items()}
        for future in as_completed(futures):
            if isinstance(future.exception(), Exception):
                continue  # the process died, or something could not travel: looked at below
            del waiting[futures[future]]
            yield future.result()
    if len(waiting) == len(chunks):
        _check_that_processes_start()
    yield from _one_by_one(function, [pair for chunk in waiting.values() for pair in chunk])


def _one_by_one(
    function: Callable[[Item], Result], rest: Chunk[Item]
) -> Generator[Outcomes[Result], None, None]:
    """What is left after a failure, item by item in one process, so that it is known whose."""
    done = 0
    while done < len(rest):
        with suppress(BrokenProcessPool), _pool(1) as pool:
            while done < len(rest):
                future = pool.submit(compute, function, [rest[done]])
                error = future.exception()
                yield [(rest[done][0], _lost(error))] if error else future.result()
                done += 1
                if isinstance(error, BrokenProcessPool):
                    break  # the next item needs a new process


def _lost(error: BaseException) -> ItemError:
    if isinstance(error, BrokenProcessPool):
        return ItemError("its process was ended from outside or crashed",
                         next_step="look at its memory, or run with fewer jobs")  # fmt: skip
    return ItemError(f"item or result cannot travel between processes: {error}",
                     next_step="make both of plain data, or give jobs=1")  # fmt: skip


def _check_that_processes_start() -> None:
    """Raises UsageError where no process can be started at all."""
    try:
        with _pool(1) as pool:
            pool.submit(os.getpid).result()
    except BrokenProcessPool:
        main = getattr(sys.modules["__main__"], "__file__", None)
        raise UsageError(
            "local processes cannot start: a new process reads the program's first file again",
            got=main, next_step='put its code under `if __name__ == "__main__":`, or give jobs=1',
        ) from None  # fmt: skip


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, none of which is left when the block is left."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, _start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join()
        raise
    pool.shutdown()


def _start_worker() -> None:
    """Ctrl-C is the parent's business; a worker whose parent is gone goes too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(KILLED)


# --- a Ray cluster ------------------------------------------------------------------------------


def on_ray(
    function: Callable[[Item], Result], chunks: Sequence[Chunk[Item]], address: str
) -> Generator[Outcomes[Result], None, None]:
    """As tasks on the Ray cluster at ``address``, whose nodes have this tenzing installed.

    A program that is connected already stays connected; otherwise the connection ends here.
    """
    ray = _require_ray()
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    waiting: dict[Any, Chunk[Item]] = {}
    try:
        task = ray.remote(max_retries=0)(_compute_elsewhere)
        waiting = {task.remote(source_digest(), function, chunk): chunk for chunk in chunks}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield _fetched(ray, done, waiting[done])
            del waiting[done]
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        if own:
            ray.shutdown()


def _fetched(ray: Any, reference: Any, chunk: Chunk[Item]) -> Outcomes[Any]:
    """The outcomes of a task; where its worker died, that is the outcome of every item."""
    try:
        found: Outcomes[Any] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, TenzingError) else error from None
    except ray.exceptions.RayError as error:
        lost = ItemError(f"its Ray worker was lost: {type(error).__name__}",
                         next_step="see the cluster's log, or sweep it again")  # fmt: skip
        return [(number, lost) for number, _ in chunk]
    return found


def _compute_elsewhere(
    digest: str, function: Callable[[Item], Result], chunk: Chunk[Item]
) -> Outcomes[Result]:
    """A chunk on another machine, which must have the same sources and facts."""
    if source_digest() != digest:
        raise UsageError("a node of the Ray cluster has another tenzing than this machine",
                         next_step="install the same release on every node")  # fmt: skip
    return compute(function, chunk)


def _require_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise UsageError("a sweep on a cluster needs Ray, which is not installed",
                         next_step='pip install "tenzing[ray]"') from None  # fmt: skip


def _connect(ray: Any, address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray's, gRPC's and the socket's
        raise UsageError(
            f"no Ray cluster answers at {address}", got=str(error).splitlines()[0],
            allowed="auto, HOST:PORT or ray://HOST:PORT",
            next_step="start one with `ray start --head`",
        ) from None  # fmt: skip


def _knock(address: str) -> None:
    """OSError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()


__all__ = ["ItemError", "on_ray", "outcome", "processes", "serial"]
