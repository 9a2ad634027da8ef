"""What the printer writes is read back to the same graph; bad text is refused with its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Array, Graph, GraphBuilder, GraphError, Op
from tenzing.compiler.parser import parse
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.printer import to_text

from .ops.samples import all_samples, one_node

SAMPLES = all_samples()
IDS = [f"{index}-{op.name}" for index, (op, _) in enumerate(SAMPLES)]


def round_trip(graph: Graph) -> None:
    text = to_text(graph, payloads=True)
    again = parse(text)
    assert again == graph
    assert to_text(again, payloads=True) == text


@pytest.mark.parametrize(("op", "arrays"), SAMPLES, ids=IDS)
def test_every_operation_reads_back(op: Op, arrays: tuple[Array, ...]) -> None:
    graph = one_node(op, arrays)
    round_trip(graph)
    if op.name != "fused":
        round_trip(default_pipeline().run(graph))


@pytest.mark.parametrize("dtype", [F32, BF16, np.dtype(np.float64), np.dtype(np.int8)])
def test_constants_keep_every_bit(dtype: np.dtype[Any]) -> None:
    bits = np.random.default_rng(0).integers(0, 256, 13 * dtype.itemsize, np.uint8)
    builder = GraphBuilder("constants")
    parts = [bits.view(dtype)[:count] for count in (1, 5, 13)]
    outputs = [builder.add(ops.Constant.of(part)) for part in parts]
    outputs.append(builder.add(ops.Constant.of(np.arange(40).astype(dtype))))
    outputs.append(builder.add(ops.Constant.of(np.array([-0.0, 0.0]).astype(dtype))))
    round_trip(builder.build(outputs))


def test_scopes_aliases_and_odd_names_read_back() -> None:
    builder = GraphBuilder("a name, with marks")
    cache = builder.parameter('b["x"]', (2,), F32)
    builder.scope = "layers.0"
    new = builder.add(ops.Negate(), cache)
    graph = builder.build([new], [ops_alias(0, cache.name)])
    again = parse(to_text(graph, scopes=True))
    assert again == graph
    assert again.nodes[0].scope == "layers.0"


def ops_alias(output: int, target: str) -> Any:
    from tenzing.compiler.graph import Alias

    return Alias(output, target)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph g() {\n  return %x\n}", "line 2, column 10: %x is not defined before this"),
        ("graph g(%x: f99[2]) {\n  return %x\n}", "line 1, column 13: f99 is no dtype"),
        ("graph g(%x: f32[2]) {\n  %y = nope(%x) : f32[2]\n  return %y\n}",
         "line 2, column 8: nope is no operation"),
        ("graph g(%x: f32[2]) {\n  %y = reshape(%x) {size=[2]} : f32[2]\n  return %y\n}",
         "line 2, column 8: reshape has wrong attributes"),
        ("graph g(%x: f32[2]) {\n  return ?\n}", "line 2, column 10: no graph text begins with"),
        ("graph g(%x: f32[2]) {\n  return %x", "line 2, column 12: unexpected the end"),
        ("graph g() {\n  %c = constant() {data=sha256.00} : f32[40]\n  return %c\n}",
         "line 2, column 8: the bytes of constant sha256.00 are missing"),
        ("graph g() {\n  return\n}\npayload sha256.00 \"***\"", "line 4, column 19"),
        ("graph g(%x: f32[2]) {\n  %y = negate(%x) : f32[3]\n  return %y\n}",
         "negate yields .f32.2.., not"),
    ],
)  # fmt: skip
def test_bad_text_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        parse(text)
