"""Runs a model on the user's own CPU or GPU through PyTorch, and says how long each run takes.

Models come from the user's Python, or from a configuration through transformers with random
weights: the time of a dense model does not depend on their values.
"""

from __future__ import annotations

import ctypes
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any, Final, NamedTuple

from tenzing.compiler.frontends import huggingface
from tenzing.compiler.frontends.torch_values import require_torch
from tenzing.compiler.models.config import CAUSAL
from tenzing.errors import CapacityError, TenzingError, UsageError
from tenzing.units import GIB

Progress = Callable[[str], None]
TASKS: Final = ("prefill", "decode", "encoder", "training")
DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SEED: Final = 0
LEARNING_RATE: Final = 1e-5
REASON: Final = 200  # characters of PyTorch's own words
NVML: Final = "libnvidia-ml.so.1"
JOULE_MJ: Final = 1000.0
TOLD_EVERY_S: Final = 2.0  # how often slow runs are told of; quick ones are not


class Step(NamedTuple):
    """What is timed; ``learns`` when it needs gradients."""

    run: Callable[[], Any]
    learns: bool = False


@dataclass(frozen=True)
class Setting:
    """How to run: an empty device or dtype and 0 threads leave the choice to this machine."""

    device: str = ""
    dtype: str = ""
    threads: int = 0
    warmups: int = 3
    repeats: int = 10
    compiled: bool = False


@dataclass(frozen=True)
class Runs:
    """Wall-clock seconds of each run, the device waited for; what the model and the runs took.

    ``peak_bytes`` and ``energy_j`` (of the device, all timed runs together) are None where the
    device does not count them.
    """

    times_s: tuple[float, ...]
    parameters: int
    peak_bytes: int | None
    energy_j: float | None


