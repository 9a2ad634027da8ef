"""Small launchers shared by the tests of the language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tenzing import nki
from tenzing.nki import language as nl


def run(body: Callable[..., Any], *arrays: Any, target: str = "trn2", load: bool = True) -> Any:
    """Load the arrays, call ``body`` on the tiles, store what it returns, hand back the array."""

    def kernel(*inputs: Any) -> Any:
        tiles = [nl.load(x) for x in inputs] if load else list(inputs)
        result = body(*tiles)
        if result.buffer is nl.psum:
            result = nl.copy(result)
        out = nl.ndarray(result.shape, result.dtype, buffer=nl.shared_hbm)
        nl.store(out, result)
        return out

    with nki.session(target):
        return nki.jit(kernel)(*arrays)


def programs(body: Callable[..., Any], *arrays: Any, target: str = "trn2") -> list[list[str]]:
    """Instruction names of each program that ``body`` records on HBM inputs."""
    with nki.session(target) as session:
        nki.jit(body)(*arrays)
    return [
        [p.templates[row[0]].instruction.nki for row in p.rows]
        for launch in session.launches
        for p in launch.programs
    ]


def ones(*shape: int, dtype: Any = np.float32) -> Any:
    """An array of ones."""
    return np.ones(shape, dtype)
