"""``device="neuron"`` for PyTorch: eager operations run on the simulated chip.

A tensor of the device is a subclass that holds its content, the chip's HBM, in a tensor on the
host. Views are views of that content and cost nothing; every other operation is one program.
Experimental, as is PyTorch's hook for devices written in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenzing import facts
from tenzing.compiler.frontends.torch_launch import Launcher, makes_new, user_place
from tenzing.compiler.frontends.torch_values import require_torch
from tenzing.errors import UnsupportedOp, UsageError

DEVICE: Final = "neuron"
NUMERICS: Final = ("instruction", "graph")
ALLOCATIONS: Final = ("empty_like", "new_empty", "new_empty_strided")
METADATA: Final = ("_unsafe_view", "lift_fresh", "_reshape_alias", "view_as")
READS: Final = ("_local_scalar_dense", "equal", "allclose")  # answers that the host asks for
RUNNING_MEAN: Final = 3  # its place among the arguments of native_batch_norm
INDEXING: Final = ("index", "index_put", "index_put_", "_unsafe_index")  # by indices of the host
RESHAPED_IN_PLACE: Final = (
    "resize_", "resize_as_", "set_", "t_", "transpose_", "squeeze_", "unsqueeze_", "swapdims_",
    "as_strided_", "swapaxes_",
)  # fmt: skip


@dataclass
class Device:
    """The one device of this process: PyTorch knows its name for good, its chip may change."""

    torch: Any
    launcher: Launcher
    tensor_class: Any
    library: Any


_ENABLED: Final[dict[str, Device]] = {}


def enable_device(target: str = "trn2", *, numerics: str = "instruction") -> None:
    """Make PyTorch know the device ``neuron``, one simulated chip, for the rest of the process.

    ``numerics``: ``instruction`` executes every instruction of every operation's program,
    ``graph`` the NumPy meaning of the operation. Call it again to change chip or numerics. Raises
    UsageError when another extension has taken PyTorch's one place for such devices.
    """
    torch, chip = require_torch(), facts.chip(target)
    if numerics not in NUMERICS:
        raise UsageError("unknown numerics mode", got=numerics, allowed=", ".join(NUMERICS))
    launcher = Launcher(torch, chip.name, numerics)
    if DEVICE in _ENABLED:
        _ENABLED[DEVICE].launcher = launcher
        return
    _register(torch)
    library = torch.library.Library("aten", "IMPL")
    _ENABLED[DEVICE] = Device(torch, launcher, _tensor_class(torch), library)
    for name, allocate in ALLOCATORS.items():
        library.impl(name, allocate, "PrivateUse1")


def device_time_us() -> float:
    """Simulated time of all operations on the device since it was enabled or last reset.

    Launches are included, copies from and to the host are not.
    """
    return _device().launcher.device_us


def reset_device_time() -> None:
    """Count the device's time from zero."""
    _device().launcher.forget_time()


def _device() -> Device:
    if DEVICE not in _ENABLED:
        raise UsageError("the neuron device is not enabled",
                         next_step="call tenzing.torch.enable_device() first")  # fmt: skip
    return _ENABLED[DEVICE]


def _register(torch: Any) -> None:
    hook = getattr(
        torch.utils.backend_registration, "_setup_privateuseone_for_python_backend", None
    )
    if hook is None:
        raise UsageError("this PyTorch has no hook for devices written in Python",
                         got=torch.__version__, allowed="2.13",
                         next_step='pip install "tenzing[torch]"')  # fmt: skip
    try:
        hook(DEVICE, backend_module=DeviceModule())
    except RuntimeError as error:
        raise UsageError(
            "another extension has taken PyTorch's place for new devices",
            got=str(error).splitlines()[0],
            next_step="enable the neuron device in a process of its own",
        ) from error


class DeviceModule:
    """``torch.neuron``: what PyTorch and its users ask a kind of device for."""

    def is_initialized(self) -> bool:
        """There is nothing to start."""
        return True

    def is_available(self) -> bool:
        """The device is there once it is enabled."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        """Index of the one device."""
        return 0

    def device_count(self) -> int:
        """Devices of this kind."""
        return 1

    def set_device(self, device: Any) -> None:
        """The device is the only one."""

    def synchronize(self, device: Any = None) -> None:
        """Operations are finished when they return."""

    def manual_seed(self, seed: int) -> None:
        """Random numbers come from the host's generator, which torch.manual_seed has set."""

    def manual_seed_all(self, seed: int) -> None:
        """See manual_seed."""


