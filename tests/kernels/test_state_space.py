"""The scan kernel equals a loop, across tiles of rows and chunks of time."""

import numpy as np
import pytest

from tenzing import facts
from tenzing.compiler.ops import LinearScan
from tenzing.kernels.state_space import TIME_CHUNK, linear_scan
from tenzing.machine import analyse
from tenzing.nki import session


@pytest.mark.parametrize("chip", facts.chips())
@pytest.mark.parametrize(("rows", "steps"), [(130, 7), (3, TIME_CHUNK + 5), (1, 1)])
def test_scan(chip: str, rows: int, steps: int) -> None:
    random = np.random.default_rng(0)
    a, b = (random.uniform(-1, 1, (rows, steps)).astype(np.float32) for _ in "ab")
    start = random.standard_normal((rows, 1)).astype(np.float32)
    with session(chip) as current:
        got = linear_scan(a, b, start)
    assert [f.message for f in analyse(current.launches[0].programs[0]).findings] == []
    np.testing.assert_allclose(got, LinearScan().reference(a, b, start[:, 0])[0], atol=1e-5)
