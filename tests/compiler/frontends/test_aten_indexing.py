"""Indexing, order, running sums and integers equal PyTorch, as graphs and on the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from tenzing.compiler.execution import run_graph  # noqa: E402
from tenzing.compiler.frontends.torch import import_module  # noqa: E402
from tenzing.compiler.frontends.torch_values import to_numpy  # noqa: E402
from tenzing.compiler.graph import Array  # noqa: E402
from tenzing.compiler.passes import default_pipeline  # noqa: E402
from tenzing.compiler.reference import prepare, run  # noqa: E402
from tenzing.errors import UnsupportedOp  # noqa: E402

from .test_aten import Wrapped, draw  # noqa: E402

pytestmark = pytest.mark.torch
Function = Callable[..., Any]


def assert_near(name: str, got: Array, expected: Array, tolerance: float) -> None:
    """Same type and values."""
    assert (name, got.dtype, got.shape) == (name, expected.dtype, expected.shape)
    pair = (a.astype(np.float64) for a in (got, expected))
    np.testing.assert_allclose(*pair, rtol=tolerance, atol=tolerance, err_msg=name)


def agree(functions: dict[str, Function], *inputs: Any, tolerance: float = 1e-5) -> None:
    """Both numerics give PyTorch's result for every function: one export for all."""
    graph, weights = import_module(Wrapped(functions).eval(), inputs)[:2]
    arrays = [to_numpy(x) for x in inputs]
    compiled = default_pipeline().run(graph)
    machine = run_graph(compiled, arrays, prepare(compiled, weights), "trn2")[0]
    found = iter(zip(run(graph, arrays, weights), machine, strict=True))
    for name, function in functions.items():
        expected = function(*inputs)
        for theirs in expected if isinstance(expected, tuple | list) else (expected,):
            for ours in next(found):
                assert_near(name, ours, to_numpy(theirs), tolerance)


