"""``nki.jit``: binds arguments, runs the kernel on simulated cores, hands back arrays."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, SupportsIndex

import numpy as np

from tenzing import facts
from tenzing.errors import KernelError, Loc, TenzingError, UsageError
from tenzing.isa import numerics
from tenzing.isa.operand import Array, Layout, Space, Storage, resolve_loc
from tenzing.isa.program import Program
from tenzing.machine import ACTIVE, INTERNAL, Core, Options
from tenzing.nki.tensor import NkiTensor

__tenzing_internal__ = True

TARGET_VARIABLE: Final = "NEURON_PLATFORM_TARGET_OVERRIDE"
DEFAULT_TARGET: Final = "trn2"
_BELOW: Final = ("tenzing.nki", "tenzing.machine", "tenzing.isa", "tenzing.facts")


@dataclass(slots=True)
class Launch:
    """One call of a kernel: its programs (one per core), inputs, outputs and place."""

    name: str
    programs: list[Program]
    outputs: Any
    loc: Loc | None
    trace_seconds: float = 0.0


@dataclass(slots=True)
class Session:
    """Settings for every kernel called inside it, and the record of what was called."""

    target: str = DEFAULT_TARGET
    options: Options = field(default_factory=Options)
    launches: list[Launch] = field(default_factory=list)
    on_launch: Callable[[Launch], None] | None = None


_SESSION: Final[ContextVar[Session]] = ContextVar("session")


@contextmanager
def session(target: str = "", options: Options | None = None, **rest: Any) -> Iterator[Session]:
    """Run kernels for one target and collect their launches."""
    with entered(Session(target or default_target(), options or Options(), **rest)) as current:
        yield current


@contextmanager
def entered(current: Session) -> Iterator[Session]:
    """Run kernels in a session made before."""
    token = _SESSION.set(current)
    try:
        yield current
    finally:
        _SESSION.reset(token)


def current_target() -> str:
    """Target of the running session, else the default one."""
    current = _SESSION.get(None)
    return default_target() if current is None else current.target


def default_target() -> str:
    """Target named by the environment, else Trainium 2."""
    return os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET


@dataclass(frozen=True, slots=True)
class GridDim:
    """One dim of a launch grid: its size and how many physical cores share it."""

    size: int
    cores: int = 1


class Kernel:
    """A kernel function; call it with arrays, or ``kernel[grid](...)``."""

    def __init__(
        self, function: Callable[..., Any], *, spmd: bool = False, grid: Sequence[GridDim] = ()
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.spmd = spmd  # older language: the grid counts programs, not physical cores
        self.grid = tuple(grid)

    def __getitem__(self, grid: Any) -> Kernel:
        dims = grid if isinstance(grid, tuple) else (grid,)
        bound = [d if isinstance(d, GridDim) else GridDim(self._programs(d)) for d in dims]
        if not self.spmd:
            bound = [GridDim(d.size, d.size) for d in bound]
        return Kernel(self.function, spmd=self.spmd, grid=bound)

    def _programs(self, size: Any) -> int:
        """Programs of one grid dim; public samples of the older language launch one with 0."""
        count = int(size) if isinstance(size, SupportsIndex) else -1
        if count == 0 and self.spmd:
            return 1
        if count < 1:
            raise UsageError(f"{self.function.__name__}[{size!r}]: a launch grid has no programs",
                             allowed="1 or more")  # fmt: skip
        return count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if ACTIVE.get(None) is not None:
            return self.function(*args, **kwargs)  # a kernel inside a kernel is a plain call
        return self.launch(*args, **kwargs).outputs

    def launch(self, *args: Any, **kwargs: Any) -> Launch:
        """Run and return the whole record, not only the outputs."""
        current = _SESSION.get(None) or Session(default_target())
        frame = sys._getframe(1)
        while "__tenzing_internal__" in frame.f_globals and frame.f_back is not None:
            frame = frame.f_back
        loc = resolve_loc((frame.f_code, frame.f_lasti))
        started = time.perf_counter()
        try:
            launch = _run(self, current, args, kwargs, loc)
        except TenzingError as error:
            raise error.at(loc) from None
        launch.trace_seconds = time.perf_counter() - started
        current.launches.append(launch)
        if current.on_launch is not None:
            current.on_launch(launch)
        return launch


def jit(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Make a kernel of a function; extra compiler options are accepted and have no effect."""
    if function is None:
        return Kernel
    return function if isinstance(function, Kernel) else Kernel(function)


