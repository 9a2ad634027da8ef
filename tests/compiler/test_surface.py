"""What tenzing.compile takes and gives: nested inputs, comparisons, own kernels, clear refusals."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tenzing
from tenzing.compiler import ops
from tenzing.compiler.execution import record_graph
from tenzing.compiler.graph import F32, Alias, GraphBuilder, rewrite
from tenzing.compiler.lowering.registry import RULES
from tenzing.errors import CapacityError, TenzingError, UsageError
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class Nested(torch.nn.Module):
    """Keyword and nested inputs, a flag, nested outputs with None."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: Any, *, pair: Any, scaled: bool = False) -> Any:
        y = self.linear(x + pair["left"])
        return {"out": (y * 2 if scaled else y), "nothing": None, "list": [pair["right"] * y]}


def example() -> tuple[Any, Any, dict[str, Any]]:
    torch.manual_seed(0)
    x = torch.randn(4, 8)
    return Nested().eval(), x, {"pair": {"left": x + 1, "right": x * 2}, "scaled": True}


def test_nested_inputs_and_outputs_keep_their_form() -> None:
    module, x, keywords = example()
    compiled = tenzing.compile(module, (x,), keywords, numerics="graph")
    got, wanted = compiled(x, **keywords), module(x, **keywords)
    assert list(got) == ["out", "nothing", "list"]
    assert got["nothing"] is None
    torch.testing.assert_close(got["list"][0], wanted["list"][0], rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="no tensor differs from the compiled one; got False"):
        compiled(x, **{**keywords, "scaled": False})
    with pytest.raises(UsageError, match="keyword inputs differ"):
        compiled(x, pair=keywords["pair"])
    with pytest.raises(UsageError, match="nested in another way"):
        compiled(x, pair={"left": x}, scaled=True)
    with pytest.raises(UsageError, match="number of inputs differs"):
        compiled(x, x, **keywords)
    with pytest.raises(UsageError, match="is no tensor"):
        compiled(3, **keywords)


def test_comparison_names_outputs_and_every_operation() -> None:
    module, x, keywords = example()
    compiled = tenzing.compile(module, (x,), keywords)
    found = compiled.compare(x, per_op=True, **keywords)
    assert found.agrees
    assert found.first is None
    assert [d.name for d in found.outputs] == ["['out']", "['list'][0]"]
    (linear,) = [d for d in found.operations if d.operation == "linear"]
    assert linear.module == "linear"
    assert "linear" in str(found)