COLUMN = torch.tensor([[2], [0]])
LINE = torch.tensor([3, -1, 0])
SPREAD = torch.tensor([0, 2, 0])[None, :, None].expand(2, 3, 4)
PLACES = torch.tensor([[[0, 3], [1, 1], [2, 0]], [[3, 2], [0, 0], [1, 3]]])
INDEXING = {
    "apart": lambda x: x[torch.tensor([0, 1]), :, torch.tensor([3, 1])],
    "apart_wide": lambda x: x[COLUMN % 2, :, LINE],
    "middle": lambda x: x[:, COLUMN, LINE],
    "take": lambda x: x.take(torch.tensor([[0, 23], [7, 7]])),
    "gather_lines": lambda x: x.gather(1, SPREAD),
    "gather_middle": lambda x: x.gather(1, torch.tensor([[[0, 2, 1, 0]], [[1, 1, 2, 2]]])),
    "put": lambda x: x.index_put((torch.tensor([1]), torch.tensor([0, 2])), x[0, :2] * 2),
    "put_add": lambda x: x.index_put((LINE % 2,), torch.ones(4), accumulate=True),
    "put_middle": lambda x: torch.ops.aten.index_put(
        x, [None, torch.tensor([2, 0])], torch.ones(2, 2, 4)
    ),
    "put_last": lambda x: torch.ops.aten.index_put(x, [None, None, LINE], x[..., :3] * 2),
    "put_apart": lambda x: torch.ops.aten.index_put(
        x, [torch.tensor([0, 1]), None, torch.tensor([3, 1])], torch.ones(2, 3)
    ),
    "put_mask": lambda x: x.index_put((x > 0,), torch.tensor(7.0)),
    "put_mask_rows": lambda x: x.index_put((x[:, :, 0] > 0,), torch.arange(4.0)),
    "scatter": lambda x: x.scatter(2, PLACES[..., :1], x[..., :1] * 3),
    "scatter_middle": lambda x: x.scatter(1, PLACES.transpose(1, 2)[:, :1] % 3, x[:, 1:2] * 9),
    "scatter_value": lambda x: x.scatter(2, PLACES, 5.0),
    "scatter_value_middle": lambda x: x.scatter(1, torch.zeros(2, 1, 4, dtype=torch.long), 5.0),
    "scatter_value_part": lambda x: x.scatter(0, torch.tensor([[[1, 0]]]), 5.0),
    "scatter_add": lambda x: x.scatter_add(2, PLACES, x[..., :2]),
    "scatter_add_lines": lambda x: x.scatter_add(1, SPREAD, x * 2),
    "scatter_reduce": lambda x: x.scatter_reduce(2, PLACES, x[..., :2], "sum"),
    "index_add": lambda x: x.index_add(1, torch.tensor([2, 2, 0]), x, alpha=0.5),
    "index_copy": lambda x: x.index_copy(2, LINE % 4, x[..., :3] + 1),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([1]), 3.0),
    "one_hot": lambda x: F.one_hot((x[..., 0] > 0).long(), 3),
    "slice_scatter": lambda x: x.slice_scatter(x[:, :, :2] * 2, 2, 1, 3),
    "slice_scatter_step": lambda x: x.slice_scatter(x[:, :, :2] * 2, 2, 0, 4, 2),
    "select_scatter": lambda x: x.select_scatter(x[:, 0] * 2, 1, -1),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x.flatten() * 2),
    "masked_scatter_rows": lambda x: x.masked_scatter((x[..., :1] > 0).expand_as(x), x * 3),
    "masked_fill": lambda x: x.masked_fill(x > 1, -1.0),
    "as_strided": lambda x: x.as_strided((3, 2, 4), (4, 8, 1), 4),
    "as_strided_overlap": lambda x: x.as_strided((4, 6), (3, 1)),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "unfold_first": lambda x: x.unfold(1, 2, 1),
    "diagonal": lambda x: (x.diagonal(0, 1, 2), x.diagonal(1, 1, 2), x.diagonal(-1, 0, 1)),
    "roll_all": lambda x: x.roll(5),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "diagonal_scatter": lambda x: x.diagonal_scatter(x[:, :, 0] * 9, 1, 1, 2),
    "triangle": lambda x: (torch.tril_indices(3, 4, 1), x[:, *torch.triu_indices(3, 4)]),
    "isin": lambda x: torch.isin(x.round(), torch.tensor([0.0, 1.0])),
}  # fmt: skip
ORDER = {
    "sort": lambda x: x.sort(1), "sort_falling": lambda x: x.sort(-1, descending=True),
    "argsort": lambda x: x.argsort(0), "msort": lambda x: x.msort(),
    "topk_middle": lambda x: x.topk(2, 1), "topk_low": lambda x: x.topk(3, -1, largest=False),
    "kthvalue": lambda x: x.kthvalue(2, 1), "median": lambda x: x.median(2, keepdim=True),
    "argmin": lambda x: (x.argmin(1), x.argmin()), "min_dim": lambda x: x.min(0),
    "cumprod": lambda x: x.cumprod(1), "cummax": lambda x: x.round().cummax(2),
    "cummin": lambda x: x.cummin(0), "logcumsumexp": lambda x: x.logcumsumexp(1),
    "median_all": lambda x: x.median(),
    "diff": lambda x: x.diff(dim=1), "norm_three": lambda x: torch.linalg.vector_norm(x, 3, -1),
    "norm_low": lambda x: torch.linalg.vector_norm(x, float("-inf"), 1),
    "std": lambda x: x.std((0, 2)), "prod_first": lambda x: x.prod(0),
}  # fmt: skip
NUMBERS = {
    "trunc": torch.trunc, "frac": torch.frac,
    "div_trunc": lambda x: x.div(0.7, rounding_mode="trunc"),
    "sinh": torch.sinh, "cosh": torch.cosh, "asinh": torch.asinh, "tan": torch.tan,
    "atan": torch.atan, "atan2": lambda x: torch.atan2(x, x.flip(0)),
    "asin": lambda x: torch.asin(x / 3), "acos": lambda x: torch.acos(x / 3),
    "atanh": lambda x: torch.atanh(x / 3.1), "acosh": lambda x: torch.acosh(x.abs() + 1.1),
    "fmax": lambda x: torch.fmax(torch.where(x > 1, torch.nan, x), x.flip(0)),
    "fmin": lambda x: torch.fmin(x, torch.where(x > 1, torch.nan, x)),
    "copysign": lambda x: (torch.copysign(x, x.flip(0)), torch.copysign(x, -1.0)),
    "signbit": torch.signbit, "hypot": lambda x: torch.hypot(x, x + 1), "erfc": torch.erfc,
    "decimals": lambda x: x.round(decimals=1),
    "log10": lambda x: torch.log10(x.abs()), "to_int": lambda x: (x * 9).long(),
    "nan_to_num": lambda x: torch.nan_to_num(torch.where(x > 2, torch.inf, x)),
    "remainder": lambda x: (x % 0.7, torch.fmod(x, 0.7), x // 0.7),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 2.0])),
    "searchsorted": lambda x: torch.searchsorted(x.sort(-1)[0], x[:, :2].clone(), right=True),
    "large_angles": lambda x: (torch.sin(x * 1e4), torch.cos(x * 1e4)),
    "rotary": lambda x: torch.cos(torch.arange(9000, 9004) * x),
}  # fmt: skip
INTEGERS = {
    "shifts": lambda i: (i << 2, i >> 1, -i >> 1),
    "bits": lambda i: (i & 5, i | 8, i ^ 3, ~i, 5 & i),
    "reversed": lambda i: 40 % (i + 1),
    "xor": lambda i: torch.logical_xor(i > 3, i < 9),
    "division": lambda i: (i // 2, -i // 4, i % 4, -i % 4, torch.fmod(-i, 4)),
    "sorted": lambda i: (i.sort(1), i.argmax(1), i.cumsum(1), i.topk(2)),
    "large": lambda i: (i * 1000003 + 16777217, i + 2**30 > i * 2),
    "count": lambda i: i.bincount(minlength=4) if i.dim() == 1 else i.sum(),
}  # fmt: skip


def turned(x: Any) -> Any:
    """Pairs of x multiplied by unit complex numbers, as rotary embeddings do."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    angles = torch.arange(pairs.shape[-1]) * 0.3
    turns = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs * turns[None]).flatten(-2)


COMPLEX = {
    "rotary": turned,
    "parts": lambda x: torch.complex(x, x * 2).conj().unsqueeze(0)[0].imag,
    "size": lambda x: torch.complex(x, x.flip(0)).abs(),
    "fft": lambda x: torch.fft.fft(x).real, "fftn": lambda x: torch.fft.fftn(x).imag,
    "fft_ortho": lambda x: torch.fft.fft(x, norm="ortho").imag,
    "rfft_back": lambda x: torch.fft.irfft(torch.fft.rfft(x) * 2, n=x.shape[-1]),
    "ifft": lambda x: torch.fft.ifft(torch.fft.fft2(x)).real,
    "number": lambda x: torch.view_as_real(torch.complex(x, x * 2) * (1 + 2j)),
    "number_first": lambda x: torch.view_as_real(2j * x - (3 - 1j)),
    "by_number": lambda x: torch.view_as_real(torch.complex(x, x + 1) / (1 - 2j)),
    "number_added": lambda x: (torch.complex(x, -x) + 0.5j).imag,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 6)])
def test_complex_numbers(shape: tuple[int, ...]) -> None:
    agree(COMPLEX, draw(*shape))


def test_a_complex_result_is_refused_at_its_line() -> None:
    with pytest.raises(UnsupportedOp, match="returns a complex tensor") as refused:
        import_module(Wrapped({"fft": torch.fft.fft}).eval(), (draw(2, 4),))
    assert "view_as_real" in refused.value.finding.next_step


def flat(functions: dict[str, Function]) -> dict[str, Function]:
    """Functions whose results are flat tuples."""

    def opened(function: Function) -> Function:
        def call(*inputs: Any) -> Any:
            result = function(*inputs)
            if not isinstance(result, tuple | list):
                return result
            parts = (p if isinstance(p, tuple | list) else (p,) for p in result)
            return tuple(t for part in parts for t in part)

        return call

    return {name: opened(function) for name, function in functions.items()}


def test_indexing() -> None:
    agree(flat(INDEXING), draw(2, 3, 4))


def test_order() -> None:
    agree(flat(ORDER), draw(2, 3, 4))


def test_numbers() -> None:
    agree(flat(NUMBERS), draw(3, 4, low=-2.9, high=2.9), tolerance=2e-5)


def test_integers() -> None:
    agree(flat(INTEGERS), torch.tensor([[0, 3, 9], [9, 3, 1]]))


def test_shapes_that_depend_on_data_are_refused_with_advice() -> None:
    with pytest.raises(UnsupportedOp, match="depends on data"):
        import_module(
            Wrapped({"put": lambda x: x.index_put((x > 0,), x[0, :2])}).eval(), [draw(2, 3)]
        )


def test_numbers_read_out_of_tensors_may_only_be_asserted() -> None:
    def checked(i: Any) -> Any:
        torch._check(i.max().item() <= 99)
        return i * 2

    agree({"checked": checked}, torch.tensor([[0, 3, 9], [9, 3, 1]]))
    with pytest.raises(UnsupportedOp, match="depends on data"):
        import_module(Wrapped({"scaled": lambda x: x * x[0, 0].item()}).eval(), [draw(2, 3)])