def _empty(size: Sequence[int], *, dtype: Any = None, **_: Any) -> Any:
    return _wrap(_device().torch.empty(size, dtype=dtype, device="cpu"))


def _empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, **_: Any
) -> Any:
    return _wrap(_device().torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    _host(target).copy_(_host(source))
    return target


ALLOCATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "empty.memory_format": _empty, "empty_strided": _empty_strided, "_copy_from": _copy_from,
}  # fmt: skip


def _wrap(content: Any) -> Any:
    """A tensor of the device with this content; anything else as it is."""
    device = _device()
    if not isinstance(content, device.torch.Tensor):
        return content
    return device.tensor_class(content)


def _host(x: Any) -> Any:
    """The content of a tensor of the device; anything else as it is."""
    return getattr(x, "content", x)


def _tensor_class(torch: Any) -> Any:
    members = {
        "__new__": _new, "__torch_dispatch__": classmethod(_dispatch), "__repr__": _text,
        "__str__": _text, "__format__": _format, "__reduce_ex__": _reduced, "tolist": _listed,
        "numpy": _no_array, "__array__": _no_array, "__module__": __name__,
    }  # fmt: skip
    return type("NeuronTensor", (torch.Tensor,), members)


def _new(cls: Any, content: Any) -> Any:
    torch = _device().torch
    tensor = torch.Tensor._make_wrapper_subclass(
        cls, content.shape, strides=content.stride(), storage_offset=content.storage_offset(),
        dtype=content.dtype, device=torch.device(DEVICE, 0),
    )  # fmt: skip
    tensor.content = content
    return tensor


def _text(x: Any, **_: Any) -> str:
    text = repr(_host(x)).removesuffix(")") + f", device='{x.device}'"
    if x.grad_fn is not None:
        text += f", grad_fn=<{type(x.grad_fn).__name__}>"
    elif x.requires_grad:
        text += ", requires_grad=True"
    parameter = isinstance(x, _device().torch.nn.Parameter)
    return f"Parameter containing:\n{text})" if parameter else f"{text})"


def _format(x: Any, spec: str) -> str:
    return format(x.item() if not x.dim() else _text(x), spec)


def _listed(x: Any) -> Any:
    return _host(x).tolist()


def _no_array(x: Any, *_: Any, **__: Any) -> Any:
    raise TypeError("a tensor on the neuron device is no NumPy array: copy it with .cpu() first")


def _reduced(x: Any, protocol: Any) -> Any:
    """Saved as a tensor of the host with its device, which torch.load reads back safely."""
    rebuild = _device().torch._utils._rebuild_device_tensor_from_cpu_tensor
    return rebuild, (x.detach().cpu(), x.dtype, str(x.device), x.requires_grad)


