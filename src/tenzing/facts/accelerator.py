"""Accelerators as a roofline sees them: AWS chips and rivals under one set of names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tenzing.errors import FactsError
from tenzing.facts import sheet as sheets
from tenzing.facts.book import Book
from tenzing.facts.chip import all_chips, chip
from tenzing.facts.fact import Source
from tenzing.facts.loader import header_problems, leaf_problems, make_fact, sources
from tenzing.facts.schema import ACCELERATOR_KEYS
from tenzing.facts.sheet import Problem, Sheet

_HEADER: Final = {"family": str, "generation": int, "aliases": list}
_PREFIX: Final = re.compile(r"^(gpu|tpu|cpu|aws|nvidia|amd)[- ]")
SLICE: Final = "@"  # graviton4@16: sixteen cores of one processor
GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Dense peaks in TFLOP/s (0 where the format is absent), memory and links of one device.

    ``family`` is neuron, gpu, tpu or cpu; ``cores`` are physical cores; ``link_gb_s`` counts
    both directions; ``unknown`` names the specifications that had to be filled in.
    """

    name: str
    family: str
    generation: int
    bf16_tflops: float
    fp8_tflops: float
    fp4_tflops: float
    fp32_tflops: float
    hbm_bytes: float
    hbm_gb_s: float
    link_gb_s: float
    link_domain: int
    cores: int = 1
    unknown: tuple[str, ...] = ()

    def tflops(self, dtype: str) -> float:
        """Dense peak for a format: fp4 falls back to fp8, fp8 to bf16."""
        if dtype == "fp32":
            return self.fp32_tflops
        if dtype == "fp4" and self.fp4_tflops:
            return self.fp4_tflops
        if dtype in ("fp4", "fp8") and self.fp8_tflops:
            return self.fp8_tflops
        return self.bf16_tflops


def accelerators() -> tuple[str, ...]:
    """Names of every accelerator we hold a roofline of: AWS chips first."""
    return (*all_chips(), *_rivals())


def accelerator(name: str) -> Accelerator:
    """The accelerator of that name or alias (``gpu-h100``, ``trainium2``); FactsError lists all.

    ``graviton4@16`` is sixteen cores of that CPU, with their share of everything.
    """
    whole, slash, part = name.partition(SLICE)
    if slash:
        return _slice(accelerator(whole), part)
    key = _PREFIX.sub("", name.strip().lower().split(" (")[0])
    found = _aliases().get(key) or _aliases().get(_leading(key))
    if found is None:
        raise FactsError(
            f"no accelerator is named {name!r}", got=repr(name),
            allowed=", ".join(accelerators()),
            next_step="add it to facts/accelerators.toml with a source",
        )  # fmt: skip
    return found


def _slice(whole: Accelerator, part: str) -> Accelerator:
    """Some cores of a CPU, as small instances have them."""
    book = _rivals()[whole.name][0] if whole.name in _rivals() else None
    total = book.integer("cpu_cores") if book is not None and book.known("cpu_cores") else 0
    if not part.isdigit() or not 1 <= int(part) <= total:
        raise FactsError(
            f"{whole.name}{SLICE}{part}: only cores of a CPU can be rented in part", got=repr(part),
            allowed=f"1 to {total}" if total else "the whole device",
        )  # fmt: skip
    share = int(part) / total
    return replace(
        whole, name=f"{whole.name}{SLICE}{part}", bf16_tflops=whole.bf16_tflops * share,
        fp8_tflops=whole.fp8_tflops * share, fp4_tflops=whole.fp4_tflops * share,
        fp32_tflops=whole.fp32_tflops * share, hbm_bytes=whole.hbm_bytes * share,
        hbm_gb_s=whole.hbm_gb_s * share,
    )  # fmt: skip


def _leading(key: str) -> str:
    """The longest known name that a spoken one begins with: ``h100 pcie`` is ``h100``."""
    return max((name for name in _aliases() if re.match(rf"{re.escape(name)}[ _-]", key)),
               key=len, default="")  # fmt: skip


