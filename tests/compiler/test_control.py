"""Branches, loops and kernels of the user: equal to PyTorch, one node through export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tenzing import compiler, nki
from tenzing.compiler import ops
from tenzing.compiler.execution import record_graph, run_graph
from tenzing.compiler.graph import BOOL, F32, Graph, GraphBuilder, GraphError, TensorType, Value
from tenzing.compiler.passes import default_pipeline
from tenzing.compiler.reference import run
from tenzing.compiler.verify import BrokenGraph, verify
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

I32 = np.dtype(np.int32)


def region(name: str, *types: tuple[tuple[int, ...], Any]) -> tuple[GraphBuilder, list[Value]]:
    builder = GraphBuilder(name)
    return builder, [builder.input(f"a{i}", *kind) for i, kind in enumerate(types)]


def loop(bound: int | None, trips: int = 0) -> Graph:
    """Doubles x ``bound`` times; None takes the bound from an input."""
    kinds = (((), I32), ((2, 3), F32), ((), I32))
    ask, (i, _, limit) = region("condition", *kinds)
    condition = ask.build([ask.add(ops.Compare("lt"), i, limit)])
    turn, (i, x, _) = region("body", *kinds)
    one = turn.add(ops.Constant.splat(1, (), I32))
    body = turn.build([turn.add(ops.Add(), i, one), turn.add(ops.Add(), x, x)])
    outer = GraphBuilder("looped")
    x = outer.input("x", (2, 3), F32)
    if bound is None:
        limit = outer.input("limit", (), I32)
    else:
        limit = outer.add(ops.Constant.splat(bound, (), I32))
    start = outer.add(ops.Constant.splat(0, (), I32))
    return outer.build([outer.emit(ops.While(condition, body, 2, trips), start, x, limit)[1]])


def test_a_loop_that_constants_bound_is_timed_without_values() -> None:
    graph = default_pipeline().run(verify(loop(3)))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(run(graph, [x], {})[0], 8 * x)
    (out,), program = run_graph(graph, [x], {}, "trn2")
    np.testing.assert_array_equal(out, 8 * x)
    assert record_graph(graph, "trn2").rows == program.rows


def test_a_loop_that_values_bound_runs_and_says_what_time_needs() -> None:
    graph = default_pipeline().run(loop(None))
    x = np.ones((2, 3), np.float32)
    (out,), _ = run_graph(graph, [x, np.array(2, np.int32)], {}, "trn2")
    np.testing.assert_array_equal(out, 4 * x)
    with pytest.raises(GraphError, match=r"how often the loop %while turns depends on values"):
        record_graph(graph, "trn2")
    stated = default_pipeline().run(loop(None, trips=4))
    assert len(record_graph(stated, "trn2")) > len(record_graph(default_pipeline().run(
        loop(None, trips=2)), "trn2"))  # fmt: skip


@pytest.mark.parametrize(("index", "factor"), [(0, 2), (1, 3), (9, 3), (-1, 3)])
def test_case_takes_the_last_branch_out_of_range(index: int, factor: int) -> None:
    branches = []
    for number in (2, 3):
        inside, (x,) = region(f"times{number}", ((2, 3), F32))
        times = inside.add(ops.Constant.splat(number, (2, 3), F32))
        branches.append(inside.build([inside.add(ops.Multiply(), x, times)]))
    outer = GraphBuilder("chosen")
    chosen = outer.input("index", (), I32)
    x = outer.input("x", (2, 3), F32)
    graph = default_pipeline().run(outer.build(outer.emit(ops.Case(tuple(branches)), chosen, x)))
    array = np.ones((2, 3), np.float32)
    arrays = [np.array(index, np.int32), array]
    np.testing.assert_array_equal(run(graph, arrays, {})[0], factor * array)
    np.testing.assert_array_equal(run_graph(graph, arrays, {}, "trn2")[0][0], factor * array)
    assert len(record_graph(graph, "trn2"))


def test_regions_are_verified() -> None:
    inside, (x,) = region("inside", ((2,), F32))
    good = inside.build([inside.add(ops.Negate(), x)])
    broken = Graph("broken", good.inputs, (), good.nodes[::-1] + good.nodes, good.outputs)
    outer = GraphBuilder("outer")
    y = outer.input("y", (2,), F32)
    graph = outer.build(outer.emit(ops.Call(broken), y))
    with pytest.raises(BrokenGraph, match="defined twice"):
        verify(graph)
    with pytest.raises(GraphError, match="other inputs than it takes"):
        ops.Call(good).infer(TensorType((3,), F32))
    with pytest.raises(GraphError, match="while condition"):
        ops.While(good, good, 1).infer(TensorType((2,), F32))
    assert BOOL != F32


def doubled(x, factor: float):  # type: ignore[no-untyped-def]
    """A kernel as a user writes it."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nisa.dma_copy(dst=out, src=tile)
    return out


