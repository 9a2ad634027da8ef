"""The verifier finds what is broken; builder, printer and interpreter do what they say."""

from dataclasses import replace

import numpy as np
import pytest

from tenzing.compiler import ops
from tenzing.compiler.graph import (
    BF16,
    F32,
    Alias,
    Graph,
    GraphBuilder,
    GraphError,
    Node,
    TensorType,
    Value,
    Work,
)
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run
from tenzing.compiler.verify import BrokenGraph, verify
from tenzing.errors import Loc


def small() -> Graph:
    builder = GraphBuilder("small")
    x = builder.input("x", (2, 3), F32)
    w = builder.parameter("w", (4, 3), F32)
    y = builder.add(ops.Linear(), x, w)
    return builder.build([builder.add(ops.Tanh(), y)])


def broken(graph: Graph) -> str:
    with pytest.raises(BrokenGraph) as caught:
        verify(graph, "after test")
    return caught.value.render()


def test_a_sound_graph_comes_back_unchanged() -> None:
    graph = small()
    assert verify(graph) is graph


def test_two_definitions_of_one_name() -> None:
    graph = small()
    text = broken(replace(graph, nodes=(*graph.nodes, graph.nodes[0])))
    assert "graph small is broken after test: %linear is defined twice" in text


def test_use_before_definition() -> None:
    graph = small()
    assert "tanh uses %linear before it is defined" in broken(
        replace(graph, nodes=graph.nodes[::-1])
    )


def test_output_that_nobody_defines() -> None:
    stranger = Value("stranger", (1,), F32)
    assert "the graph's outputs uses %stranger" in broken(replace(small(), outputs=(stranger,)))


def test_type_that_is_not_what_the_op_yields() -> None:
    graph = small()
    node = graph.nodes[1]
    wrong = Value("tanh", (2, 4), BF16)
    text = broken(replace(graph, nodes=(graph.nodes[0], replace(node, outputs=(wrong,)))))
    assert "tanh yields (f32[2,4]), not (bf16[2,4])" in text


def test_use_with_another_type_than_the_definition() -> None:
    graph = small()
    other = Value("linear", (2, 4), BF16)
    text = broken(replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], inputs=(other,)))))
    assert "tanh uses %linear: bf16[2,4] but it is defined as f32[2,4]" in text


def test_every_problem_is_listed_with_its_line() -> None:
    graph = small()
    place = Loc("model.py", 7)
    nodes = tuple(replace(node, loc=place) for node in graph.nodes[::-1])
    text = broken(replace(graph, nodes=nodes, aliases=(Alias(5, "x"), Alias(0, "nothing"))))
    assert "model.py:7" in text
    assert "alias names output 5 of 1" in text
    assert "alias target %nothing is no input or parameter" in text


def test_alias_of_another_type() -> None:
    assert "joins different types" in broken(replace(small(), aliases=(Alias(0, "x"),)))


def test_preparation_that_yields_another_type() -> None:
    graph = small()
    builder = GraphBuilder("prepare")
    raw = builder.parameter("raw", (4, 3), BF16)
    value = builder.add(ops.Negate(), raw, hint="w")
    text = broken(replace(graph, preparation=builder.build([value])))
    assert "%w is prepared as bf16[4,3]" in text


def test_an_op_refuses_with_the_place_of_the_call() -> None:
    builder = GraphBuilder("g")
    builder.loc = Loc("model.py", 3, "forward")
    x = builder.input("x", (2, 3), F32)
    with pytest.raises(GraphError, match=r"add needs inputs of one type; got f32\[2,3\], f32\[3\]"):
        builder.add(ops.Add(), x, builder.input("y", (3,), F32))
    with pytest.raises(GraphError) as caught:
        builder.add(ops.Linear(), x, builder.input("w", (4, 5), F32))
    assert caught.value.loc == builder.loc
    assert "the last dim of x is not the weight's K" in str(caught.value)


def test_names_stay_unique() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (1,), F32)
    names = [builder.add(ops.Negate(), x).name for _ in range(3)]
    assert names == ["negate", "negate_1", "negate_2"]


def test_run_names_what_is_missing_or_wrong() -> None:
    graph, x = small(), np.ones((2, 3), np.float32)
    with pytest.raises(GraphError, match="no array is bound to %w"):
        run(graph, [x], {})
    with pytest.raises(GraphError, match="array for %w has another type; got float32"):
        run(graph, [x], {"w": x})
    with pytest.raises(GraphError, match="takes another number of inputs; got 0; allowed: 1"):
        run(graph, [], {})


def test_work_of_a_linear_is_counted_by_hand() -> None:
    work = small().nodes[0].work
    assert work == Work(matmul_flops=2 * 2 * 3 * 4, read_bytes=4 * (6 + 12), write_bytes=4 * 8)
    assert small().work.transcendentals == 8


def test_types_and_values_read_well() -> None:
    assert str(TensorType((2, 3), BF16)) == "bf16[2,3]"
    assert str(Value("x", (), np.dtype(np.int64))) == "%x: i64[]"
    node = Node(ops.TopK(1, np.dtype(np.int64)), (), (Value("a", (1,), F32),) * 2)
    with pytest.raises(GraphError, match="top_k has several outputs"):
        _ = node.output


def test_printed_graph() -> None:
    assert to_text(small()) == (
        "graph small(%x: f32[2,3]) {\n"
        "  parameter %w: f32[4,3]\n"
        "  %linear = linear(%x, %w) : f32[2,4]\n"
        "  %tanh = tanh(%linear) : f32[2,4]\n"
        "  return %tanh\n"
        "}\n"
    )
