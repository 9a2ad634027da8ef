"""Attention of one head without a score matrix in HBM: running maximum and sum, block by block.

tenzing run examples/kernels/attention.py
"""

import nki.isa as nisa
import nki.language as nl
import numpy as np

import nki


@nki.jit
def attention(q, k, v, scale):
    """``softmax(scale q k^T) v``; q and k are ``[d, length]``, v is ``[length, d]``.

    ``d`` is at most 128, the length a multiple of 128 for queries and of 512 for keys.
    """
    depth, length = q.shape
    rows, block = nl.tile_size.pmax, nl.tile_size.gemm_moving_fmax
    out = nl.ndarray((length, depth), dtype=q.dtype, buffer=nl.shared_hbm)
    q_tile, k_tile = nl.load(q), nl.load(k)
    v_tiles = [nl.load(v[j : j + rows]) for j in nl.affine_range(0, length, rows)]

    for i in nl.affine_range(0, length, rows):
        top = nl.full((rows, 1), -3.0e38, nl.float32)
        total = nl.zeros((rows, 1), nl.float32)
        result = nl.zeros((rows, depth), nl.float32)
        for j in nl.sequential_range(0, length, block):
            scores = nl.ndarray((rows, block), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(scores, q_tile[:, i : i + rows], k_tile[:, j : j + block])
            highest = nl.maximum(top, nl.multiply(nl.max(scores, axis=1), scale))
            shrink = nl.exp(nl.subtract(top, highest))
            top = nl.copy(highest)

            powers = nl.ndarray((rows, block), dtype=v.dtype)
            share = nl.ndarray((rows, 1), dtype=nl.float32)
            nisa.activation(
                dst=powers,
                op=nl.exp,
                data=scores,
                bias=nl.negative(highest),
                scale=scale,
                reduce_op=nl.add,
                reduce_res=share,
                reduce_cmd=nisa.reduce_cmd.reset_reduce,
            )
            product = nl.ndarray((rows, depth), dtype=nl.float32, buffer=nl.psum)
            for b in nl.affine_range(block // rows):
                turned = nl.copy(nl.transpose(powers[:, b * rows : (b + 1) * rows]))
                nisa.nc_matmul(product, turned, v_tiles[j // rows + b], accumulate=b > 0)
            total = nl.add(nl.multiply(total, shrink), share)
            result = nl.add(nl.multiply(result, shrink), product)
        nl.store(out[i : i + rows], nl.multiply(result, nl.reciprocal(total), dtype=q.dtype))
    return out


def main() -> None:
    """Compare with NumPy."""
    rng = np.random.default_rng(0)
    depth, length = 64, 1024
    q, k = (rng.standard_normal((depth, length)).astype(np.float32) for _ in range(2))
    v = rng.standard_normal((length, depth)).astype(np.float32)
    scale = depth**-0.5
    scores = np.exp(scale * (q.T @ k))
    expected = scores / scores.sum(1, keepdims=True) @ v
    np.testing.assert_allclose(attention(q, k, v, scale), expected, rtol=1e-4, atol=1e-4)
    print("attention agrees with NumPy")


if __name__ == "__main__":
    main()
