"""Layer norm of rows: statistics on the Vector engine, one pass to normalise, weights by column.

tenzing run examples/kernels/layernorm.py
"""

import nki.isa as nisa
import nki.language as nl
import numpy as np

import nki

EPSILON = 1e-5


@nki.jit
def layernorm(x, weight, bias):
    """``(x - mean) / sqrt(var + eps) * weight + bias``; rows by 128, at most 512 columns."""
    rows, columns = x.shape
    partitions = nl.tile_size.pmax
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    scale = nl.copy(nl.broadcast_to(nl.load(weight), (partitions, columns)))
    shift = nl.copy(nl.broadcast_to(nl.load(bias), (partitions, columns)))

    for start in nl.affine_range(0, rows, partitions):
        part = slice(start, start + partitions)
        tile = nl.load(x[part])
        stats = nl.ndarray((partitions, 6), dtype=nl.float32)
        moments = nl.ndarray((partitions, 2), dtype=nl.float32)
        nisa.bn_stats(dst=stats, data=tile)
        nisa.bn_aggr(dst=moments, data=stats)
        deviation = nl.ndarray((partitions, 1), dtype=nl.float32)
        nisa.tensor_scalar(dst=deviation, data=moments[:, 1:2], op0=nl.add, operand0=EPSILON)
        nisa.activation(dst=deviation, op=nl.rsqrt, data=deviation)
        nisa.tensor_scalar(
            dst=tile,
            data=tile,
            op0=nl.subtract,
            operand0=moments[:, 0:1],
            op1=nl.multiply,
            operand1=deviation,
        )
        nl.store(out[part], nl.add(nl.multiply(tile, scale), shift))
    return out


def main() -> None:
    """Compare with NumPy."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 384)).astype(np.float32)
    weight, bias = (rng.standard_normal((1, 384)).astype(np.float32) for _ in range(2))
    centred = x - x.mean(1, keepdims=True)
    expected = centred / np.sqrt(x.var(1, keepdims=True) + EPSILON) * weight + bias
    np.testing.assert_allclose(layernorm(x, weight, bias), expected, rtol=1e-4, atol=1e-4)
    print("layernorm agrees with NumPy")


if __name__ == "__main__":
    main()
