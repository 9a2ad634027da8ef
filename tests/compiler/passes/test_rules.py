"""What each pass does to a graph made for it, and views against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Graph, GraphBuilder, GraphError, Node, Value
from tenzing.compiler.passes import (
    Autocast,
    CommonSubexpressions,
    DeadCode,
    FoldConstants,
    FuseRows,
    HoistPreparation,
    MatmulEpilogue,
    NarrowNumbers,
    PackHeads,
    Pipeline,
    RecogniseActivations,
    Simplify,
    SumsAsMatmul,
    WeightsForMatmul,
)
from tenzing.compiler.passes.pipeline import Pass
from tenzing.compiler.passes.views import View, view_of
from tenzing.compiler.reference import evaluate, run


def start() -> tuple[GraphBuilder, Value]:
    builder = GraphBuilder("g")
    return builder, builder.input("x", (2, 3, 8), F32)


def kinds(graph: Graph, *passes: Pass) -> list[str]:
    return [node.op.name for node in Pipeline((*passes, DeadCode())).run(graph).nodes]


def test_dead_code_drops_nodes_and_parameters_but_no_inputs() -> None:
    builder, x = start()
    unused = builder.parameter("unused", (8,), F32)
    builder.add(ops.Tanh(), unused)
    graph = DeadCode().apply(builder.build([builder.add(ops.Negate(), x)]))
    assert (len(graph.nodes), graph.parameters, graph.inputs) == (1, (), (x,))


def test_a_parameter_that_is_written_back_stays() -> None:
    from tenzing.compiler.graph import Alias

    builder, x = start()
    state = builder.parameter("state", (2, 3, 8), F32)
    graph = builder.build([builder.add(ops.Negate(), x)], [Alias(0, "state")])
    assert DeadCode().apply(graph).parameters == (state,)


@pytest.mark.parametrize("factored", [False, True])
def test_gelu_by_its_cubic_is_found_however_it_is_factored(factored: bool) -> None:
    """``x + c x^3`` under tanh, or as BLOOM has it ``x (1 + c x x)``."""
    builder, x = start()

    def times(value: Value, number: float | Value) -> Value:
        if not isinstance(number, Value):
            number = builder.add(ops.Constant.splat(number, x.shape, F32))
        return builder.add(ops.Multiply(), value, number)

    one = builder.add(ops.Constant.splat(1.0, x.shape, F32))
    square = times(times(x, 0.044715), x)
    inside = (
        times(times(x, 0.79788456), builder.add(ops.Add(), one, square))
        if factored else times(builder.add(ops.Add(), x, times(square, x)), 0.79788456)
    )  # fmt: skip
    bell = builder.add(ops.Add(), one, builder.add(ops.Tanh(), inside))
    graph = builder.build([times(times(x, 0.5), bell)])
    assert kinds(graph, RecogniseActivations()) == ["gelu"]
    other = Pipeline((RecogniseActivations(), DeadCode())).run(graph)
    array = np.linspace(-4, 4, 48, dtype=np.float32).reshape(x.shape)
    expected = run(graph, [array], {})[0]
    np.testing.assert_allclose(run(other, [array], {})[0], expected, rtol=1e-5, atol=1e-6)


def test_equal_work_happens_once_and_unequal_twice() -> None:
    builder, x = start()
    one, other = builder.add(ops.Gelu(), x), builder.add(ops.Gelu(), x)
    third = builder.add(ops.Gelu("tanh"), x)
    total = builder.add(ops.Add(), builder.add(ops.Add(), one, other), third)
    assert kinds(builder.build([total]), CommonSubexpressions()).count("gelu") == 2


def test_constant_arithmetic_is_done_at_compile_time_up_to_a_limit() -> None:
    builder, _ = start()
    line = builder.add(ops.Iota((100,), F32, 0))
    double = builder.add(ops.Add(), line, line)
    graph = builder.build([double])
    assert kinds(graph, FoldConstants()) == ["constant"]
    assert kinds(graph, FoldConstants(limit_elements=99)) == ["iota", "add"]
    folded = Pipeline((FoldConstants(), DeadCode())).run(graph)
    assert evaluate(folded, {})[0].tolist() == list(range(0, 200, 2))


def test_moves_that_cancel_disappear() -> None:
    builder, x = start()
    turned = builder.add(ops.Transpose((2, 0, 1)), builder.add(ops.Transpose((1, 2, 0)), x))
    flat = builder.add(ops.Reshape((2, 3, 8)), builder.add(ops.Reshape((48,)), turned))
    one = builder.add(ops.Constant.splat(1.0, flat.shape, F32))
    out = builder.add(ops.Negate(), builder.add(ops.Multiply(), flat, one))
    assert kinds(builder.build([out]), Simplify()) == ["negate"]


@pytest.mark.parametrize(("op", "neutral"), [(ops.And(), True), (ops.Or(), False)])
def test_truths_that_decide_nothing_disappear(op: ops.Elementwise, neutral: bool) -> None:
    for dtype, left in ((np.dtype(np.bool_), ["not"]), (np.dtype(np.int32), None)):
        builder = GraphBuilder("truths")
        x = builder.input("x", (4,), dtype)
        for number in (neutral, not neutral):
            constant = builder.add(ops.Constant.splat(number, x.shape, dtype))
            out = builder.add(ops.Not(), builder.add(op, constant, x))
            found = kinds(builder.build([out]), Simplify())
            assert (found == left) == (number == neutral and left is not None)


def test_integers_become_32_bits_and_results_keep_their_type() -> None:
    builder = GraphBuilder("g")
    i = builder.input("i", (3,), np.int64)
    big = builder.add(ops.Constant.splat(2.0**40, (3,), np.dtype(np.int64)))
    graph = builder.build([builder.add(ops.Minimum(), i, big)])
    final = NarrowNumbers().apply(graph)
    inside = [n for n in final.nodes if n.op.name == "minimum"]
    assert inside[0].outputs[0].dtype == np.int32
    assert final.outputs[0].dtype == np.int64
    assert run(final, [np.array([1, -2, 3])], {})[0].tolist() == [1, -2, 3]


def test_autocast_casts_products_only_and_keeps_wide_sums() -> None:
    builder, x = start()
    w = builder.parameter("w", (4, 8), F32)
    out = builder.add(ops.Tanh(), builder.add(ops.Linear(), x, w))
    graph = Autocast("matmult").apply(builder.build([out]))
    linear = next(n for n in graph.nodes if n.op.name == "linear")
    assert [v.dtype for v in linear.inputs] == [BF16, BF16]
    assert linear.outputs[0].dtype == F32
    assert graph.outputs[0].dtype == F32
    assert Autocast("none").apply(graph) is graph
    with pytest.raises(GraphError, match="autocast mode; got some; allowed: none, matmult, all"):
        Autocast("some").apply(graph)


def linear_then(*ops_after: ops.Op, shared: bool = False) -> Graph:
    builder, x = start()
    w, b = builder.parameter("w", (4, 8), F32), builder.parameter("b", (4,), F32)
    value = builder.add(ops.Linear(), x, w)
    first = value
    row = builder.add(ops.BroadcastInDim(value.shape, (2,)), b)
    value = builder.add(ops.Add(), value, row)
    for op in ops_after:
        value = builder.add(op, value)
    return builder.build([value, first] if shared else [value])


def test_epilogue_takes_bias_activation_and_rounding() -> None:
    graph = linear_then(ops.Gelu(), ops.Convert(BF16))
    final = Pipeline((MatmulEpilogue(), DeadCode())).run(graph)
    (node,) = final.nodes
    assert node.op == ops.Linear("nk", "gelu", BF16)
    assert [v.name for v in node.inputs] == ["x", "w", "b"]


def test_epilogue_leaves_what_others_read() -> None:
    graph = linear_then(ops.Gelu(), shared=True)
    assert "gelu" in kinds(graph, MatmulEpilogue())


def heads(permutation: tuple[int, ...] = (0, 2, 1, 3), back: bool = True) -> Graph:
    builder, x = start()
    split = builder.add(ops.Transpose(permutation), builder.add(ops.Reshape((2, 3, 2, 4)), x))
    sizes = split.shape[1]
    mixed = builder.add(ops.Attention(0.5, sizes, sizes), split, split, split)
    if back:
        joined = builder.add(ops.Transpose((0, 2, 1, 3)), mixed)
        mixed = builder.add(ops.Reshape((2, 3, 8)), joined)
    return builder.build([mixed])


def test_heads_become_strides() -> None:
    graph = heads()
    final = Pipeline((PackHeads(), DeadCode(), Simplify(), DeadCode())).run(graph)
    (node,) = final.nodes
    assert node.op == ops.Attention(0.5, 2, 2, packed=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(graph, [x], {})[0], run(final, [x], {})[0])


def test_heads_in_another_order_stay() -> None:
    assert "transpose" in kinds(heads((0, 1, 2, 3), back=False), PackHeads())
    assert "transpose" in kinds(heads(back=False), PackHeads())


def test_weights_turn_once_at_load_time() -> None:
    builder, x = start()
    w = builder.parameter("w", (4, 8), F32)
    graph = builder.build([builder.add(ops.Linear(), x, w)])
    final = Pipeline((WeightsForMatmul(), HoistPreparation(), DeadCode())).run(graph)
    assert [n.op.name for n in final.nodes] == ["linear"]
    assert [p.name for p in final.parameters] == ["w.T"]
    assert final.preparation is not None
    assert [n.op.name for n in final.preparation.nodes] == ["transpose"]


def test_sum_over_positions_is_a_product() -> None:
    builder, x = start()
    weight = builder.input("weight", (2, 3, 1), F32)
    wide = builder.add(ops.BroadcastInDim((2, 3, 8), (0, 1, 2)), weight)
    total = builder.add(ops.Reduce("add", (1,)), builder.add(ops.Multiply(), x, wide))
    assert kinds(builder.build([total]), SumsAsMatmul()) == ["reshape", "dot_general"]


def test_a_row_chain_is_one_group_with_one_read_per_tensor() -> None:
    builder, x = start()
    bias = builder.parameter("bias", (8,), F32)
    wide = builder.add(ops.BroadcastInDim(x.shape, (2,)), bias)
    total = builder.add(ops.Add(), x, wide)
    top = builder.add(ops.Reduce("maximum", (2,)), total)
    back = builder.add(ops.BroadcastInDim(x.shape, (0, 1)), top)
    out = builder.add(ops.Multiply(), builder.add(ops.Subtract(), total, back), x)
    final = FuseRows().apply(builder.build([out, top]))
    (node,) = final.nodes
    assert isinstance(node.op, ops.Fused)
    assert (node.op.rows, node.op.columns) == (6, 8)
    assert [v.name for v in node.inputs] == ["x", "bias"]
    assert [v.shape for v in node.op.body.inputs] == [(6, 8), (1, 8)]
    assert [v.shape for v in node.outputs] == [(2, 3), (2, 3, 8)]


def test_a_lone_row_stays_one_group_and_a_scalar_lays_nothing_flat() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", (1, 8), F32)
    total = builder.add(ops.Reduce("add", (1,)), x)
    wide = builder.add(ops.BroadcastInDim((1, 8), (0,)), builder.add(ops.Sqrt(), total))
    final = FuseRows().apply(builder.build([builder.add(ops.Divide(), x, wide)]))
    assert [n.op.name for n in final.nodes] == ["fused"]
    builder, x = start()
    scale = builder.add(ops.Tanh(), builder.input("scale", (), F32))
    wide = builder.add(ops.BroadcastInDim(x.shape, ()), scale)
    final = FuseRows().apply(builder.build([builder.add(ops.Multiply(), x, wide)]))
    tiles = [(n.op.rows, n.op.columns) for n in final.nodes if isinstance(n.op, ops.Fused)]
    assert tiles == [(1, 1), (6, 8)]


def test_groups_never_wait_for_each_other_in_a_circle() -> None:
    builder, x = start()
    w = builder.parameter("w", (8, 8), F32)
    one = builder.add(ops.Tanh(), x)
    far = builder.add(ops.Linear(), one, w)
    out = builder.add(ops.Add(), one, far)  # may not join tanh: the linear lies between
    final = FuseRows().apply(builder.build([out]))
    assert [n.op.name for n in final.nodes] == ["fused", "linear", "fused"]


def test_a_transposed_read_is_no_row_and_stays_a_move() -> None:
    builder, x = start()
    turned = builder.add(ops.Transpose((0, 2, 1)), builder.add(ops.Tanh(), x))
    final = FuseRows().apply(builder.build([builder.add(ops.Negate(), turned)]))
    assert [n.op.name for n in final.nodes] == ["fused", "transpose", "fused"]


def test_properties_are_checked_before_a_pass() -> None:
    builder, x = start()
    builder.add(ops.Tanh(), x)
    graph = builder.build([builder.add(ops.Negate(), x)])
    with pytest.raises(GraphError, match=r"not live before FuseRows: nobody reads %tanh"):
        Pipeline((FuseRows(),)).run(graph)


moves = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


@given(choices=moves)
def test_a_view_reads_what_numpy_moves(choices: list[int]) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    builder = GraphBuilder("g")
    base = value = builder.input("x", array.shape, F32)
    moved = array
    for choice in choices:
        op = draw_move(value.shape, choice)
        value = builder.add(op, value)
        (moved,) = op.reference(moved)
    makers: dict[Value, Node] = {v: n for n in builder.nodes for v in n.outputs}
    view = view_of(value, makers.get)
    if view.base is not base:
        return  # strides could not say it
    step = [4 * stride for stride in view.strides]
    flat = array.reshape(-1)[view.offset :]
    read = np.lib.stride_tricks.as_strided(flat, view.shape, step)
    np.testing.assert_array_equal(read, moved)
    check_access(view, array, moved)


def check_access(view: View, array: np.ndarray, moved: np.ndarray) -> None:
    """An access reads the rows; where it shrank repeats, broadcasting brings them back."""
    columns = moved.shape[-1] if moved.shape else 1
    access = view.access(columns)
    if access is not None:
        rows = moved.reshape(-1, columns)
        np.testing.assert_array_equal(np.broadcast_to(access.read(array), rows.shape), rows)


def draw_move(shape: tuple[int, ...], choice: int) -> ops.Op:
    kind, choice = choice % 4, choice // 4
    rank, size = len(shape), int(np.prod(shape))
    if kind == 0:
        shapes = [(size,), (*shape, 1), (1, *shape), (2, size // 2), (size // 3, 3), shape[::-1]]
        fitting = [s for s in shapes if int(np.prod(s)) == size]
        return ops.Reshape(fitting[choice % len(fitting)])
    if kind == 1:
        order = np.random.default_rng(choice).permutation(rank)
        return ops.Transpose(tuple(int(d) for d in order))
    if kind == 2 and rank < 5:
        wide = tuple(2 if n == 1 else n for n in shape)
        return ops.BroadcastInDim((2, *wide), tuple(range(1, rank + 1)))
    start = tuple(choice % 2 if n > 1 else 0 for n in shape)
    return ops.Slice(start, shape, tuple(1 + choice // 2 % 2 for _ in shape))
