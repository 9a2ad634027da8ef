"""Scripts with one mistake each, and what the message must say about it.

The line that is to blame carries the comment ``# HERE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HEADER = """\
import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

X = np.ones((128, 512), np.float32)

"""
KERNEL = """\
@nki.jit
def kernel(x):
{body}
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x))
    return out


kernel(X)
"""


@dataclass(frozen=True)
class Bad:
    """A mistake: the kernel's lines, the words of its message, and words it must not use."""

    name: str
    body: str
    says: tuple[str, ...]
    target: str = "trn2"
    script: str = ""  # the whole script, where the mistake is outside a kernel

    @property
    def source(self) -> str:
        """The script."""
        if self.script:
            return self.script
        lines = "\n".join(f"    {line}" if line else "" for line in self.body.splitlines())
        return HEADER + KERNEL.format(body=lines)

    @property
    def line(self) -> int:
        """Number of the line to blame, 0 when none is marked."""
        lines = self.source.splitlines()
        return next((k for k, line in enumerate(lines, 1) if "# HERE" in line), 0)

    def write(self, folder: Path) -> Path:
        """The script as a file."""
        path = folder / f"{self.name}.py"
        path.write_text(self.source, encoding="utf-8")
        return path


REFUSED_AT_ONCE = (
    Bad(
        "moving_too_wide",
        """\
left, right = nl.ndarray((128, 128), nl.float32), nl.ndarray((128, 640), nl.float32)
bank = nl.ndarray((128, 640), nl.float32, buffer=nl.psum)
nisa.nc_matmul(dst=bank, stationary=left, moving=right)  # HERE""",
        ("legality", "nki.isa.nc_matmul", "moving has 640 free elements", "trn2 allows 512",
         "tensor.moving_free_max", "next:"),
    ),
    Bad(
        "several_rules_at_once",
        """\
left, right = nl.ndarray((128, 200), nl.float32), nl.ndarray((64, 640), nl.float32)
bank = nl.ndarray((128, 640), nl.float32, buffer=nl.psum)
nisa.nc_matmul(dst=bank, stationary=left, moving=right)  # HERE""",
        ("stationary has 128 partitions, moving has 64", "stationary has 200 free elements",
         "moving has 640 free elements"),
    ),
    Bad(
        "float32_with_bfloat16",
        """\
left, right = nl.ndarray((128, 128), nl.float32), nl.ndarray((128, 512), nl.bfloat16)
bank = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
nisa.nc_matmul(dst=bank, stationary=left, moving=right)  # HERE""",
        ("legality", "stationary is float32 and moving is bfloat16", "pair only with each other"),
    ),
    Bad(
        "product_into_sbuf",
        """\
left = nl.ndarray((128, 128), nl.float32)
nisa.nc_matmul(dst=left, stationary=left, moving=left)  # HERE""",
        ("dst is in SBUF; allowed: PSUM",),
    ),
    Bad(
        "too_many_partitions",
        "tile = nl.ndarray((256, 16), nl.float32)  # HERE",
        ("256 partitions", "1 to 128", "core.partitions", "next:"),
    ),
    Bad(
        "empty_tile",
        "tile = nl.ndarray((128, 0), nl.float32)  # HERE",
        ("no elements",),
    ),
    Bad(
        "load_more_rows_than_partitions",
        "tile = nl.load(nl.ndarray((512, 8), nl.float32, buffer=nl.hbm))  # HERE",
        ("512 partitions", "128"),
    ),
    Bad(
        "slice_past_the_end",
        "tile = nl.load(x)\npart = tile[:, 500:600]  # HERE",
        ("bounds", "500:600", "dim 1", "(128, 512)", "next:"),
    ),
    Bad(
        "index_past_the_end",
        "row = x[128]  # HERE",
        ("bounds", "index 128", "dim 0", "(128, 512)"),
    ),
    Bad(
        "ds_past_the_end",
        "part = x[:, nl.ds(510, 8)]  # HERE",
        ("bounds", "510:518", "dim 1"),
    ),
    Bad(
        "too_many_indices",
        "part = x[0, 0, 0]  # HERE",
        ("bounds", "3 indices", "2 dims"),
    ),
    Bad(
        "index_of_wrong_type",
        'part = x["rows"]  # HERE',
        ("integer, a slice, nl.ds", "got str"),
    ),
    Bad(
        "pattern_past_the_end",
        "part = nl.load(x).ap([[512, 128], [1, 513]], offset=511)  # HERE",
        ("bounds", "access pattern reaches"),
    ),
    Bad(
        "gather_past_the_end",
        """\
rows = nl.ndarray((32, 1), nl.int32)
nisa.iota(dst=rows, pattern=[[1, 1]], offset=1000, channel_multiplier=1)
tile = nl.ndarray((32, 512), nl.float32)
nisa.dma_copy(dst=tile, src=x.vector_select(0, rows))  # HERE""",
        ("bounds", "nki.isa.dma_copy", "1000"),
    ),
    Bad(
        "mask_argument",
        "tile = nl.load(x)\nnisa.memset(dst=tile, value=0.0, mask=True)  # HERE",
        ("mask= was removed", "slice the operands"),
    ),
    Bad(
        "numpy_operand",
        "tile = nl.load(x)\nnisa.tensor_copy(dst=tile, src=np.ones((128, 512)))  # HERE",
        ("nki.isa.tensor_copy", "src is ndarray", "a tile (NkiTensor)"),
    ),
    Bad(
        "number_operand",
        "tile = nl.load(x)\nnisa.tensor_tensor(dst=tile, data1=tile, data2=2.0, op=nl.add)  # HERE",
        ("nki.isa.tensor_tensor", "data2", "tile"),
    ),
    Bad(
        "missing_operand",
        "nisa.tensor_copy(dst=nl.load(x), src=None)  # HERE",
        ("nki.isa.tensor_copy", "src"),
    ),
    Bad(
        "hbm_operand",
        "nisa.tensor_copy(dst=x, src=x)  # HERE",
        ("dst is in HBM; allowed: SBUF or PSUM", "src is in HBM"),
    ),
    Bad(
        "hbm_in_the_language",
        "y = nl.exp(x)  # HERE",
        ("HBM", "nl.load"),
    ),
    Bad(
        "shapes_differ",
        """\
a, b = nl.load(x), nl.load(x[:, 0:100])
nisa.tensor_tensor(dst=a, data1=a, data2=b, op=nl.add)  # HERE""",
        ("data1 has 512 free elements, data2 has 100",),
    ),
    Bad(
        "shapes_do_not_broadcast",
        "y = nl.add(nl.load(x), nl.load(x[:, 0:100]))  # HERE",
        ("512", "100"),
    ),
    Bad(
        "store_of_another_size",
        """\
result = nl.ndarray((128, 100), nl.float32, buffer=nl.shared_hbm)
nl.store(result, nl.load(x))  # HERE""",
        ("nl.store", "(128, 100)", "(128, 512)", "next:"),
    ),
    Bad(
        "truth_of_a_tile",
        "if nl.load(x):  # HERE\n    pass",
        ("no truth value", "next:"),
    ),
    Bad(
        "unknown_operator",
        "nisa.tensor_scalar(dst=nl.load(x), data=nl.load(x), op0='plus', operand0=1.0)  # HERE",
        ("plus",),
    ),
    Bad(
        "unknown_dtype",
        "tile = nl.ndarray((128, 8), 'float31')  # HERE",
        ("float31",),
    ),
    Bad(
        "unknown_buffer",
        "tile = nl.ndarray((128, 8), nl.float32, buffer='sbuf')  # HERE",
        ("buffer is not a memory", "nl.sbuf, nl.psum"),
    ),
    Bad(
        "bias_of_wrong_type",
        "tile = nl.load(x)\nnisa.activation(dst=tile, op=nl.exp, data=tile, bias='x')  # HERE",
        ("nki.isa.activation", "bias is 'x'; a tile or a number is needed"),
    ),
    Bad(
        "engine_that_cannot",
        "tile = nl.load(x)\nnisa.memset(dst=tile, value=0.0, engine=nisa.tensor_engine)  # HERE",
        ("engine tensor cannot run it; allowed: vector, gpsimd",),
    ),
    Bad(
        "not_on_this_chip",
        """\
tile = nl.load(x)
nisa.tensor_copy(dst=tile, src=tile, engine=nisa.scalar_engine)  # HERE""",
        ("Scalar on trn1 has no tensor_copy",),
        target="trn1",
    ),
    Bad(
        "fixed_tile_past_the_end",
        "tile = nl.ndarray((128, 512), nl.float32, address=(0, 229000))  # HERE",
        ("SBUF", "ends at byte 231048", "229376", "sbuf.bytes_per_partition"),
    ),
    Bad(
        "hbm_overflow",
        "scratch = nl.ndarray((2, 2**32), nl.float32, buffer=nl.hbm)  # HERE",
        ("capacity", "HBM tensors of 32.0 GiB", "24.0 GiB", "hbm.core_bytes", "next:"),
    ),
    Bad(
        "tile_larger_than_sbuf",
        "tile = nl.ndarray((128, 2**30), nl.float32)  # HERE",
        ("capacity", "one SBUF tensor of 4.0 GiB per partition", "224.0 KiB per partition"),
    ),
    Bad(
        "missing_name",
        "nl.gelu_approximately(nl.load(x))  # HERE",
        ("gelu_approximately",),
    ),
    Bad(
        "missing_instruction",
        "nisa.tensor_magic(dst=nl.load(x))  # HERE",
        ("tensor_magic",),
    ),
    Bad(
        "missing_parameter",
        "nisa.tensor_copy(dst=nl.load(x))  # HERE",
        ("tensor_copy", "src"),
    ),
    Bad(
        "unknown_parameter",
        "nisa.tensor_copy(dst=nl.load(x), source=nl.load(x))  # HERE",
        ("tensor_copy", "source"),
    ),
    Bad(
        "own_assertion",
        "assert x.shape[0] % 256 == 0, 'rows must be a multiple of 256'  # HERE",
        ("AssertionError: rows must be a multiple of 256",),
    ),
    Bad(
        "own_error",
        "{}['tile_size']  # HERE",
        ("KeyError: 'tile_size'",),
    ),
    Bad(
        "endless_recursion",
        "def again(): return again()\nagain()",
        ("RecursionError",),
    ),
    Bad(
        "outside_a_kernel", "", ("outside a kernel", "@nki.jit"),
        script=HEADER + "nl.ndarray((4, 4), nl.float32)  # HERE\n",
    ),
    Bad(
        "too_many_cores", "", ("trn2 has 8 cores", "16"),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel[16](X)  # HERE\n"),
    ),
    Bad(
        "grid_of_wrong_type", "", ("kernel['x']", "a launch grid has no programs"),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel['x'](X)  # HERE\n"),
    ),
    Bad(
        "grid_of_nothing", "", ("kernel[0]", "allowed: 1 or more"),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel[0](X)  # HERE\n"),
    ),
    Bad(
        "argument_missing", "", ("kernel() missing 1 required positional argument: 'x'",),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel()  # HERE\n"),
    ),
    Bad(
        "argument_of_no_known_dtype", "", ("complex64",),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel(X + 1j)\n"),
    ),
    Bad(
        "argument_of_objects", "", ("object",),
        script=HEADER + KERNEL.format(body="    pass").replace(
            "kernel(X)\n", "kernel(np.array([{}, {}]))  # HERE\n"),
    ),
    Bad(
        "returned_from_sbuf",
        "return nl.load(x)",
        ("a kernel returns tensors in HBM; got NkiTensor(128x512 float32", "next: store it"),
    ),
)  # fmt: skip

