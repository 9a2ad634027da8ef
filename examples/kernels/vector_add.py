"""Add two matrices, one tile of 128 rows at a time.

tenzing run examples/kernels/vector_add.py
"""

import nki.isa as nisa
import nki.language as nl
import numpy as np

import nki


@nki.jit
def vector_add(a, b):
    """``a + b`` for equal shapes; rows are a multiple of 128."""
    rows, columns = a.shape
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, rows, nl.tile_size.pmax):
        part = slice(start, start + nl.tile_size.pmax)
        left = nl.ndarray((nl.tile_size.pmax, columns), dtype=a.dtype, buffer=nl.sbuf)
        right = nl.ndarray((nl.tile_size.pmax, columns), dtype=b.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=left, src=a[part])
        nisa.dma_copy(dst=right, src=b[part])
        nisa.tensor_tensor(dst=left, data1=left, data2=right, op=nl.add)
        nisa.dma_copy(dst=out[part], src=left)
    return out


def main() -> None:
    """Compare with NumPy on random input."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((256, 512)).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(vector_add(a, b), a + b)
    print("vector_add agrees with NumPy")


if __name__ == "__main__":
    main()
