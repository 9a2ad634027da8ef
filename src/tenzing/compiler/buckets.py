"""One model for requests of many sizes: a program per bucket, inputs padded, outputs cut back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from tenzing.compiler import reference
from tenzing.compiler.artifact import Compiled, compile, split_example
from tenzing.compiler.comparison import difference, tolerance_of
from tenzing.compiler.digest import digest
from tenzing.compiler.frontends.interface import Interface, check_integers, check_type
from tenzing.compiler.graph import Array, TensorType, Value
from tenzing.compiler.traffic import (
    BATCH,
    LENGTH,
    Size,
    Traffic,
    Waste,
    smallest_fitting,
    tokens,
    waste_of,
)
from tenzing.errors import UsageError

NAMED_DIMS: Final = {1: (LENGTH,), 2: (BATCH, LENGTH)}  # of models that take sizes by name
Prepared = tuple[str, dict[str, TensorType], Mapping[str, Array]]
Axes = tuple[int | None, ...]  # which dim of the bucket each axis of a tensor follows


@dataclass(frozen=True)
class Bucketed:
    """Programs of one model by bucket; call it with inputs of any size that fits one of them.

    ``dims`` names the numbers of a bucket. ``inputs`` and ``outputs`` say which axes follow them,
    ``pads`` what fills the rest of each input.
    """

    dims: tuple[str, ...]
    programs: Mapping[Size, Compiled]
    inputs: tuple[Axes, ...]
    outputs: tuple[Axes, ...]
    pads: Mapping[str, Any]
    _prepared: list[Prepared] = field(default_factory=list, repr=False)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """What the model returns for these inputs; UsageError when they fit no bucket."""
        arrays = self._any.interface.leaves(inputs, keywords)
        size = self.size_of(arrays)
        compiled = self._ready(self.bucket_for(size))
        found = compiled.run_arrays(self.padded(arrays, compiled))
        return compiled.interface.outputs(self.cut(found, size))

    def _ready(self, bucket: Size) -> Compiled:
        """The program of a bucket, on the prepared weights of another that prepares them alike."""
        compiled = self.programs[bucket]
        before = compiled.graph.preparation
        key = "" if before is None else digest(before)
        kinds = {value.name: value.type for value in compiled.graph.parameters}
        for other, names, prepared in self._prepared:
            if other == key and names == kinds:
                compiled.weights = prepared
                return compiled
        if "weights" not in vars(compiled):
            self._prepared.append((key, kinds, compiled.weights))
        return compiled

    @cached_property
    def _any(self) -> Compiled:
        return next(iter(self.programs.values()))

    def bucket_for(self, size: Size) -> Size:
        """The smallest bucket that holds a request; UsageError when none does."""
        found = smallest_fitting(size, self.programs)
        if found is None:
            raise UsageError(
                "this request fits no bucket", got=self._said(size),
                allowed="; ".join(map(self._said, self.programs)),
                next_step="split it, or compile a larger bucket (tenzing buckets finds which pay)",
            )  # fmt: skip
        return found

    def _said(self, size: Size) -> str:
        return ", ".join(f"{d} {n}" for d, n in zip(self.dims, size, strict=True))

    def size_of(self, arrays: Sequence[Array]) -> Size:
        """The size of a request by the shapes of its inputs, which must agree."""
        found: dict[int, tuple[int, str]] = {}
        for array, value, axes in zip(arrays, self._any.graph.inputs, self.inputs, strict=True):
            _check_static(array, value, axes)
            for size, dim in zip(array.shape, axes, strict=True):
                if dim is None:
                    continue
                known, first = found.setdefault(dim, (size, value.name))
                if size != known:
                    raise UsageError(f"inputs differ in {self.dims[dim]}",
                                     got=f"{known} in {first}, {size} in {value.name}",
                                     allowed="one size")  # fmt: skip
        whole = self._bucket_of(self._any)
        return tuple(found.get(k, (whole[k], ""))[0] for k in range(len(self.dims)))

    def _bucket_of(self, compiled: Compiled) -> Size:
        return next(size for size, program in self.programs.items() if program is compiled)

    def padded(self, arrays: Sequence[Array], compiled: Compiled) -> list[Array]:
        """Inputs filled up to the shapes of a program."""
        values = compiled.graph.inputs
        return [_pad(a, v, self.pads.get(v.name, 0)) for a, v in zip(arrays, values, strict=True)]

    def cut(self, outputs: Sequence[Array], size: Size) -> list[Array]:
        """Outputs of a program without the rows and positions that padding added."""
        found = []
        for array, axes in zip(outputs, self.outputs, strict=True):
            ends = (slice(None) if dim is None else slice(size[dim]) for dim in axes)
            found.append(array[tuple(ends)])
        return found

    def latency_us(self, *size: int) -> float:
        """Simulated time of a request of this size, in the bucket that it runs in."""
        return self.programs[self.bucket_for(tuple(size))].latency_us

    def waste(self, traffic: Traffic | Iterable[int | Sequence[int]]) -> Waste:
        """The padding of a sample of traffic in these buckets, counted in tokens."""
        sample = traffic if isinstance(traffic, Traffic) else Traffic.of(traffic, self.dims)
        if sample.dims != self.dims:
            raise UsageError("this traffic has other dims than the buckets",
                             got=", ".join(sample.dims), allowed=", ".join(self.dims))  # fmt: skip
        return waste_of(sample, self.programs)


def compile_buckets(
    model: Any,
    make_example: Callable[..., Any] | None = None,
    *,
    buckets: Iterable[int | Sequence[int]],
    pad: Mapping[str, Any] | None = None,
    check: bool = True,
    **options: Any,
) -> Bucketed:
    """Compile a model once per bucket, for requests of any size up to the largest.

    ``make_example(batch, length)`` gives example inputs of a size; its parameters name the dims,
    and each of ``buckets`` has one number for each (a plain number for one dim). Without it the
    model is one that makes its own examples, such as a Hugging Face folder. ``pad`` gives the
    value that fills an input beyond the request, by the input's name; it is 0 for all others, so
    that an attention mask leaves the padding out.

    ``check`` runs one request alone and padded, by the NumPy meaning, and raises UsageError when
    padding changes its result. ``options`` are those of :func:`tenzing.compile`.
    """
    sizes = _sizes(buckets)
    dims = _dims(make_example, len(sizes[0]))

    def at(size: Size) -> Compiled:
        if make_example is None:
            return compile(model, (), dict(zip(dims, size, strict=True)), **options)
        inputs, keywords = split_example(make_example(*size))
        return compile(model, inputs, keywords, **options)

    programs = {size: at(size) for size in sizes}
    whole = _compared(sizes)
    probe = at(_smaller(whole))
    inputs, outputs = _followed(programs[whole], whole, probe, _smaller(whole), dims)
    found = Bucketed(dims, programs, inputs, outputs, dict(pad or {}))
    _check_names(found)
    if check and probe.runnable and whole != _smaller(whole):
        _check_padding(found, probe, _smaller(whole), whole)
    return found


def _sizes(buckets: Iterable[int | Sequence[int]]) -> list[Size]:
    """Buckets as tuples, each once, the smallest first."""
    given = [(b,) if isinstance(b, int) else tuple(b) for b in buckets]
    if not given:
        raise UsageError("no bucket is given", allowed="one or more, such as (8, 128)")
    for size in given:
        whole = all(type(n) is int and n > 0 for n in size)
        if not size or len(size) != len(given[0]) or not whole:
            raise UsageError("a bucket", got=size, allowed="whole numbers above 0, as many as in "
                             "every other bucket")  # fmt: skip
    return sorted(set(given), key=lambda size: (tokens(size), size))


def _dims(make_example: Callable[..., Any] | None, count: int) -> tuple[str, ...]:
    """The names of a bucket's numbers."""
    if make_example is None:
        if count not in NAMED_DIMS:
            raise UsageError("numbers of a bucket", got=count,
                             allowed="length, or batch and length",
                             next_step="give make_example, whose parameters name them",
                             )  # fmt: skip
        return NAMED_DIMS[count]
    names = tuple(inspect.signature(make_example).parameters)
    if len(names) != count:
        raise UsageError("make_example takes other numbers than a bucket has",
                         got=", ".join(names) or "none", allowed=f"{count} parameters",
                         next_step="such as def make_example(batch, length)")  # fmt: skip
    return names


