"""The same search on a Ray cluster of two nodes: identical results, also from the command line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenzing.cli import main
from tenzing.fleet import compare

pytestmark = pytest.mark.slow
ON = ["inf2.48xlarge", "trn2.48xlarge"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the ray extra")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def test_a_cluster_finds_what_this_machine_finds(address: str, tmp_path: Path) -> None:
    """Choices with every figure, and the assumed facts that they lean on."""
    here = compare("llama-3.1-8b", ON, requests_s=5, usd_per_million=(0.1, 0.4))
    there = compare("llama-3.1-8b", ON, requests_s=5, usd_per_million=(0.1, 0.4), ray=address)
    assert there == here
    rows = []
    for words in ([], ["--ray", address]):
        file = tmp_path / f"{len(words)}.csv"
        assert main(["compare", "llama-3.1-8b", "--on", ",".join(ON), "--no-simulate", "--csv",
                     str(file), *words]) == 0  # fmt: skip
        with file.open() as out:
            rows.append(list(csv.reader(out)))
    assert rows[0] == rows[1]