def test_comparison_finds_a_kernel_that_is_wrong() -> None:
    def wrong(x, weight, bias):  # type: ignore[no-untyped-def]
        out = nl.ndarray((x.shape[0], weight.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(out.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=7.0)
        nisa.dma_copy(dst=out, src=tile)
        return out

    module, x, keywords = example()
    compiled = tenzing.compile(module, (x,), keywords, kernels={"linear": wrong})
    found = compiled.compare(x, **keywords)
    assert not found.agrees
    assert "BEYOND" in str(found)


def test_the_first_operation_that_parts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.second(torch.sort(self.first(x)).values)  # HERE

    def reversed_sort(node: Any, inputs: Any) -> Any:
        return right(replace(node, op=replace(node.op, descending=True)), inputs)

    right = RULES["sort"]
    monkeypatch.setitem(RULES, "sort", reversed_sort)
    module, x = Two().eval(), torch.randn(3, 8)
    found = tenzing.compile(module, (x,)).compare(x, per_op=True)
    assert not found.agrees
    first = found.first
    assert first is not None
    assert first.operation == "sort"
    line = int(first.place.partition(":")[2].split()[0])
    assert "# HERE" in Path(__file__).read_text().splitlines()[line - 1]
    assert {d.operation for d in found.operations if d.beyond} == {"sort"}  # and nothing after it
    assert found.first_meaning is not None
    assert {d.operation for d in found.meanings if d.beyond} == {"sort"}
    assert "first that parts from the framework: %" in str(found)


class Joined(torch.nn.Module):
    """Operations that the compiler recognises, joins into products and fuses in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = torch.nn.RMSNorm(8), torch.nn.Linear(8, 16)
        self.down = torch.nn.Linear(16, 8)
        self.scale = torch.nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, x: Any) -> Any:
        y = x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        return torch.softmax(y * self.scale, -1).cumsum(-1)


def test_a_wrong_rule_is_found_beside_the_framework_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from tenzing.compiler.frontends.aten import translator

    right = translator.RULES["gelu.default"]
    monkeypatch.setitem(
        translator.RULES, "gelu.default", lambda t, x, **given: right(t, x, approximate="tanh")
    )
    module, x = Joined().eval(), torch.randn(5, 8)
    found = tenzing.compile(module, (x,)).compare(x, per_op=True)
    assert found.first_meaning is None  # the chip does what the wrong graph says
    first = found.first
    assert first is not None
    assert first.operation == "linear"
    line = int(first.place.partition(":")[2].split()[0])
    assert "gelu(self.up" in Path(__file__).read_text().splitlines()[line - 1]
    assert [d for d in found.operations if d.beyond] == [first]


def test_a_pass_that_changes_the_meaning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from tenzing.compiler.ops import RmsNorm
    from tenzing.compiler.passes import StandardProducts

    def apply(self: Any, graph: Any) -> Any:
        def rule(builder: Any, node: Any, inputs: Any) -> Any:
            if isinstance(node.op, RmsNorm):
                return builder.emit(replace(node.op, epsilon=1.0), *inputs)
            return None

        return rewrite(right(self, graph), rule)

    right = StandardProducts.apply
    monkeypatch.setattr(StandardProducts, "apply", apply)
    module, x = Joined().eval(), torch.randn(5, 8)
    found = tenzing.compile(module, (x,)).compare(x, per_op=True)
    assert found.first is not None
    assert (found.first.operation, found.first.module) == ("fused(rms_norm)", "norm")
    assert found.first_meaning is None


def test_most_operations_have_a_counterpart_in_pytorch() -> None:
    module, x = Joined().eval(), torch.randn(5, 8)
    for numerics in ("instruction", "graph"):
        found = tenzing.compile(module, (x,), numerics=numerics).compare(x, per_op=True)
        assert found.first is None
        assert found.agrees
        assert len(found.operations) + found.without_counterpart == len(found.meanings)
        assert len(found.operations) > found.without_counterpart
        assert not found.no_intermediates


def test_operations_are_compared_on_one_core_only() -> None:
    module, x = Joined().eval(), torch.randn(5, 8)
    compiled = tenzing.compile(module, (x,), mesh={"tp": 2})
    with pytest.raises(UsageError, match="one core, not over a mesh; got 2 ranks"):
        compiled.compare(x, per_op=True)


def test_a_custom_kernel_under_torch_compile() -> None:
    def tripled(x):  # type: ignore[no-untyped-def]
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=3.0)
        nisa.dma_copy(dst=out, src=tile)
        return out

    triple = tenzing.torch.custom_kernel(
        tripled, torch.empty_like, name="tripled_under_compile",
        backward=lambda grad, x: triple(grad),
    )  # fmt: skip
    x = torch.randn(4, 8, requires_grad=True)
    function = torch.compile(lambda x: triple(x.tanh()).sum(), backend="tenzing", dynamic=False)
    loss = function(x)
    loss.backward()
    torch.testing.assert_close(loss, 3 * x.tanh().sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, 3 * (1 - x.detach().tanh() ** 2), rtol=1e-4, atol=1e-5)


def test_a_users_norm_replaces_ours() -> None:
    def norm(x, weight, epsilon: float):  # type: ignore[no-untyped-def]
        rows, columns = x.shape
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
        square = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
        scale = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        gain = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        nisa.dma_copy(dst=gain, src=weight.ap([[0, rows], [1, columns]]))
        nisa.tensor_tensor(dst=square, data1=tile, data2=tile, op=nl.multiply)
        nisa.tensor_reduce(dst=scale, op=nl.add, data=square, axis=1)
        nisa.tensor_scalar(dst=scale, data=scale, op0=nl.multiply, operand0=1.0 / columns,
                           op1=nl.add, operand1=epsilon)  # fmt: skip
        nisa.activation(dst=scale, op=nl.rsqrt, data=scale)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=scale)
        nisa.tensor_tensor(dst=tile, data1=tile, data2=gain, op=nl.multiply)
        nisa.dma_copy(dst=out, src=tile)
        return out

    module = torch.nn.RMSNorm(16, eps=1e-6).eval()
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2, 16))
    x = torch.randn(6, 16)
    compiled = tenzing.compile(module, (x,), kernels={"rms_norm": norm})
    assert compiled.graph.count()["kernel"] == 1
    assert compiled.compare(x).agrees
    assert compiled.latency_us > 0


def test_own_kernels_that_fit_nothing_are_refused() -> None:
    module = torch.nn.Linear(4, 4).eval()
    x = torch.ones(2, 4)
    with pytest.raises(UsageError, match="does not exist; got nope"):
        tenzing.compile(module, (x,), kernels={"nope": lambda x: x})
    compiled = tenzing.compile(module, (x,), kernels={"softmax": lambda x: x})
    with pytest.raises(UsageError, match="no operation of the model takes the kernel") as caught:
        _ = compiled.graph
    assert "softmax" in str(caught.value)
    assert ops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "trn9"}, "trn9"),
        ({"autocast": "most"}, "unknown autocast mode; got most; allowed: none, matmult, all"),
        ({"autocast_dtype": "f4"}, "unknown autocast dtype; got f4"),
        ({"numerics": "exact"}, "unknown numerics mode; got exact; allowed: instruction, graph"),
    ],
)
def test_unknown_options_name_the_allowed_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TenzingError, match=message):
        tenzing.compile(torch.nn.Linear(4, 4).eval(), (torch.ones(2, 4),), **options)


def test_integers_beyond_the_chip_are_refused() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    compiled = tenzing.compile(Twice().eval(), (torch.ones(3, dtype=torch.int64),))
    with pytest.raises(UsageError, match=r"x holds int64 values that do not fit .* 4294967296"):
        compiled(torch.tensor([1, 2, 2**32]))


def test_help_lists_the_options() -> None:
    shown = inspect.signature(tenzing.compile)
    assert {"target", "autocast", "numerics", "mesh"} <= shown.parameters.keys()
    assert "autocast" in (inspect.getdoc(tenzing.compile) or "")
    assert "numerics" in inspect.signature(tenzing.load).parameters


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(UsageError, match=r"can be compiled; got int; allowed: a torch.nn.Mod"):
        tenzing.compile(3, (torch.ones(2),))
    with pytest.raises(UsageError, match="tensor of torch; got Tensor"):
        tenzing.compile(lambda x: x, (torch.ones(2),))


def test_report_and_timeline_speak_of_the_program() -> None:
    module, x, keywords = example()
    compiled = tenzing.compile(module, (x,), keywords)
    assert "Nested" in compiled.report()
    assert len(compiled.timeline()) >= len(compiled.program)


def test_a_model_beyond_the_memory_names_what_fills_it() -> None:
    builder = GraphBuilder("large")
    x = builder.input("x", (4, 200_000), F32)
    weight = builder.parameter("weight", (200_000, 100_000), F32)
    cache = builder.parameter("cache", (4, 100_000), F32)
    parts = [builder.add(ops.Reshape(v.shape[::-1]), v) for v in (x, weight, cache)]
    graph = builder.build([*parts, cache], [Alias(3, "cache")])
    with pytest.raises(CapacityError, match=r"needs .* of HBM on one core of trn2: weights 7") as e:
        record_graph(graph, "trn2")
    for part in ("state 1", "inputs 3", "activations"):
        assert part in str(e.value)


def test_experts_are_traced_in_their_static_form_and_left_as_they_were() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2,
        use_cache=False, pad_token_id=0,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config).eval()
    before = model.get_experts_implementation()
    ids = torch.arange(8).reshape(1, 8)
    compiled = tenzing.compile(model, {"input_ids": ids}, numerics="graph")
    assert model.get_experts_implementation() == before
    found = compiled(input_ids=ids)
    torch.testing.assert_close(found.logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def test_what_belongs_to_a_framework_is_a_module() -> None:
    for name, what in (("torch", "custom_kernel"), ("jax", "kernel")):
        code = f"import tenzing.{name} as m, tenzing; assert tenzing.{name} is m; m.{what}"
        code += f"; from tenzing.{name} import {what}"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        other = f"import tenzing; from sys import modules; tenzing.{name}.{what}"
        subprocess.run([sys.executable, "-c", f"{other}; modules['tenzing.{name}']"], check=True)