class Bench:
    """A model on a device, ready to run tasks; a context manager that gives everything back."""

    def __init__(self, source: Any, inputs: tuple[Any, ...], setting: Setting) -> None:
        """``source``: a module with example inputs, or a configuration for transformers.

        Raises UsageError for a device or dtype that is not there, CapacityError for a model that
        does not fit.
        """
        self.torch = require_torch()
        self.setting = _settled(self.torch, setting)
        self.device = self.torch.device(self.setting.device)
        self.dtype = getattr(self.torch, DTYPES[self.setting.dtype])
        self._threads = self.torch.get_num_threads()
        if self.setting.threads:
            self.torch.set_num_threads(self.setting.threads)
        self.setting = replace(self.setting, threads=self.torch.get_num_threads())
        self._configures = isinstance(source, Mapping)
        with self._told("the model"):
            if self._configures:
                self.module, self.inputs = self._configured(source), None
            else:
                self.module = source.to(self.device, self.dtype)
                self.inputs = tuple(map(self._moved, inputs))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.torch.set_num_threads(self._threads)
        self.module = self.inputs = None
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()

    @property
    def decodes(self) -> bool:
        """Whether the model generates token after token."""
        return type(self.module).__name__.endswith(CAUSAL)

    @property
    def parameters(self) -> int:
        """Weights of the model, one by one."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def own_batch(self) -> int:
        """Rows of the user's own first input."""
        first = next((x for x in self.inputs or () if hasattr(x, "shape")), None)
        return int(first.shape[0]) if first is not None and first.dim() else 1

    def _configured(self, config: Mapping[str, Any]) -> Any:
        with self.torch.random.fork_rng(enabled=self.device.type == "cpu"):
            self.torch.manual_seed(SEED)
            return huggingface.make_module(config, None, device=self.device, dtype=self.dtype)

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, self.torch.Tensor):
            return value
        floating = value.dtype.is_floating_point
        return value.to(self.device, self.dtype) if floating else value.to(self.device)

    def run(self, task: str, sizes: Mapping[str, int], progress: Progress) -> Runs:
        """The times of a task at ``batch`` and ``length`` (of a prompt, or in the cache).

        Raises CapacityError where it does not fit, UsageError where PyTorch cannot run it.
        """
        with self._told(f"{task} at " + ", ".join(f"{k} {v}" for k, v in sizes.items())):
            if task == "decode":
                progress(f"filling the cache with {sizes['length']} positions")
            return self._timed(self._step(task, sizes), progress)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Errors as messages; transformers is silent about a module that we had it make."""
        with _told(self.torch, what), _silent() if self._configures else nullcontext():
            yield

    def _step(self, task: str, sizes: Mapping[str, int]) -> Step:
        if task not in TASKS:
            raise UsageError("unknown task", got=task, allowed=", ".join(TASKS))
        if task in ("prefill", "decode") and (self.inputs is not None or not self.decodes):
            raise UsageError(f"{task} needs a decoder by name or configuration", got=task,
                             allowed="encoder, training")  # fmt: skip
        if self.inputs is None:
            inputs = huggingface.example_inputs(self.module, sizes)
        else:
            inputs = {}
        return getattr(self, f"_{task}")(inputs, sizes["batch"], sizes["length"])

    def _forward(self) -> Any:
        """The callable that is timed: the module, or what torch.compile makes of it."""
        if not self.setting.compiled:
            return self.module
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        return self.torch.compile(self.module, mode=mode)

    def _prefill(self, inputs: Mapping[str, Any], batch: int, length: int) -> Step:
        forward, last = self._forward(), _last_logits(self.module)

        return Step(lambda: forward(input_ids=inputs["input_ids"], use_cache=True, **last))

    def _decode(self, inputs: Mapping[str, Any], batch: int, length: int) -> Step:
        """One token of each sequence; the cache grows by one position from run to run."""
        import transformers

        runs = self.setting.warmups + self.setting.repeats
        config = self.module.config
        cache = transformers.StaticCache(config=config, max_cache_len=length + runs)
        last = _last_logits(self.module)
        with self.torch.no_grad():
            self.module(input_ids=inputs["input_ids"], past_key_values=cache, use_cache=True,
                        **last)  # fmt: skip
        token, forward = inputs["input_ids"][:, -1:].contiguous(), self._forward()

        return Step(lambda: forward(input_ids=token, past_key_values=cache, use_cache=True))

    def _encoder(self, inputs: Mapping[str, Any], batch: int, length: int) -> Step:
        forward, given = self._forward(), self.inputs or ()
        return Step(lambda: forward(*given, **inputs))

    def _training(self, inputs: Mapping[str, Any], batch: int, length: int) -> Step:
        """Forward, backward and AdamW; the loss of a model without labels is a mean of squares."""
        module = self.module.train()
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.dtype.is_floating_point)
        optimizer = self.torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
        labelled = _takes(module, "labels") and "input_ids" in inputs
        given = {**inputs, "labels": inputs["input_ids"]} if labelled else inputs
        forward, positional = self._forward(), self.inputs or ()

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            _loss(self.torch, forward(*positional, **given)).backward()
            optimizer.step()

        return Step(step, learns=True)

    def _timed(self, step: Step, progress: Progress) -> Runs:
        """Warm-up, then each run on its own, from an idle device to an idle device."""
        cuda = self.torch.cuda if self.device.type == "cuda" else None
        with self.torch.set_grad_enabled(step.learns):
            for number in range(self.setting.warmups):
                step.run()
                progress(f"warm-up {number + 1} of {self.setting.warmups}")
            if cuda:
                cuda.synchronize(self.device)
                cuda.reset_peak_memory_stats(self.device)
            before, times = _energy_j(self.torch, self.device), []
            tell = _now_and_then(progress)
            for number in range(self.setting.repeats):
                start = time.perf_counter()
                step.run()
                if cuda:
                    cuda.synchronize(self.device)
                times.append(time.perf_counter() - start)
                tell(f"run {number + 1} of {self.setting.repeats}: {times[-1]:.3g} s")
            after = _energy_j(self.torch, self.device)
        if step.learns:
            self.module.eval()
        peak = cuda.max_memory_allocated(self.device) if cuda else None
        used = None if before is None or after is None else after - before
        return Runs(tuple(times), self.parameters, peak, used)

    def machine(self) -> dict[str, str]:
        """What ran it: processor, memory, device, driver and versions, in words."""
        found = {
            "system": f"{platform.system()} {platform.release()}", "cpu": _cpu_name(),
            "python": platform.python_version(), "torch": str(self.torch.__version__),
            **_memory(),
        }  # fmt: skip
        with suppress(PackageNotFoundError):
            found["transformers"] = version("transformers")
        if self.device.type == "cuda":
            of = self.torch.cuda.get_device_properties(self.device)
            found |= {"gpu": of.name, "gpu_memory_gib": f"{of.total_memory / GIB:.1f}",
                      "cuda": str(self.torch.version.cuda or self.torch.version.hip)}  # fmt: skip
        return found


def _settled(torch: Any, setting: Setting) -> Setting:
    """The same with device and dtype named; UsageError for what this machine lacks."""
    device = setting.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise UsageError("unknown device", got=device, allowed="cpu, cuda, cuda:N")
    try:
        index = torch.device(device).index or 0
    except RuntimeError:
        raise UsageError("unknown device", got=device, allowed="cpu, cuda, cuda:N") from None
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise UsageError("PyTorch sees no such GPU", got=device,
                         allowed=f"cpu, or one of {torch.cuda.device_count()} GPUs",
                         next_step="python -c 'import torch; print(torch.cuda.is_available())'",
                         )  # fmt: skip
    dtype = setting.dtype or ("bf16" if kind == "cuda" else "fp32")
    if dtype not in DTYPES:
        raise UsageError("unknown dtype", got=dtype, allowed=", ".join(DTYPES))
    for name, least in (("threads", 0), ("warmups", 0), ("repeats", 1)):
        if getattr(setting, name) < least:
            raise UsageError(name, got=getattr(setting, name), allowed=f"{least} or more")
    return replace(setting, device=device, dtype=dtype)


def _now_and_then(progress: Progress) -> Progress:
    """The same for what may happen often: a line at most every ``TOLD_EVERY_S``."""
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TOLD_EVERY_S:
            progress(text)
            last = time.monotonic()

    return tell


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what transformers says of its own defaults from the user, who did not choose them."""
    try:
        from transformers.utils import logging
    except ImportError:  # whoever needs it says so
        yield
        return
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="transformers")
            yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _told(torch: Any, what: str) -> Iterator[None]:
    """PyTorch's own errors as messages."""
    try:
        yield
    except TenzingError:
        raise
    except torch.OutOfMemoryError as error:
        raise CapacityError(
            f"{what} does not fit in the device's memory", got=str(error).splitlines()[0][:REASON],
            next_step="give a smaller batch, length or dtype",
        ) from None  # fmt: skip
    except Exception as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"PyTorch cannot run {what}", got=words[:REASON],
                         next_step="run it with PyTorch alone to see more") from error  # fmt: skip