FOUND_AFTERWARDS = (
    Bad(
        "sbuf_overflow",
        """\
tiles = []
for _ in range(8):
    tile = nl.ndarray((128, 8192), nl.float32)  # HERE
    nisa.memset(dst=tile, value=0.0)
    tiles.append(tile)
for tile in tiles:
    nisa.tensor_copy(dst=tile[:, 0:1], src=tile[:, 1:2])""",
        (
            "SBUF overflow",
            "256.0 KiB per partition are live at once (8 tensors)",
            "trn2 has 224.0 KiB",
            "sbuf.bytes_per_partition",
            "live: 8 of 128x8192 float32, 32.0 KiB per partition at",
            "next:",
        ),
    ),
    Bad(
        "psum_overflow",
        """\
banks = [nl.ndarray((128, 512), nl.float32, buffer=nl.psum) for _ in range(9)]  # HERE
for bank in banks:
    nisa.memset(dst=bank, value=0.0)
for bank in banks:
    nisa.tensor_copy(dst=bank[:, 0:1], src=bank[:, 1:2])""",
        ("PSUM overflow", "18.0 KiB", "9 tensors", "trn2 has 16.0 KiB"),
    ),
    Bad(
        "unwritten",
        """\
tile = nl.ndarray((128, 512), nl.float32)
result = nl.exp(tile)  # HERE
nisa.tensor_copy(dst=tile, src=result)""",
        ("reads unwritten SBUF", "128x512 float32", "allocated at", "next: write it first"),
    ),
    Bad(
        "partly_unwritten",
        """\
tile = nl.ndarray((128, 512), nl.float32)
nisa.dma_copy(dst=tile[:, 0:500], src=x[:, 0:500])
result = nl.exp(tile)  # HERE
nisa.tensor_copy(dst=tile, src=result)""",
        ("reads partly unwritten SBUF",),
    ),
    Bad(
        "bad_start_partition",
        """\
tile = nl.load(x)
nisa.memset(dst=tile[16:48], value=0.0)  # HERE""",
        ("dst covers 32 partitions from 16", "0/32/64/96", "next:"),
    ),
    Bad(
        "bank_crossing",
        """\
left = nl.load(x[:, 0:128])
bank = nl.ndarray((128, 1024), nl.float32, buffer=nl.psum)
nisa.nc_matmul(dst=bank[:, 256:768], stationary=left, moving=nl.load(x))  # HERE""",
        ("dst spans bytes 1024..3072", "one PSUM bank of 2048 bytes"),
    ),
)
