"""Laws that every operation keeps, drawn from the registry."""

import dataclasses

import numpy as np
import pytest

from tenzing.compiler.graph import BF16, OPS, Array, GraphBuilder, GraphError, Op, TensorType
from tenzing.compiler.ops import Attention, Constant, Softmax
from tenzing.compiler.printer import to_text
from tenzing.compiler.reference import run
from tenzing.compiler.verify import verify

from .samples import all_samples, one_node

SAMPLES = all_samples()
IDS = [f"{index}-{op.name}" for index, (op, _) in enumerate(SAMPLES)]
every_sample = pytest.mark.parametrize(("op", "arrays"), SAMPLES, ids=IDS)


def types(arrays: tuple[Array, ...]) -> list[TensorType]:
    return [TensorType(a.shape, a.dtype) for a in arrays]


def test_every_registered_op_has_a_sample() -> None:
    assert {op.name for op, _ in SAMPLES} == set(OPS)


@every_sample
def test_reference_yields_the_inferred_types(op: Op, arrays: tuple[Array, ...]) -> None:
    assert types(op.reference(*arrays)) == list(op.infer(*types(arrays)))


@every_sample
def test_ops_are_values_and_print(op: Op, arrays: tuple[Array, ...]) -> None:
    assert dataclasses.replace(op) == op  # type: ignore[type-var]
    assert hash(dataclasses.replace(op)) == hash(op)  # type: ignore[type-var]
    assert op.name in to_text(verify(one_node(op, arrays)))


@every_sample
def test_work_counts_every_byte_written_at_most_once(op: Op, arrays: tuple[Array, ...]) -> None:
    inputs, outputs = types(arrays), op.infer(*types(arrays))
    work = op.work(inputs, outputs)
    assert work.write_bytes <= sum(t.size_bytes for t in outputs)
    assert work.flops >= 0


@every_sample
def test_wrong_number_of_inputs_is_refused(op: Op, arrays: tuple[Array, ...]) -> None:
    extra = TensorType((1,), BF16)
    with pytest.raises((GraphError, ValueError)):
        op.infer(*types(arrays), extra, extra, extra)


@every_sample
def test_decomposition_means_the_same(op: Op, arrays: tuple[Array, ...]) -> None:
    whole = one_node(op, arrays)
    builder = GraphBuilder("parts")
    inputs = [builder.input(v.name, v.shape, v.dtype) for v in whole.inputs]
    outputs = op.decompose(builder, *inputs)
    if outputs is None:
        return
    parts = verify(builder.build(outputs))
    expected, got = run(whole, arrays, {})[0], run(parts, arrays, {})[0]
    assert got.dtype == expected.dtype
    tolerance = 2e-2 if expected.dtype == BF16 else 2e-6
    np.testing.assert_allclose(
        got.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance
    )


def test_a_row_that_sees_no_key_yields_zeros() -> None:
    q = np.ones((1, 1, 2, 4), np.float32)
    mask = np.array([[[[True, True], [False, False]]]])
    (out,) = Attention(1.0, 1, 1).reference(q, q, q, mask)
    assert out[0, 0, 0].tolist() == [1.0] * 4
    assert out[0, 0, 1].tolist() == [0.0] * 4


def test_softmax_of_huge_numbers_stays_finite() -> None:
    (out,) = Softmax().reference(np.array([[1e30, 1e30]], np.float32))
    assert out.tolist() == [[0.5, 0.5]]


def test_constant_keeps_one_element_of_a_splat() -> None:
    splat = Constant.of(np.full((100, 100), 3, np.int32))
    assert splat.is_splat
    assert len(splat.data) == 4
    assert splat.number == 3
    assert not Constant.of(np.arange(3)).is_splat
    assert not Constant.of(np.array([0.0, -0.0])).is_splat


def test_registering_a_name_twice_is_refused() -> None:
    with pytest.raises(GraphError, match="registered twice; got add"):

        class Again(Op, name="add"):
            pass