def _takes(module: Any, name: str) -> bool:
    return name in signature(module.forward).parameters


def _last_logits(module: Any) -> dict[str, int]:
    """Serving needs the logits of the last position only, where the model can be told."""
    return {"logits_to_keep": 1} if _takes(module, "logits_to_keep") else {}


def _loss(torch: Any, outputs: Any) -> Any:
    loss = getattr(outputs, "loss", None)
    if loss is not None:
        return loss
    values = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    first = values[0] if isinstance(values, tuple | list) else values
    return first if first.dim() == 0 else first.float().square().mean()


def _energy_j(torch: Any, device: Any) -> float | None:
    """What the GPU has used since its driver was loaded; None where it does not count."""
    if device.type != "cuda":
        return None
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    try:
        nvml = ctypes.CDLL(NVML)
        handle, found = ctypes.c_void_p(), ctypes.c_ulonglong()
        calls = (
            lambda: nvml.nvmlInit_v2(),
            lambda: nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)),
            lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(found)),
        )
        return None if any(call() for call in calls) else found.value / JOULE_MJ
    except (OSError, AttributeError):
        return None


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> dict[str, str]:
    with suppress(OSError, ValueError, IndexError):
        kib = int(Path("/proc/meminfo").read_text().split()[1])
        return {"memory_gib": f"{kib * 1024 / GIB:.1f}"}
    return {}


__all__ = ["DTYPES", "TASKS", "Bench", "Runs", "Setting"]