def _dispatch(cls: Any, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
    """Run one ATen call with tensors of the device among its arguments."""
    kwargs = kwargs or {}
    name = func._schema.name.removeprefix("aten::")
    for applies, run in HANDLERS:
        if applies(func, name, args, kwargs):
            return run(func, args, kwargs)
    return _launched(func, args, kwargs)


def _to_other_device(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    place = kwargs.get("device")
    return place is not None and _device().torch.device(place).type != DEVICE


def _is_view(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return func.is_view or name in ALLOCATIONS or name in METADATA


def _is_read(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return name in READS


def _is_random(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return _device().torch.Tag.nondeterministic_seeded in func.tags


def _is_dropout(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return name == "native_dropout"


def _is_batch_norm(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return name == "native_batch_norm"


def _crosses(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return name == "copy_" and len({t.device for t in args[:2]}) > 1


def _changes_shape(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return name in RESHAPED_IN_PLACE


def _is_empty(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    return any(not t.numel() for t in _tensors((args, kwargs)))


def _tensors(nested: Any) -> list[Any]:
    torch = _device().torch
    return [x for x in torch.utils._pytree.tree_leaves(nested) if isinstance(x, torch.Tensor)]


def _on_host(func: Any, args: Any, kwargs: Any) -> Any:
    """Run on the contents, without a program; results stay on the host."""
    tree_map = _device().torch.utils._pytree.tree_map
    host_args, host_kwargs = tree_map(_host, (tuple(args), kwargs))
    return func(*host_args, **host_kwargs)


def _on_content(func: Any, args: Any, kwargs: Any) -> Any:
    """The same with results on the device: views, allocations, random numbers, empty tensors."""
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": "cpu"}
    result = _on_host(func, args, kwargs)
    if func._schema.is_mutable:
        return _written(func, args, kwargs)
    return _device().torch.utils._pytree.tree_map(_wrap, result)


def _dropout(func: Any, args: Any, kwargs: Any) -> Any:
    """The host draws what is dropped; the device multiplies."""
    torch = _device().torch
    x, probability, training = args
    if training is False or not probability:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.rand(x.shape, device="cpu") >= probability
    mask = _wrap(kept)
    scale = 0.0 if probability == 1 else 1.0 / (1.0 - probability)
    return x * mask * scale, mask


def _batch_norm(func: Any, args: Any, kwargs: Any) -> Any:
    """The form whose schema says that it writes the running statistics."""
    written = _device().torch.ops.aten._native_batch_norm_legit.default
    return _launched(func if args[RUNNING_MEAN] is None else written, args, kwargs)


def _no_new_shape(func: Any, args: Any, kwargs: Any) -> Any:
    raise UnsupportedOp(
        f"{func} changes the shape of a tensor on the neuron device in place",
        where=user_place(), next_step="assign the result of the operation that makes a new tensor",
    )  # fmt: skip


HANDLERS: Final[tuple[tuple[Callable[..., bool], Callable[..., Any]], ...]] = (
    (_changes_shape, _no_new_shape), (_to_other_device, _on_host), (_is_view, _on_content),
    (_is_read, _on_host), (_is_dropout, _dropout), (_is_random, _on_content),
    (_is_batch_norm, _batch_norm), (_crosses, _on_content), (_is_empty, _on_content),
)  # fmt: skip


def _launched(func: Any, args: Any, kwargs: Any) -> Any:
    """Run as a program on the chip."""
    device = _device()
    pytree = device.torch.utils._pytree
    leaves, tree = pytree.tree_flatten((tuple(args), kwargs))
    _check_devices(func, leaves)
    leaves = [_place_on_host(device.torch, _host(leaf)) for leaf in leaves]
    targets = {id(_host(t)) for t in _targets(func, args, kwargs)}
    written = [k for k, leaf in enumerate(leaves) if id(leaf) in targets]
    results, contents = device.launcher.call(func, leaves, tree, written)
    for place, content in zip(written, contents, strict=True):
        leaves[place].copy_(content)
    new = makes_new(func)
    return pytree.tree_map(_wrap, results) if new else _written(func, args, kwargs)


def _place_on_host(torch: Any, leaf: Any) -> Any:
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


def _targets(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """The tensors that a call writes, in the order of its schema."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        found.append(args[place] if place < len(args) else kwargs.get(argument.name))
    return _tensors(found)


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """What a call that writes returns: the tensors it wrote."""
    targets = _targets(func, args, kwargs)
    count = len(func._schema.returns)
    if not count:
        return None
    return targets[0] if count == 1 else tuple(targets[:count])


def _check_devices(func: Any, leaves: Sequence[Any]) -> None:
    """Numbers may come from the host, and indices; other tensors have to be on the device."""
    if func._schema.name.removeprefix("aten::") in INDEXING:
        return
    for tensor in _tensors(leaves):
        if tensor.device.type != DEVICE and tensor.dim():
            raise UsageError(
                f"{func} takes a tensor on {tensor.device} beside one on the neuron device",
                got=f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}", where=user_place(),
                next_step='move it with .to("neuron")',
            )  # fmt: skip


__all__ = ["device_time_us", "enable_device", "reset_device_time"]
