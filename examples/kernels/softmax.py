"""Softmax of rows, written with the value-returning functions of ``nki.language``.

tenzing run examples/kernels/softmax.py
"""

import nki.language as nl
import numpy as np

import nki


@nki.jit
def softmax(x):
    """``exp(x - max) / sum`` per row; rows are a multiple of 128."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, x.shape[0], nl.tile_size.pmax):
        part = slice(start, start + nl.tile_size.pmax)
        tile = nl.load(x[part])
        shifted = nl.subtract(tile, nl.max(tile, axis=1, keepdims=True))
        powers = nl.exp(shifted)
        total = nl.sum(powers, axis=1, keepdims=True)
        nl.store(out[part], nl.multiply(powers, nl.reciprocal(total)))
    return out


def main() -> None:
    """Compare with NumPy."""
    x = np.random.default_rng(0).standard_normal((256, 384)).astype(np.float32)
    powers = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(softmax(x), powers / powers.sum(1, keepdims=True), rtol=1e-5)
    print("softmax agrees with NumPy")


if __name__ == "__main__":
    main()
