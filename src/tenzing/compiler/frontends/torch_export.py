"""torch.export as we call it: what is refused before, what is retried, and errors without noise."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Any, Final

from tenzing.compiler.frontends.torch_values import require_torch
from tenzing.errors import Loc, TenzingError, UsageError, is_user_code

# Experts as batched matrix products export with static shapes; the default's depend on routing.
STATIC_EXPERTS: Final = "batched_mm"
EXPERTS_NEXT_STEP: Final = f'call model.set_experts_implementation("{STATIC_EXPERTS}") first'
TRACE_NEXT_STEP: Final = (
    "make shapes and branches independent of tensor values, then try torch.export"
)
OWN_NEXT_STEP: Final = "correct the module, or the shapes and dtypes of the example inputs"
# PyTorch tells a failed trace at length here, and the user gets one message of ours instead.
TALKATIVE: Final = (
    "torch.export._trace", "torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes",
)  # fmt: skip
DUMP: Final = re.compile(r"^(class GraphModule\(|def forward\(self, arg0_1)", re.MULTILINE)


def export(module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """The ``ExportedProgram`` of a module in eval mode at the shapes of its example arguments.

    Raises UsageError when the module trains or cannot be traced.
    """
    torch = require_torch()
    if isinstance(module, torch.export.ExportedProgram):
        return module
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            "only a torch.nn.Module or a torch.export.ExportedProgram can be compiled",
            got=type(module).__name__,
            next_step="put the function into the forward of a torch.nn.Module",
        )
    if module.training:
        raise UsageError(
            "the module is in training mode, so dropout and batch norm would change its results",
            next_step="call module.eval() first",
        )
    with torch.no_grad(), quiet(), static_experts(module), settled_modules(torch):
        return traced(torch, module, arguments, keywords)


def traced(torch: Any, module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Traced as plain Python; else along the path that the model takes when it is not traced; else
    by Dynamo, where control flow nests too deep for plain Python."""
    errors: list[Exception] = []
    for path, strict in ((nullcontext, False), (unaware, False), (nullcontext, True)):
        try:
            with path(), _without_dumps():
                return torch.export.export(module, tuple(arguments), dict(keywords), strict=strict)
        except TenzingError:
            raise
        except Exception as error:
            errors.append(error)
    own = _own_failure(torch, module, arguments, keywords)
    if own is not None:
        raise _error(
            own, "the module fails on these inputs, in PyTorch too", OWN_NEXT_STEP
        ) from own
    _, on_its_path, _ = errors  # what keeps the model from being traced doing what it does untraced
    raise trace_error(module, on_its_path) from on_its_path


@contextmanager
def unaware() -> Iterator[None]:
    """The model's code hears that it is not traced, PyTorch's own hears the truth.

    Some models leave out what they otherwise do, such as making a mask, when they are traced.
    """
    compiler = require_torch().compiler
    asked = {name: getattr(compiler, name) for name in ("is_compiling", "is_exporting")}
    try:
        for name, answer in asked.items():
            setattr(compiler, name, _for_torch_alone(answer))
        yield
    finally:
        for name, answer in asked.items():
            setattr(compiler, name, answer)


def _for_torch_alone(answer: Callable[[], bool]) -> Callable[[], bool]:
    def told() -> bool:
        asker = str(sys._getframe(1).f_globals.get("__name__", ""))
        return asker.partition(".")[0] == "torch" and answer()

    return told


