"""The public tutorial kernels, each with inputs, a reference and a bound on the error."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import references

from tenzing.nki import Kernel, Session, entered, install, older, run_script, uninstall

HALF = 1e-3  # float16 and bfloat16 results, relative to the largest value
SINGLE = 1e-4  # float32 arithmetic
MIXED = 1e-2  # bfloat16 inside a float32 kernel: the bound the sample itself uses
TUTORIALS = "src/nki_samples/tutorials"
CONTRIBUTED = "contributed"
FRAMEWORKS = ("torch", "torch.nn", "torch.nn.functional", "torch_xla", "torch_xla.core",
              "torch_xla.core.xla_model")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One check: ``run(checkout, session)`` returns the relative error."""

    name: str
    bound: float
    run: Callable[[Path, Session], float]


@contextmanager
def sample_module(path: Path) -> Iterator[ModuleType]:
    """A sample file imported afresh, with ``nki`` aliased: some keep state between kernels.

    Frameworks that a sample imports for its own checks, and its kernels do not use, are empty.
    """
    install()
    sys.path.insert(0, str(path.parent))
    known = set(sys.modules)
    absent = {name: ModuleType(name) for name in FRAMEWORKS if name not in sys.modules}
    for name, module in absent.items():
        parent, _, child = name.rpartition(".")
        if parent in absent:
            setattr(absent[parent], child, module)
    sys.modules.update(absent)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(path.parent))
        for name in set(sys.modules) - known:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if name in absent or Path(origin).parent == path.parent:
                del sys.modules[name]
        uninstall()


def script(relative: str, *argv: str) -> Callable[[Path, Session], float]:
    """Run a sample's own ``__main__``, which asserts its result."""

    def run(checkout: Path, session: Session) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run_script(checkout / TUTORIALS / relative, argv, session)
        return 0.0 if code == 0 else float("inf")

    return run


def kernel(
    relative: str, name: str, inputs: Callable[[np.random.Generator], tuple[Any, ...]],
    reference: Callable[..., Any],
) -> Callable[[Path, Session], float]:  # fmt: skip
    """Call one kernel of a sample and compare."""

    def run(checkout: Path, session: Session) -> float:
        arguments = inputs(np.random.default_rng(0))
        with sample_module(checkout / relative) as module, entered(session):
            result = _kernel(getattr(module, name))(*arguments)
        return references.relative_error(result, reference(*arguments))

    return run


def _kernel(function: Any) -> Any:
    """The kernel; some samples decorate it only where they call it."""
    return function if isinstance(function, Kernel) else older.jit(function)


def same_as_first(
    relative: str, names: tuple[str, ...], inputs: Callable[[np.random.Generator], tuple[Any, ...]]
) -> Callable[[Path, Session], float]:
    """Versions of one kernel must agree bit for bit."""

    def run(checkout: Path, session: Session) -> float:
        arguments = inputs(np.random.default_rng(0))
        with sample_module(checkout / relative) as module, entered(session):
            first, *others = [getattr(module, n)(*arguments) for n in names]
        same = all(np.array_equal(first, other) for other in others)
        return 0.0 if same else float("inf")

    return run