def simulate(kernel: Any, **_: Any) -> Kernel:
    """The kernel itself: every call is simulated here."""
    return kernel if isinstance(kernel, Kernel) else Kernel(kernel)


def user_place(trace: TracebackType | None) -> Loc | None:
    """Where in the user's source the innermost frame of an error stands."""
    found: Loc | None = None
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if INTERNAL not in trace.tb_frame.f_globals and not module.startswith(_BELOW):
            found = resolve_loc((trace.tb_frame.f_code, trace.tb_lasti))
        trace = trace.tb_next
    return found


# -- one launch -------------------------------------------------------------------------------


@dataclass(slots=True)
class Instance:
    """Which program of the grid is running, and the tensors its siblings share."""

    ids: tuple[int, ...]
    grid: tuple[int, ...]
    shared: list[tuple[tuple[Any, ...], Array | None]]
    cursor: int = 0


INSTANCE: Final[ContextVar[Instance]] = ContextVar("program instance")


def _run(
    kernel: Kernel, current: Session, args: tuple[Any, ...], kwargs: dict[str, Any], loc: Loc | None
) -> Launch:
    grid = kernel.grid
    count = 1
    for dim in grid:
        count *= dim.cores
    chip = facts.simulated_chip(current.target)
    if count > chip.integer("core.per_chip"):
        raise UsageError(f"{chip.name} has {chip.integer('core.per_chip')} cores",
                         got=f"a grid over {count} cores")  # fmt: skip
    name = kernel.function.__name__
    cores = [Core(chip, current.options, name) for _ in range(count)]
    near = chip.integer("hbm.cores_per_stack")
    for place, core in enumerate(cores):
        core.program.hbm_sharers = min(near, count - place // near * near)
    shared: list[tuple[tuple[Any, ...], Array | None]] = []
    bound = [_bind_all(core, args, kwargs) for core in cores]
    _alias_inputs(bound)
    result: Any = None
    for ids in itertools.product(*(range(d.size) for d in grid)):
        place = 0
        for position, dim in zip(ids, grid, strict=True):
            place = place * dim.cores + position % dim.cores
        instance = Instance(ids, tuple(d.size for d in grid), shared)
        value = _call(kernel.function, cores[place], instance, bound[place])
        result = value if result is None else result
    _write_back(bound[0], args, kwargs, cores[0].program)
    torch_like = any(_is_torch(a) for a in (*args, *kwargs.values()))
    _map(result, _check_output)
    outputs = _map(result, lambda t: _to_user(t, torch_like))
    return Launch(name, [core.program for core in cores], outputs, loc)


Bound = tuple[tuple[Any, ...], dict[str, Any]]


def _call(function: Callable[..., Any], core: Core, instance: Instance, bound: Bound) -> Any:
    core_token = ACTIVE.set(core)
    instance_token = INSTANCE.set(instance)
    collecting = gc.isenabled()
    gc.disable()  # recording makes millions of small objects, none of them in a cycle
    try:
        result = function(*bound[0], **bound[1])
        core.flush()
    except TenzingError as error:
        raise error.at(user_place(error.__traceback__)) from None
    finally:
        if collecting:
            gc.enable()
        ACTIVE.reset(core_token)
        INSTANCE.reset(instance_token)
    return result


def _bind_all(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
    return (
        tuple(_bind(core, f"arg{k}", a) for k, a in enumerate(args)),
        {key: _bind(core, key, a) for key, a in kwargs.items()},
    )


def _bind(core: Core, name: str, value: Any) -> Any:
    if isinstance(value, Spec):
        storage, _, layout, data = core.allocate(
            Space.HBM, value.dtype, value.shape, name=name, origin="input"
        )
        return NkiTensor(storage, 0, layout, data)
    if type(value) in (list, tuple):
        return type(value)(_bind(core, f"{name}_{k}", v) for k, v in enumerate(value))
    array = _as_numpy(value)
    if array is None:
        return value
    if array.dtype.hasobject:
        raise UsageError(f"argument {name} is an array of Python objects",
                         next_step="give an array of numbers")  # fmt: skip
    storage, _, layout, data = core.allocate(
        Space.HBM, array.dtype, array.shape or (1,), name=name, origin="input", contents=array
    )
    return NkiTensor(storage, 0, layout, data)


def _alias_inputs(bound: list[Bound]) -> None:
    """Cores of one launch see the same HBM."""
    first = [*bound[0][0], *bound[0][1].values()]
    for other in bound[1:]:
        for mine, theirs in zip(first, [*other[0], *other[1].values()], strict=True):
            for a, b in zip(_tensors(mine), _tensors(theirs), strict=True):
                b.data = a.data


def _tensors(value: Any) -> list[NkiTensor]:
    found: list[NkiTensor] = []
    _map(value, found.append)
    return found


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and dtype of an argument when only time is asked for."""

    shape: tuple[int, ...]
    dtype: Any


def shared_tensor(key: tuple[Any, ...], make: Callable[[], NkiTensor]) -> NkiTensor:
    """The n-th shared HBM tensor of this launch: the same one in every program of the grid."""
    instance = INSTANCE.get(None)
    tensor: NkiTensor
    if instance is None:
        return make()
    core = ACTIVE.get()
    at = instance.cursor
    instance.cursor += 1
    if at == len(instance.shared):
        tensor = make()
        instance.shared.append((key, tensor.data))
        core.shared[at] = tensor
        return tensor
    known, data = instance.shared[at]
    if known != key:
        raise KernelError(f"programs of one grid allocate different shared tensors: {key}, {known}",
                          where=core.here())  # fmt: skip
    if at not in core.shared:
        tensor = make()
        tensor.data = data
        core.shared[at] = tensor
    return core.shared[at]  # type: ignore[return-value]


# -- arrays in and out ------------------------------------------------------------------------


def _is_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _as_numpy(value: Any) -> Array | None:
    """NumPy view of an array or tensor argument; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if _is_torch(value):
        tensor = value.detach().cpu().contiguous()
        torch = sys.modules["torch"]
        dtype = numerics.dtype(str(tensor.dtype))
        if dtype.isbuiltin != 1:  # one of ml_dtypes': torch hands out its bits
            bits = torch.uint8 if dtype.itemsize == 1 else torch.int16
            return np.asarray(tensor.view(bits).numpy()).view(dtype)
        return np.asarray(tensor.numpy())
    if isinstance(value, np.generic) or not hasattr(value, "dtype"):
        return None
    return np.asarray(value) if hasattr(value, "__array__") else None


def _check_output(tensor: NkiTensor) -> None:
    if tensor.buffer.on_chip:
        raise KernelError(
            f"a kernel returns tensors in HBM; got {tensor!r}",
            next_step="store it into nl.ndarray(..., buffer=nl.shared_hbm)",
        )


def _to_user(tensor: NkiTensor, torch_like: bool) -> Any:
    if tensor.data is None:
        return Spec(tensor.shape, tensor.dtype)
    array = tensor.array().copy()
    if not torch_like:
        return array
    torch = sys.modules["torch"]
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    bits = array.view(np.uint8 if array.dtype.itemsize == 1 else np.int16)
    return torch.from_numpy(bits).view(getattr(torch, array.dtype.name))


def _map(value: Any, function: Callable[[NkiTensor], Any]) -> Any:
    if isinstance(value, NkiTensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_map(v, function) for v in value)
    if isinstance(value, list):
        return [_map(v, function) for v in value]
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    return value


def _write_back(
    bound: Bound, args: tuple[Any, ...], kwargs: dict[str, Any], program: Program
) -> None:
    """Copy inputs the kernel wrote to back into the caller's arrays."""
    pairs = [*zip(bound[0], args, strict=True), *((bound[1][k], v) for k, v in kwargs.items())]
    written = _written_storages(program)
    for tensor, user in pairs:
        if not isinstance(tensor, NkiTensor) or tensor.storage.id not in written:
            continue
        if isinstance(user, np.ndarray) and user.flags.writeable and tensor.data is not None:
            user[...] = tensor.array().reshape(user.shape)
        elif _is_torch(user) and tensor.data is not None:
            user.copy_(_to_user(tensor, torch_like=True).reshape(user.shape))


def _written_storages(program: Program) -> set[int]:
    found: set[int] = set()
    places = [t.writes for t in program.templates]
    for row in program.rows:
        for place in places[row[0]]:
            found.add(row[1 + 2 * place])
    return found


__all__ = [
    "GridDim", "Kernel", "Launch", "Layout", "Session", "Spec", "Storage", "current_target",
    "default_target", "entered", "jit", "session", "shared_tensor", "simulate",
]  # fmt: skip