def _own_failure(
    torch: Any, module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Exception | None:
    """What the module raises when PyTorch runs it, if it does and has its weights."""
    tensors = (*module.parameters(), *module.buffers())
    if any(tensor.is_meta for tensor in tensors):
        return None
    try:
        module(*arguments, **keywords)
    except Exception as error:
        return error
    return None


@contextmanager
def _without_dumps() -> Iterator[None]:
    """Keep graphs that a failed trace prints from the user, who sees what the module printed."""
    loggers = [] if os.environ.get("TORCH_LOGS") else [logging.getLogger(n) for n in TALKATIVE]
    before = [logger.disabled for logger in loggers]
    said, complained = io.StringIO(), io.StringIO()
    try:
        for logger in loggers:
            logger.disabled = True
        with redirect_stdout(said), redirect_stderr(complained):
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
        for text, stream in ((said, sys.stdout), (complained, sys.stderr)):
            own, *dumped = DUMP.split(text.getvalue())
            stream.write(f"{own.strip()}\n" if dumped and own.strip() else "" if dumped else own)


@contextmanager
def settled_modules(torch: Any) -> Iterator[None]:
    """A conversion of a module to the dtype that it has leaves it alone, as that of a tensor does.

    PyTorch would set all its parameters anew, which a module that is traced does not allow.
    """
    plain = torch.nn.Module._apply

    def apply(module: Any, convert: Callable[[Any], Any], recurse: bool = True) -> Any:
        tensors = [*module.parameters(recurse), *module.buffers(recurse)]
        if all(convert(tensor) is tensor for tensor in tensors):
            return module
        return plain(module, convert, recurse)

    torch.nn.Module._apply = apply
    try:
        yield
    finally:
        torch.nn.Module._apply = plain


@contextmanager
def static_experts(module: Any) -> Iterator[None]:
    """Mixture-of-experts models run in their static form while they are traced."""
    models = [
        m for m in module.modules()
        if hasattr(m, "set_experts_implementation") and hasattr(m, "get_experts_implementation")
    ]  # fmt: skip
    before = [(m, m.get_experts_implementation()) for m in models]
    try:
        for model in models:
            model.set_experts_implementation(STATIC_EXPERTS)
        yield
    finally:
        for model, implementation in before:
            model.set_experts_implementation(implementation)


def trace_error(module: Any, error: Exception) -> UsageError:
    """What to tell a user whose module PyTorch cannot trace."""
    has_experts = any(hasattr(m, "set_experts_implementation") for m in module.modules())
    path, place = innermost(module, error.__traceback__)
    return _error(
        error, "torch.export cannot trace this module" + (f" (in module {path})" if path else ""),
        f"{TRACE_NEXT_STEP}; for a mixture of experts, {EXPERTS_NEXT_STEP}"
        if has_experts else TRACE_NEXT_STEP, place,
    )  # fmt: skip


def innermost(module: Any, trace: TracebackType | None) -> tuple[str, Loc | None]:
    """Path of the submodule whose code an error came through last, and the line there."""
    names = {id(part): name for name, part in module.named_modules()}
    path, place = "", None
    while trace is not None:
        frame = trace.tb_frame
        library = str(frame.f_globals.get("__name__", "")).partition(".")[0] == "torch"
        name = names.get(id(frame.f_locals.get("self")))
        if name and not library:
            code = frame.f_code
            path, place = name, Loc(code.co_filename, trace.tb_lineno, code.co_name)
        trace = trace.tb_next
    return path, place


def _error(error: Exception, what: str, next_step: str, place: Loc | None = None) -> UsageError:
    """``what`` with the first line of PyTorch's message, at the user's innermost line.

    ``place``: the line that failed, of a library where no line of the user's did.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    frames = traceback.extract_tb(error.__traceback__)
    own = [Loc(f.filename, f.lineno or 1, f.name) for f in frames if is_user_code(f.filename)]
    return UsageError(
        what,
        where=own[-1] if own else place,
        got=f"{type(error).__name__}: {lines[0] if lines else 'no message'}",
        next_step=next_step,
        related=[("raised", place)] if own and place and place.file != own[-1].file else (),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's complaints about its own classes from the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        yield


__all__ = [
    "EXPERTS_NEXT_STEP", "export", "innermost", "quiet", "settled_modules", "static_experts",
    "trace_error", "traced", "unaware",
]  # fmt: skip