def _matrices(k: int, m: int, n: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def inputs(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(rng.standard_normal(s).astype(np.float16) for s in ((k, m), (k, n)))

    return inputs


def _qkv(length: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def inputs(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(rng.uniform(-1, 1, (128, length)).astype(np.float32) for _ in range(3))

    return inputs


def _mamba(rng: np.random.Generator) -> tuple[Any, ...]:
    batch, channels, states, length = 1, 256, 4, 1024
    shapes = [(batch, channels, length)] * 2 + [(channels, states)] + [(batch, states, length)] * 2
    delta, u, a, b, c = (rng.uniform(0.1, 1, s).astype(np.float32) for s in shapes)
    return delta, u, -a, b, c


def _image(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random((300, 40)).astype(np.float32), 3


def _volume(*shape: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    def inputs(rng: np.random.Generator) -> tuple[Any, ...]:
        return (rng.random(shape).astype(np.float32),)

    return inputs


MATMUL = f"{TUTORIALS}/matrix_multiplication/matrix_multiplication_nki_kernels.py"
MAMBA = f"{TUTORIALS}/fused_mamba/mamba_nki_kernels.py"
ATTENTION = f"{TUTORIALS}/attention_fwd_performance/attention_kernels.py"
MATRIX_SIZES = {  # smallest sizes each kernel accepts (K, M, N)
    "nki_matmul_basic_": (128, 64, 512),
    "nki_matmul_tiled_": (256, 256, 512),
    "nki_matmul_hoist_load_": (256, 256, 512),
    "nki_matmul_block_free_dimension_": (256, 256, 1024),
    "nki_matmul_fully_optimized_": (1024, 2048, 1024),
}
ATTENTION_LENGTHS = {
    "attn_fwd_v1": 128, "attn_fwd_v2": 128, "attn_fwd_v3": 512, "attn_fwd_v4": 512,
    "attn_fwd_v5": 512, "attn_fwd_v6": 512, "attn_fwd_v7": 512, "attn_fwd_v8": 512,
    "attn_fwd_v8a": 512, "attn_fwd_v9": 1024, "attn_fwd_v10": 1024, "attn_fwd_v11": 1024,
}  # fmt: skip
ALL_SINGLE = {f"attn_fwd_v{k}" for k in range(1, 7)}  # versions without bfloat16

CASES: tuple[Case, ...] = (
    Case("tensor_addition", 0.0, script("tensor_addition/tensor_addition_nki_kernels.py")),
    Case("spmd_tensor_addition", 0.0,
         script("tensor_addition/spmd_tensor_addition_nki_kernels.py")),
    Case("spmd_multiple_nc_tensor_addition", 0.0,
         script("tensor_addition/spmd_multiple_nc_tensor_addition_nki_kernels.py")),
    Case("transpose2d", 0.0, script("transpose2d/transpose2d_nki_kernels.py")),
    Case("average_pool2d", 0.0, script("average_pool2d/average_pool2d_nki_kernels.py")),
    *(
        Case(name.strip("_"), HALF, kernel(MATMUL, name, _matrices(*sizes), references.matmul))
        for name, sizes in MATRIX_SIZES.items()
    ),
    Case("mamba_v1", SINGLE, kernel(MAMBA, "mamba_v1", _mamba, references.selective_scan)),
    Case("mamba_v2_v3", 0.0, same_as_first(MAMBA, ("mamba_v1", "mamba_v2", "mamba_v3"), _mamba)),
    Case("mamba_main", 0.0,
         script("fused_mamba/mamba_nki_kernels.py", "--seq_len", "512", "--state_size", "2")),
    Case("attention_main", 0.0, script("attention_fwd_performance/test_attention.py")),
    *(
        Case(name, SINGLE if name in ALL_SINGLE else MIXED,
             kernel(ATTENTION, name, _qkv(length), references.attention))
        for name, length in ATTENTION_LENGTHS.items()
    ),
    Case("contributed_matmul", HALF,
         kernel(f"{CONTRIBUTED}/matmul.py", "matmul", _matrices(2048, 512, 2048),
                references.matmul)),
    Case("contributed_max_pooling", 0.0,
         kernel(f"{CONTRIBUTED}/maxpooling.py", "max_pooling_2d_stride_1", _image,
                references.max_pool)),
    Case("contributed_bilinear", SINGLE,
         kernel(f"{CONTRIBUTED}/interpolate_bilinear_fwd.py", "interpolate_bilinear_2x_fwd",
                _volume(2, 80, 23, 12), references.upsample)),
    Case("contributed_trilinear", SINGLE,
         kernel(f"{CONTRIBUTED}/interpolate_trilinear_fwd.py", "interpolate_trilinear_2x_fwd",
                _volume(2, 66, 8, 6, 5), references.upsample)),
)  # fmt: skip
