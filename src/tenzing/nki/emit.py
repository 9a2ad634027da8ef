"""Turns each instruction class into the ``nki.isa`` function of the same name.

The source of the function is generated from the declared fields, so its signature is the published
one and a call that was seen before costs one dictionary look-up and one append.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import Any, Final

from tenzing.errors import KernelError
from tenzing.isa.instruction import AttrSpec, Engine, Instruction, OperandSpec
from tenzing.isa.operand import View, resolve_loc
from tenzing.machine import ACTIVE, INTERNAL, Core, active_core

__tenzing_internal__ = True

OLD_SPELLINGS: Final = ("dtype", "mask")  # accepted beside the current parameters (NKI 0.3)

_BODY: Final = """
def {nki}({signature}):
    core = ACTIVE.get(None) or active_core()
    frame = _getframe(1)
    while INTERNAL in frame.f_globals:
        frame = frame.f_back
    {prepare}
    try:
        key = (KIND, id(frame.f_code), frame.f_lasti, {key})
        template = core.templates.get(key)
    except (AttributeError, TypeError):
        key = slow_key(KIND, frame, {arguments})
        template = core.templates.get(key)
    if template is None:
        template = core.make_template(key, KIND, {arguments}, (frame.f_code, frame.f_lasti))
    core.record(template, {views})
"""


def surface_function(kind: type[Instruction]) -> Callable[..., None]:
    """The ``nki.isa`` function of ``kind``: same name, parameters, defaults and doc."""
    hidden = hidden_operands(kind)
    visible = {n: s for n, s in kind.specs.items() if n not in hidden}
    namespace: dict[str, Any] = {
        "KIND": kind, "ACTIVE": ACTIVE, "INTERNAL": INTERNAL, "View": View,
        "active_core": active_core, "slow_key": slow_key, "gather": _gather,
        "_getframe": _getframe, "old_spelling": _old_spelling,
        **{f"default_{n}": s.default for n, s in visible.items()},
    }  # fmt: skip
    source = _BODY.format(
        nki=kind.nki,
        signature=_signature(visible),
        prepare=_prepare(kind, hidden),
        key=", ".join(_key_part(n, s) for n, s in kind.specs.items()),
        arguments="{" + ", ".join(f"'{n}': {n}" for n in kind.specs) + "}",
        views=_views(kind),
    )
    exec(compile(source, f"<nki.isa.{kind.nki}>", "exec"), namespace)
    function: Callable[..., None] = namespace[kind.nki]
    function.__doc__ = kind.__doc__
    function.__module__ = "tenzing.nki.isa"
    namespace["__name__"] = "tenzing.nki.isa"
    namespace[INTERNAL] = True
    return function


def hidden_operands(kind: type[Instruction]) -> tuple[str, ...]:
    """Operands the user gives through another one: ``src_index`` comes with a gather view."""
    return tuple(
        n for n in kind.operands if n.endswith("_index") and n.removesuffix("_index") in kind.specs
    )


def _signature(visible: dict[str, OperandSpec | AttrSpec]) -> str:
    parts = []
    optional_seen = False
    for name, spec in visible.items():
        if spec.has_default or optional_seen:
            optional_seen = True
            parts.append(f"{name}=default_{name}")
        else:
            parts.append(name)
    old = [f"{n}=None" for n in OLD_SPELLINGS if n not in visible]
    return ", ".join([*parts, "name=None", *old])


def _prepare(kind: type[Instruction], hidden: tuple[str, ...]) -> str:
    steps = []
    if "mask" not in kind.specs:
        steps.append("if mask is not None: old_spelling(core, KIND.nki)")
    if "accumulate" in kind.specs:
        steps.append("if accumulate is None: accumulate = core.psum_holds(dst)")
    steps.extend(f"{n} = gather({n.removesuffix('_index')})" for n in hidden)
    return "\n    ".join(steps) or "pass"


def _key_part(name: str, spec: OperandSpec | AttrSpec) -> str:
    if isinstance(spec, AttrSpec):
        return name
    if spec.optional or spec.scalar:
        return f"{name}.layout if isinstance({name}, View) else {name}"
    return f"{name}.layout"


def _views(kind: type[Instruction]) -> str:
    names = ", ".join(kind.operands) + ","
    if any(s.optional or s.scalar for s in kind.operands.values()):
        return f"tuple([v for v in ({names}) if isinstance(v, View)])"
    return f"({names})"


def _gather(operand: Any) -> View | None:
    return getattr(operand, "index", None)


def _old_spelling(core: Core, nki: str) -> None:
    raise KernelError(
        f"nki.isa.{nki}: mask= was removed from NKI", where=core.here(),
        next_step="slice the operands to the valid part instead",
    )  # fmt: skip


def slow_key(kind: type[Instruction], frame: Any, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Key of a call whose attributes are lists, and the error of one with a wrong operand."""
    loc_key = (frame.f_code, frame.f_lasti)
    parts: list[Any] = []
    for name, value in arguments.items():
        spec = kind.specs[name]
        if isinstance(value, View):
            parts.append(value.layout)
        elif isinstance(spec, AttrSpec):
            parts.append(_frozen(value))
        elif value is None and spec.has_default:
            parts.append(None)
        elif spec.scalar and isinstance(value, int | float):
            parts.append(value)
        else:
            allowed = "a tile or a Python number" if spec.scalar else "a tile (NkiTensor)"
            raise KernelError(
                f"nki.isa.{kind.nki}: {name} is {type(value).__name__}", allowed=allowed,
                where=resolve_loc(loc_key),
                next_step="load the value into SBUF first",
            )  # fmt: skip
    return (kind, id(frame.f_code), frame.f_lasti, *parts)


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(v) for v in value)
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


__all__ = ["Engine", "hidden_operands", "slow_key", "surface_function"]