def rival_facts() -> list[Book]:
    """Every fact we hold about accelerators that are not AWS silicon, a book each."""
    return [book for book, _ in _rivals().values()]


def rival(name: str) -> Book:
    """The facts of an accelerator that is not AWS silicon, by any of its names."""
    found = accelerator(name.partition(SLICE)[0]).name
    if found not in _rivals():
        raise FactsError(f"{found} is an AWS chip", next_step=f"facts.chip({found!r})")
    return _rivals()[found][0]


@functools.cache
def _aliases() -> Mapping[str, Accelerator]:
    found: dict[str, Accelerator] = {}
    for name in all_chips():
        entry = chip(name)
        found |= dict.fromkeys((name, *entry.aliases), _neuron(name))
    for name, (book, header) in _rivals().items():
        found |= dict.fromkeys((name, *header["aliases"]), _rival(name, book, header))
    return found


def _neuron(name: str) -> Accelerator:
    entry = chip(name)
    missing: list[str] = []

    def number(path: str, otherwise: float = 0.0) -> float:
        if entry.known(path):
            return entry.number(path)
        missing.append(path)
        return otherwise

    bf16 = number("chip.peak_bf16_tflops")
    return Accelerator(
        name, "neuron", entry.generation, bf16, number("chip.peak_fp8_tflops", bf16), 0.0,
        number("chip.peak_fp32_tflops", bf16 / 4), number("hbm.chip_bytes"),
        number("hbm.chip_gb_s"), number("link.chip_gb_s"), 64, entry.integer("core.per_chip"),
        tuple(missing),
    )  # fmt: skip


def _rival(name: str, book: Book, header: Mapping[str, Any]) -> Accelerator:
    def number(path: str) -> float:
        return book.number(path) if book.known(path) else 0.0

    return Accelerator(
        name, header["family"], header["generation"], number("peak_bf16_tflops"),
        number("peak_fp8_tflops"), number("peak_fp4_tflops"), number("peak_fp32_tflops"),
        number("hbm_gib") * GIB, number("hbm_gb_s"), number("link_gb_s"),
        int(number("link_domain")), 1,
        tuple(path for path, key in ACCELERATOR_KEYS.items()
              if key.required and not book.known(path)),
    )  # fmt: skip


@functools.cache
def _rivals() -> Mapping[str, tuple[Book, Mapping[str, Any]]]:
    file, text = sheets.file_text("accelerators.toml")
    return read_accelerators(sheets.parse(text, file), sources())


def read_accelerators(
    sheet: Sheet, known: Mapping[str, Source]
) -> dict[str, tuple[Book, Mapping[str, Any]]]:
    """Facts and header of every rival of a sheet; FactsError with every broken rule."""
    sheets.refuse(sheet, header_problems(sheet, {"accelerator": dict}))
    rows = sheet.data["accelerator"]
    sheets.refuse(sheet, [p for name in rows for p in _problems(name, rows[name], known)])
    found: dict[str, tuple[Book, Mapping[str, Any]]] = {}
    for name, row in rows.items():
        leaves = {k: make_fact(v) for k, v in row.items() if k not in _HEADER}
        header = {k: row[k] for k in _HEADER}
        found[name] = (Book(name, sheet.file, leaves, ACCELERATOR_KEYS), header)
    return found


def _problems(name: str, row: Any, known: Mapping[str, Source]) -> Iterator[Problem]:
    place = f"accelerator.{name}"
    for key, kind in _HEADER.items():
        if not isinstance(row.get(key), kind):
            yield Problem(place, f"an accelerator needs {key}", repr(row.get(key)), kind.__name__)
    for path, leaf in row.items():
        if path not in _HEADER:
            yield from leaf_problems(f"{place}.{path}", path, leaf, ACCELERATOR_KEYS, known)
    for path, wanted in ACCELERATOR_KEYS.items():
        if wanted.required and path not in row:
            yield Problem(place, f"an accelerator needs {path}",
                          next_step="give it, or record that it is unknown")  # fmt: skip
