"""Whether the program that PyTorch exported answers as the module itself does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenzing.compiler.comparison import Difference, difference, tolerance_of
from tenzing.compiler.frontends.torch_export import export, unaware
from tenzing.compiler.frontends.torch_values import is_fake, require_torch, to_numpy
from tenzing.errors import ModelWarning, TenzingError

CHEAP_PARAMETERS: Final = 2**25  # up to this size a model is called once more as it is compiled


def faithful_export(
    module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], check: bool | None
) -> Any:
    """The exported program of a module, checked against the module on the example inputs.

    Some models compute something else when they are traced. Such a one is traced once more along
    the path that it takes when it is not; where even that answers otherwise, a ModelWarning says
    so. ``check``: None does all this for models up to ``CHEAP_PARAMETERS`` that have values.
    """
    torch = require_torch()
    program = export(module, arguments, keywords)
    if isinstance(module, torch.export.ExportedProgram) or not wanted(module, check):
        return program
    apart = departure(program, module, arguments, keywords)
    if apart is None:
        return program
    try:
        with unaware():
            second = export(module, arguments, keywords)
    except TenzingError:
        second = program
    if departure(second, module, arguments, keywords) is None:
        return second
    warnings.warn(ModelWarning(said(module, apart)), stacklevel=2)
    return program


def wanted(module: Any, check: bool | None) -> bool:
    """Whether the module can be called, and cheaply enough where nobody asked for it."""
    tensors = [*module.parameters(), *module.buffers()]
    if check is False or any(is_fake(tensor) for tensor in tensors):
        return False
    return bool(check) or sum(tensor.numel() for tensor in tensors) <= CHEAP_PARAMETERS


def departure(
    program: Any, module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Difference | None:
    """The output of an exported program that is farthest from the module's own, if any is."""
    torch = require_torch()
    tree = torch.utils._pytree
    given = tree.tree_leaves((tuple(arguments), dict(keywords)))
    if any(isinstance(leaf, torch.Tensor) and is_fake(leaf) for leaf in given):
        return None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        seed = torch.random.get_rng_state()
        expected = _own(torch, module, arguments, keywords)
        torch.random.set_rng_state(seed)
        got = _exported(torch, program, given)
    rows = [
        difference(f"output {place}", to_numpy(a), to_numpy(b), tolerance_of(to_numpy(b).dtype))
        for place, (a, b) in enumerate(zip(got, expected, strict=True))
        if isinstance(b, torch.Tensor) and not b.is_complex()
    ]
    return max((row for row in rows if row.beyond), key=lambda row: row.relative, default=None)


def _own(torch: Any, module: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Leaves of what the module returns; its state and the inputs are as they were afterwards."""
    copied = torch.utils._pytree.tree_map(_copy, (tuple(arguments), dict(keywords)))
    kept = (*module.parameters(), *module.buffers())  # some models write their parameters too
    before = [(tensor, tensor.detach().clone()) for tensor in kept]
    try:
        returned = module(*copied[0], **copied[1])
    finally:
        for tensor, content in before:
            tensor.copy_(content)
    return torch.utils._pytree.tree_leaves(returned)


def _exported(torch: Any, program: Any, leaves: Sequence[Any]) -> list[Any]:
    """The user's outputs of an exported program, computed by PyTorch on copies of its state."""
    given, signature = iter(leaves), program.graph_signature
    inputs = [
        _copy(next(given)) if spec.kind.name == "USER_INPUT"
        else _copy(program.state_dict.get(spec.target, program.constants.get(spec.target)))
        for spec in signature.input_specs
    ]  # fmt: skip
    outputs = torch.fx.Interpreter(program.graph_module).run(*inputs)
    pairs = zip(outputs, signature.output_specs, strict=True)
    return [value for value, spec in pairs if spec.kind.name == "USER_OUTPUT"]


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, require_torch().Tensor) else leaf


def said(module: Any, apart: Difference) -> str:
    """The warning for a module whose exported program answers otherwise."""
    return (
        f"PyTorch's exported program of {type(module).__name__} answers otherwise than the module "
        f"itself: {apart.name} differs by {apart.relative:.2g} of its largest element. The model "
        "computes something else while it is traced (torch.compiler.is_compiling() in its code, "
        "masks made from values); what is compiled is the exported program. Give such inputs as "
        "masks and positions explicitly"
    )


__all__ = ["CHEAP_PARAMETERS", "departure", "faithful_export", "said", "wanted"]
