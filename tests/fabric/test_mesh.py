"""Meshes number ranks row by row and group them along axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing.errors import UsageError
from tenzing.fabric import Mesh

MESH = Mesh.of({"dp": 2, "tp": 3, "ep": 4})


def test_ranks_are_numbered_as_an_array_in_memory() -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    assert MESH.ranks == 24
    for rank in range(24):
        dp, tp, ep = (int(n[0]) for n in np.where(numbers == rank))
        assert MESH.place(rank, ("tp",)) == tp
        assert MESH.place(rank, ("dp", "ep")) == dp * 4 + ep
        assert MESH.place(rank, MESH.names) == rank


@pytest.mark.parametrize("axes", [("tp",), ("tp", "ep"), ("dp", "ep"), ("dp", "tp", "ep"), ()])
def test_groups_share_the_other_axes_and_part_the_ranks(axes: tuple[str, ...]) -> None:
    groups = MESH.groups(axes)
    assert sorted(r for g in groups for r in g) == list(range(24))
    assert {len(g) for g in groups} == {MESH.size(axes)}
    for group in groups:
        assert [MESH.place(rank, axes) for rank in group] == list(range(len(group)))


def test_an_axis_it_lacks_has_one_rank() -> None:
    assert Mesh.of(None).ranks == MESH.size(("pp",)) == 1
    assert MESH.groups(("pp",)) == tuple((r,) for r in range(24))


@pytest.mark.parametrize("size", [0, -1, "2", 2.0, True])
def test_sizes_are_whole_numbers(size: Any) -> None:
    with pytest.raises(UsageError, match="mesh axis tp"):
        Mesh.of({"tp": size})


def test_ranks_fill_chips_in_order() -> None:
    assert Mesh.of({"tp": 16}).together(("tp",), 8) == 8
    assert Mesh.of({"tp": 2}).together(("tp",), 8) == 2
    assert Mesh.of({"ep": 4, "tp": 8}).together(("ep",), 8) == 1  # one of each chip
    assert Mesh.of({"ep": 4, "tp": 4}).together(("ep",), 8) == 2