def _compared(sizes: Sequence[Size]) -> Size:
    """The smallest bucket in which every dim that requests may vary is above 1."""
    most = [max(column) for column in zip(*sizes, strict=True)]
    wide = [s for s in sizes if all(n > 1 or m == 1 for n, m in zip(s, most, strict=True))]
    return wide[0] if wide else sizes[-1]


def _smaller(size: Size) -> Size:
    """A request below a bucket in every dim, no two dims of it shrinking alike."""
    found: list[int] = []
    for number in size:
        less = max(1, number // 2)
        while (number, less) in zip(size, found, strict=False) and less > 1:
            less -= 1
        found.append(less)
    return tuple(found)


def _followed(
    whole: Compiled, bucket: Size, probe: Compiled, size: Size, dims: tuple[str, ...]
) -> tuple[tuple[Axes, ...], tuple[Axes, ...]]:
    """Which axes of inputs and outputs follow the bucket, by comparing two programs."""
    given, other = whole.imported.graph, probe.imported.graph
    if given.aliases:
        raise UsageError("a model that writes state cannot be padded: padding would be written too",
                         got=given.aliases[0].target,
                         next_step="keep the state outside, as an input and an output")  # fmt: skip
    if len(given.inputs) != len(other.inputs) or len(given.outputs) != len(other.outputs):
        raise UsageError("the model has other inputs or outputs at another size",
                         next_step="compile it once per size")  # fmt: skip
    names = dict(zip(whole.interface.output_places(), whole.interface.output_names(), strict=True))
    kinds = (
        [(v.name, v, o) for v, o in zip(given.inputs, other.inputs, strict=True)],
        [(names.get(k, v.name), v, o)
         for k, (v, o) in enumerate(zip(given.outputs, other.outputs, strict=True))],
    )  # fmt: skip
    pairs = list(zip(bucket, size, strict=True))
    inputs, outputs = (tuple(_axes(*one, pairs, dims) for one in kind) for kind in kinds)
    return inputs, outputs


def _axes(
    name: str, value: Value, other: Value, pairs: Sequence[tuple[int, int]], dims: tuple[str, ...]
) -> Axes:
    found: list[int | None] = []
    for pair in zip(value.shape, other.shape, strict=True):
        if pair[0] == pair[1]:
            found.append(None)
        elif pair in pairs:
            found.append(pairs.index(pair))
        else:
            raise UsageError(
                f"an axis of {name} follows no dim of the buckets", got=f"{pair[1]} and {pair[0]}",
                allowed=", ".join(f"{d}: {b} and {a}" for d, (a, b)
                                  in zip(dims, pairs, strict=True)),
                next_step="make the model return what has one entry per row or position",
            )  # fmt: skip
    return tuple(found)


def _check_names(found: Bucketed) -> None:
    inputs = found._any.graph.inputs
    unknown = sorted(set(found.pads) - {value.name for value in inputs})
    if unknown:
        raise UsageError("pad names no input of the model", got=", ".join(unknown),
                         allowed=", ".join(str(value) for value in inputs))  # fmt: skip
    for value in inputs:
        if value.name in found.pads:
            _filler(value, found.pads[value.name])


def _filler(value: Value, pad: Any) -> Array:
    """A padding value in the dtype of an input; UsageError when it does not fit."""
    try:
        exact = np.asarray(pad)
        with np.errstate(all="ignore"):
            filler = exact.astype(value.dtype)
        same = filler.shape == () and (exact.dtype.kind not in "iub" or filler == exact)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise UsageError(f"padding of input {value.name}", got=pad,
                         allowed=f"one number of {value.dtype.name}")  # fmt: skip
    return filler


def _check_static(array: Array, value: Value, axes: Axes) -> None:
    """The axes that no bucket pads have their compiled sizes."""
    same = array.ndim == len(axes) and all(
        dim is not None or size == wanted
        for size, wanted, dim in zip(array.shape, value.shape, axes, strict=True)
    )
    if not same or array.dtype != value.dtype:
        raise UsageError(
            f"input {value.name} has another shape or dtype than it was compiled for",
            got=f"{array.dtype.name}{list(array.shape)}",
            allowed=f"{value}, smaller along " + (", ".join(
                str(k) for k, dim in enumerate(axes) if dim is not None) or "no") + " axis",
        )  # fmt: skip


def _pad(array: Array, value: Value, pad: Any) -> Array:
    if array.shape == value.shape:
        found = array
    else:
        found = np.full(value.shape, _filler(value, pad), value.dtype)
        found[tuple(map(slice, array.shape))] = array
    check_type(found, value)
    check_integers(f"input {value.name}", found)
    return found


def _check_padding(found: Bucketed, probe: Compiled, size: Size, bucket: Size) -> None:
    """Raise UsageError when a request's results differ alone and padded."""
    arrays = probe.interface.arrays(*probe.example)
    whole = found.programs[bucket]
    alone = reference.run_prepared(probe.graph, arrays, probe.weights)
    padded = reference.run_prepared(whole.graph, found.padded(arrays, whole), whole.weights)
    together = found.cut(padded, size)
    for name, place in _named_outputs(whole.interface):
        limit = tolerance_of(alone[place].dtype, whole.autocast)
        apart = difference(name, together[place], alone[place], limit)
        if apart.beyond:
            named = ", ".join(str(value) for value in whole.graph.inputs)
            raise UsageError(
                f"padding changes {name}: {found._said(size)} alone and in {found._said(bucket)} "
                "give different results", got=f"a relative difference of {apart.relative:.2g}",
                allowed=f"{limit:g}",
                next_step="give the model its attention mask as an input and let it be padded with "
                f"0, or name other values with pad=; its inputs: {named}",
            )  # fmt: skip


def _named_outputs(interface: Interface) -> list[tuple[str, int]]:
    return list(zip(interface.output_names(), interface.output_places(), strict=True))


__all__ = ["Bucketed", "compile_buckets"]
