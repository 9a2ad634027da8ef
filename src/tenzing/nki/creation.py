"""Creating tensors: memories, filled tiles, constants and random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tenzing import facts
from tenzing.errors import KernelError
from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.operand import Array, Space
from tenzing.machine import ACTIVE, active_core
from tenzing.nki.assign import fill
from tenzing.nki.kernel import current_target, shared_tensor
from tenzing.nki.tensor import NkiTensor, new_tensor, tensor_again
from tenzing.nki.values import FLOAT32, emit, given_dtype, new_tile, returned

__tenzing_internal__ = True


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """HBM that every program of the launch sees, and where results are returned from."""

    space: Space = Space.HBM

    @property
    def on_chip(self) -> bool:
        """False: it is HBM."""
        return False

    @property
    def name(self) -> str:
        """The vendor's name."""
        return "shared_hbm"


Buffer = Space | SharedMemory
sbuf: Final = Space.SBUF
psum: Final = Space.PSUM
hbm: Final = Space.HBM
private_hbm: Final = Space.HBM
shared_hbm: Final = SharedMemory()
MemoryRegion = Space

_RANDOM_BITS: Final = 24  # bits a float32 fraction holds exactly
_WORD_BITS: Final = 32


def is_hbm(buffer: Any) -> bool:
    """Whether a buffer is any HBM."""
    return buffer is Space.HBM or isinstance(buffer, SharedMemory)


def is_on_chip(buffer: Any) -> bool:
    """Whether a buffer is SBUF or PSUM."""
    return isinstance(buffer, Space) and buffer.on_chip


def is_psum(buffer: Any) -> bool:
    """Whether a buffer is PSUM."""
    return buffer is Space.PSUM


def is_sbuf(buffer: Any) -> bool:
    """Whether a buffer is SBUF."""
    return buffer is Space.SBUF


def current_chip() -> Chip:
    """The chip of the running kernel; outside a kernel, of the session or the default target."""
    core = ACTIVE.get(None)
    return facts.chip(current_target()) if core is None else core.chip


class TileSize:
    """Sizes of the target's memories and engines, read from its facts."""

    @property
    def pmax(self) -> int:
        """Partitions of a tile."""
        return current_chip().integer("core.partitions")

    @property
    def psum_bank_fmax(self) -> int:
        """Float32 elements of one PSUM bank, per partition."""
        return self.psum_bank_fmax_bytes // FLOAT32.itemsize

    psum_fmax = psum_bank_fmax  # the older name

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes of one PSUM bank, per partition."""
        return current_chip().integer("psum.bank_bytes")

    @property
    def psum_num_banks(self) -> int:
        """PSUM banks per partition."""
        return current_chip().integer("psum.banks")

    @property
    def gemm_stationary_fmax(self) -> int:
        """Free elements of the stationary operand."""
        return current_chip().integer("tensor.stationary_free_max")

    @property
    def gemm_moving_fmax(self) -> int:
        """Free elements of the moving operand."""
        return current_chip().integer("tensor.gemm_moving_fmax")

    @property
    def bn_stats_fmax(self) -> int:
        """Free elements of ``bn_stats``."""
        return current_chip().integer("vector.bn_stats_free_max")

    @property
    def psum_min_align(self) -> int:
        """Bytes a PSUM address is a multiple of."""
        return current_chip().integer("psum.min_align_bytes")

    @property
    def sbuf_min_align(self) -> int:
        """Bytes an SBUF address is a multiple of."""
        return current_chip().integer("sbuf.min_align_bytes")

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes of SBUF per partition that a kernel may use."""
        return current_chip().integer("sbuf.usable_bytes_per_partition")

    total_available_sbuf_size = sbuf_fmax_bytes  # the older name: per partition, not in total

    @property
    def sbuf_fmax(self) -> int:
        """Float32 elements of SBUF per partition."""
        return self.sbuf_fmax_bytes // FLOAT32.itemsize

    @property
    def sbuf_size_bytes(self) -> int:
        """Bytes of SBUF over all partitions."""
        return current_chip().integer("sbuf.bytes_per_partition") * self.pmax


tile_size: Final = TileSize()


def ndarray(
    shape: Sequence[int],
    dtype: Any,
    buffer: Any = sbuf,
    name: str = "",
    address: tuple[int, int] | None = None,
) -> NkiTensor:
    """A new tensor, not written yet.

    ``address`` = (first partition, byte within the partition) places a tile of SBUF or PSUM;
    without it the tile is placed when the kernel is complete.
    """
    core = ACTIVE.get(None)
    key = (buffer, dtype, shape)
    if core is not None and address is None and type(shape) is tuple and key in core.plans:
        return tensor_again(core, key, name)
    dims = tuple(int(n) for n in ((shape,) if isinstance(shape, int) else shape))
    wanted = numerics.dtype(dtype)
    if isinstance(buffer, SharedMemory):
        return shared_tensor(
            (dims, wanted, name),
            lambda: new_tensor(dims, wanted, Space.HBM, name=name, origin="output"),
        )
    if not isinstance(buffer, Space):
        raise KernelError(
            "nl.ndarray: buffer is not a memory", got=type(buffer).__name__,
            allowed="nl.sbuf, nl.psum, nl.hbm, nl.private_hbm, nl.shared_hbm",
            where=active_core().here(),
        )  # fmt: skip
    tensor = new_tensor(dims, wanted, buffer, name=name, address=address)
    if core is not None and address is None and type(shape) is tuple:
        core.plans[key] = tensor.storage, tensor.layout
    return tensor


