"""Multiply matrices with tiles that stay in SBUF: each element of the operands is loaded once.

tenzing run examples/kernels/matmul.py
"""

import nki.isa as nisa
import nki.language as nl
import numpy as np

import nki


@nki.jit
def matmul(a_transposed, b):
    """``a_transposed.T @ b``; ``[K, M]`` and ``[K, N]``, K and M multiples of 128, N of 512."""
    depth, rows = a_transposed.shape
    columns = b.shape[1]
    tile_k = nl.tile_size.pmax
    tile_m = nl.tile_size.gemm_stationary_fmax
    tile_n = nl.tile_size.gemm_moving_fmax
    out = nl.ndarray((rows, columns), dtype=a_transposed.dtype, buffer=nl.shared_hbm)

    left, right = [], []
    for k in nl.affine_range(depth // tile_k):
        part = slice(k * tile_k, (k + 1) * tile_k)
        a_tile = nl.ndarray((tile_k, rows), dtype=a_transposed.dtype, buffer=nl.sbuf)
        b_tile = nl.ndarray((tile_k, columns), dtype=b.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=a_tile, src=a_transposed[part])
        nisa.dma_copy(dst=b_tile, src=b[part])
        left.append(a_tile)
        right.append(b_tile)

    for m in nl.affine_range(rows // tile_m):
        row_part = slice(m * tile_m, (m + 1) * tile_m)
        packed = nl.ndarray((tile_m, columns), dtype=out.dtype, buffer=nl.sbuf)
        for n in nl.affine_range(columns // tile_n):
            column_part = slice(n * tile_n, (n + 1) * tile_n)
            total = nl.ndarray((tile_m, tile_n), dtype=nl.float32, buffer=nl.psum)
            for k in nl.affine_range(depth // tile_k):
                nisa.nc_matmul(
                    dst=total,
                    stationary=left[k][:, row_part],
                    moving=right[k][:, column_part],
                    accumulate=k > 0,
                )
            nisa.tensor_copy(dst=packed[:, column_part], src=total)
        nisa.dma_copy(dst=out[row_part], src=packed)
    return out


def main() -> None:
    """Compare with NumPy in float16."""
    rng = np.random.default_rng(0)
    a_transposed = rng.standard_normal((256, 256)).astype(np.float16)
    b = rng.standard_normal((256, 1024)).astype(np.float16)
    expected = a_transposed.astype(np.float32).T @ b.astype(np.float32)
    np.testing.assert_allclose(matmul(a_transposed, b), expected, rtol=2e-3, atol=2e-2)
    print("matmul agrees with NumPy")


if __name__ == "__main__":
    main()
