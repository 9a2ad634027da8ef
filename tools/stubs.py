"""Writes the stubs of ``tenzing.nki.isa`` and ``tenzing.nki.language`` from what they derive from.

Both modules fill themselves from tables when they are imported; a type checker sees only a stub.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from generated import ROOT, publish, wants_check
from stub_text import Imports, declaration, static_declarations, wrapped_names

from tenzing.isa import REGISTRY, Instruction
from tenzing.isa.instruction import AttrSpec, FastEnum, OperandSpec
from tenzing.isa.numerics import DTYPES, ActivationFunction, AluOp
from tenzing.nki import elementwise, isa, language, reductions
from tenzing.nki.emit import OLD_SPELLINGS, hidden_operands

SOURCE: Final = Path("src/tenzing/nki")
HEAD: Final = "# Derived by tools/stubs.py; `make docs` rewrites it.\n"
REMOVED: Final = ("mask",)  # accepted at run time only to say that it is gone
# How an annotation of an instruction class reads for the caller of its function.
CALLER_TYPES: Final = (
    (r"\bLayout\b", "NkiTensor"),
    (r"\bnumerics\.(AluOp|ActivationFunction)\b", "Operator"),
    (r"\benums\.", ""),
    (r"\bCommand\b", "reduce_cmd"),
)
CONVERTED_TYPES: Final = {
    "pattern_of": "Sequence[Sequence[int]]",
    "axes": "int | Sequence[int]",
    "shuffle_mask": "Sequence[int]",
    "tuple": "Sequence[int]",
}


def isa_stub() -> str:
    """The stub of ``nki.isa``: one function per instruction and the static names."""
    imports = Imports()
    static = static_declarations(ROOT / SOURCE / "isa.py", imports)
    imports.offer("collections.abc", "Callable", "Sequence")
    imports.offer("typing", "Any", "Final", "TypeAlias")
    imports.offer("tenzing.nki.language", "Opcode")
    functions = [instruction_function(kind) for kind in REGISTRY.values()]
    alias = "Operator: TypeAlias = str | Opcode | Callable[..., Any]"
    body = [alias, *_grouped(static), *functions]
    return _assemble("``nki.isa``: one function per instruction.", body, isa.__all__, imports)


def language_stub() -> str:
    """The stub of ``nki.language``: dtypes, functions from the tables and the static names."""
    imports = Imports()
    static = static_declarations(ROOT / SOURCE / "language.py", imports)
    imports.offer("tenzing.isa.operand", "DType")
    imports.offer("tenzing.nki.reductions", "Axis")
    imports.offer("typing", "Any", "Final")
    dtypes = "\n".join(f"{name}: Final[DType]" for name in DTYPES)
    tables = {**elementwise.FUNCTIONS, **reductions.FUNCTIONS}
    functions = [table_function(name, function) for name, function in tables.items()]
    body = [dtypes, *_grouped(static), *functions]
    return _assemble("``nki.language``: the current surface.", body, language.__all__, imports)


def instruction_function(kind: type[Instruction]) -> str:
    """The typed function of one instruction with its documentation."""
    return declaration(kind.nki, instruction_parameters(kind), "None", kind.__doc__)


def instruction_parameters(kind: type[Instruction]) -> list[str]:
    """Typed parameters of one instruction: published order and defaults, then ``name``."""
    hidden = hidden_operands(kind)
    parameters = []
    optional_seen = False
    for name, spec in kind.specs.items():
        if name in hidden:
            continue
        optional_seen = optional_seen or spec.has_default
        parameters.append(_parameter(kind, name, spec, optional=optional_seen))
    parameters.append("name: str | None = None")
    old = [n for n in OLD_SPELLINGS if n not in kind.specs and n not in REMOVED]
    return [*parameters, *(f"{n}: Any = None" for n in old)]


def _parameter(
    kind: type[Instruction], name: str, spec: OperandSpec | AttrSpec, *, optional: bool
) -> str:
    annotation = caller_type(kind, name, spec)
    if not optional:
        return f"{name}: {annotation}"
    if spec.default is None and "None" not in annotation and annotation != "Any":
        annotation += " | None"
    return f"{name}: {annotation} = {default_text(spec.default)}"


def caller_type(kind: type[Instruction], name: str, spec: OperandSpec | AttrSpec) -> str:
    """What a caller may give for a field of an instruction class."""
    declared = next(b.__annotations__[name] for b in kind.__mro__ if name in b.__annotations__)
    converter = getattr(spec.convert, "__name__", "") if isinstance(spec, AttrSpec) else ""
    if converter in CONVERTED_TYPES:
        return CONVERTED_TYPES[converter]
    text = str(declared)
    for pattern, replacement in CALLER_TYPES:
        text = re.sub(pattern, replacement, text)
    return text


def default_text(value: Any) -> str:
    """A default as the caller would write it."""
    if isinstance(value, FastEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, AluOp | ActivationFunction):
        return f'"{value.name}"'
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("e+", "e")


def table_function(name: str, function: Callable[..., Any]) -> str:
    """The typed function of one row of a table."""
    signature = inspect.signature(function)
    parameters: list[str] = []
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if p.default is p.empty else f" = {default_text(p.default)}"
        parameters.append(f"{p.name}: {p.annotation}{default}")
    return declaration(name, parameters, str(signature.return_annotation), function.__doc__)


def _grouped(static: dict[str, str]) -> list[str]:
    """One-line declarations together, every class and function apart."""
    lines = [text for text in static.values() if not text.startswith(("def ", "class "))]
    blocks = [text for text in static.values() if text.startswith(("def ", "class "))]
    return ["\n".join(lines), *blocks] if lines else blocks


def _assemble(doc: str, body: list[str], exported: list[str], imports: Imports) -> str:
    names = wrapped_names("__all__ = [", sorted(exported), "]")
    text = "\n\n".join(body)
    head = f'{HEAD}"""{doc}"""\n\n{imports.text(text, exported)}'
    return f"{head}\n\n{text}\n\n{names}\n"


def stubs() -> dict[str, str]:
    """Path from the root and text of every stub."""
    return {
        (SOURCE / "isa.pyi").as_posix(): isa_stub(),
        (SOURCE / "language.pyi").as_posix(): language_stub(),
    }


if __name__ == "__main__":
    sys.exit(publish(stubs(), check=wants_check(__doc__ or "")))