torch_kernel: Any = None


def scaled() -> Any:
    """The kernel as a PyTorch operation, registered once per process."""
    global torch_kernel
    torch = pytest.importorskip("torch")
    from tenzing.compiler.frontends.torch_kernel import custom_kernel

    if torch_kernel is None:
        torch_kernel = custom_kernel(
            doubled, lambda x, factor: torch.empty_like(x), name="scaled",
            backward=lambda gradient, x, factor: (torch_kernel(gradient, factor), None),
        )  # fmt: skip
    return torch_kernel


@pytest.mark.torch
def test_a_kernel_is_one_node_from_pytorch_to_the_program() -> None:
    torch = pytest.importorskip("torch")
    operation = scaled()

    class Model(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return operation(x + 1, 2.5) - x

    x = torch.randn(4, 6)
    compiled = compiler.compile(Model().eval(), (x,))
    assert compiled.graph.count()["kernel"] == 1
    torch.testing.assert_close(compiled(x), (x + 1) * 2.5 - x)
    lines = {t.loc.function for t in compiled.program.templates if t.loc is not None}
    assert "doubled" in lines
    again = x.clone().requires_grad_()
    operation(again, 3.0).sum().backward()
    torch.testing.assert_close(again.grad, torch.full_like(x, 3.0))


def test_a_kernel_that_breaks_its_promise_is_named() -> None:
    ops.register_kernel("wrong", doubled)
    op = ops.KernelCall("wrong", (TensorType((7,), F32),), (("factor", 2.0),))
    builder = GraphBuilder("calls")
    graph = builder.build(builder.emit(op, builder.input("x", (2, 3), F32)))
    with pytest.raises(GraphError, match="kernel wrong returns another type than it was declared"):
        record_graph(graph, "trn2")
    with pytest.raises(GraphError, match="kernel wrong returns another type"):
        run(graph, [np.ones((2, 3), np.float32)], {})
    with pytest.raises(GraphError, match="no kernel is registered under this name; got absent"):
        ops.KernelCall("absent", ()).infer()
    assert nki


@pytest.mark.torch
def test_a_custom_kernel_as_decorator_and_its_refusals() -> None:
    torch = pytest.importorskip("torch")
    import tenzing
    from tenzing.errors import UsageError

    decorated = tenzing.torch.custom_kernel(
        like=lambda x, factor: torch.empty_like(x), name="decorated"
    )(doubled)
    x = torch.ones(2, 3)
    torch.testing.assert_close(decorated(x, 4.0), x * 4)
    with pytest.raises(UsageError, match="registered already; got decorated"):
        tenzing.torch.custom_kernel(doubled, torch.empty_like, name="decorated")
    with pytest.raises(UsageError, match="does not know the results' shapes"):
        tenzing.torch.custom_kernel(doubled)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["cond", "while_loop", "scan"])
def test_control_flow_of_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch")
    from torch._higher_order_ops.scan import scan
    from torch._higher_order_ops.while_loop import while_loop

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            if kind == "cond":
                return torch.cond(x.sum() > 0, self.linear, lambda a: a * 2, (x,))
            if kind == "while_loop":
                start = torch.tensor(0)
                return while_loop(
                    lambda i, v: i < 3, lambda i, v: (i + 1, self.linear(v)), (start, x)
                )[1]
            return scan(lambda total, row: (total + row, total * row), x[0], x)[1]

    torch.manual_seed(0)
    module, x = Model().eval(), torch.randn(3, 4)
    compiled = compiler.compile(module, (x,))
    assert compiler.record_graph(compiled.graph, "trn2").rows  # time needs no values
    for given in (x, -x):
        with torch.no_grad():
            torch.testing.assert_close(compiled(given), module(given), rtol=1e-5, atol=1e-5)