def full(
    shape: Sequence[int], fill_value: float, dtype: Any, buffer: Any = sbuf, name: str = ""
) -> NkiTensor:
    """A new tensor with one number everywhere."""
    tensor = ndarray(shape, dtype, buffer, name)
    fill(tensor, fill_value)
    return tensor


def zeros(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of zeros."""
    return full(shape, 0, dtype, buffer, name)


def ones(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tensor of ones."""
    return full(shape, 1, dtype, buffer, name)


def zeros_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """Zeros with the sizes, and unless given the dtype and memory, of ``x``."""
    return zeros(x.shape, given_dtype(dtype, x.dtype), _like(x, buffer), name)


def empty_like(x: NkiTensor, dtype: Any = None, buffer: Any = None, name: str = "") -> NkiTensor:
    """A tensor, not written yet, with the sizes, dtype and memory of ``x``."""
    return ndarray(x.shape, given_dtype(dtype, x.dtype), _like(x, buffer), name)


def _like(x: NkiTensor, buffer: Any) -> Any:
    return x.buffer if buffer is None else buffer


def shared_constant(constant: Any, dtype: Any = None) -> NkiTensor:
    """A tensor in HBM that holds an array, or the array of a ``.npy`` file, before the start."""
    if isinstance(constant, str | Path):
        constant = _read_npy(Path(constant))
    values = np.asarray(constant)
    wanted = given_dtype(dtype, numerics.dtype(values.dtype))
    if wanted != values.dtype:
        cast = np.empty(values.shape, wanted)
        numerics.store(cast, numerics.f32(values))
        values = cast
    key = ("constant", values.shape, wanted, values.tobytes())
    return shared_tensor(key, lambda: _constant(values, wanted))


def _constant(values: Array, dtype: Any) -> NkiTensor:
    return new_tensor(values.shape or (1,), dtype, Space.HBM, origin="constant", contents=values)


def _read_npy(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise KernelError(f"nl.shared_constant: cannot read {path}: {error}",
                          where=active_core().here()) from None  # fmt: skip


def shared_identity_matrix(n: int, dtype: Any = "uint8", dst: NkiTensor | None = None) -> NkiTensor:
    """An identity matrix in SBUF, loaded once per size and dtype."""
    core = active_core()
    wanted = numerics.dtype(dtype) if dst is None else dst.dtype
    key = ("identity", n, wanted)
    kept = core.kept.get(key)
    if isinstance(kept, NkiTensor) and dst is None:
        return kept
    values = np.empty((n, n), wanted)
    numerics.store(values, np.identity(n, np.float32))
    source = _constant(values, wanted)
    tile = new_tile((n, n), wanted) if dst is None else dst
    emit("dma_copy", dst=tile, src=source)
    if dst is None:
        core.kept[key] = tile
    return tile


def random_seed(seed: NkiTensor) -> None:
    """Seed the random generator of the Vector engine with a [1, 1] tile of 32 bits."""
    emit("set_rng_seed", src_seeds=seed)


def rand(shape: Sequence[int], dtype: Any, buffer: Any = sbuf, name: str = "") -> NkiTensor:
    """A new tile of random numbers in [0, 1): the top 24 bits of random words, scaled."""
    bits = new_tile(shape, numerics.dtype("uint32"))
    emit("rng", dst=bits)
    emit("tensor_scalar", dst=bits, data=bits, op0="right_shift",
         operand0=_WORD_BITS - _RANDOM_BITS)  # fmt: skip
    out = ndarray(bits.shape, dtype, buffer, name)
    if not out.buffer.on_chip:
        raise KernelError("nl.rand: the numbers are made on chip", got=out.buffer.name,
                          allowed="nl.sbuf, nl.psum", where=active_core().here())  # fmt: skip
    return returned("tensor_scalar", out, data=bits, op0="multiply",
                    operand0=2.0**-_RANDOM_BITS)  # fmt: skip


__all__ = [
    "Buffer", "MemoryRegion", "SharedMemory", "TileSize", "current_chip", "empty_like", "full",
    "hbm", "is_hbm", "is_on_chip", "is_psum", "is_sbuf", "ndarray", "ones", "private_hbm", "psum",
    "rand", "random_seed", "sbuf", "shared_constant", "shared_hbm", "shared_identity_matrix",
    "tile_size", "zeros", "zeros_like",
]  # fmt: skip
