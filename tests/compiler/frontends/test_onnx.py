"""The ONNX door: what it takes, how shapes are bound, what it refuses; onnxruntime is the truth."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends import onnx_models as small

from tenzing.compiler import compile
from tenzing.compiler.frontends.onnx_ops.translator import RULES
from tenzing.errors import TenzingError, UnsupportedOp, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import helper, numpy_helper  # noqa: E402

node = helper.make_node
F32 = np.float32
FREE = {"x": (F32, ["batch", 6])}


def layer(weight: Any = None, **named: Any) -> Any:
    """A linear with relu over any batch."""
    held = {"w": small.drawn(6, 4, seed=1) if weight is None else weight, "b": small.drawn(4)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["s"], name="sum"),
             node("Relu", ["s"], ["y"])]  # fmt: skip
    return small.model(nodes, FREE, {"y": (F32, ["batch", 4])}, held, **named)


def agrees(proto: Any, feed: dict[str, Any], numerics: str = "instruction") -> None:
    compiled = compile(proto, feed, numerics=numerics)
    got = compiled.interface.results(compiled(**feed))
    for found, wanted in zip(got, small.truth(proto, feed), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["proto", "bytes", "path", "string"])
def test_a_model_in_every_form_agrees_with_onnxruntime(form: str, tmp_path: Path) -> None:
    proto, x = layer(), small.drawn(3, 6)
    path = tmp_path / "layer.onnx"
    path.write_bytes(proto.SerializeToString())
    forms = {"proto": proto, "bytes": path.read_bytes(), "path": path, "string": str(path)}
    compiled = compile(forms[form], (x,))
    np.testing.assert_allclose(compiled(x), small.truth(proto, {"x": x})[0], atol=1e-5)
    assert compiled.graph.count()["linear"] == 1  # product, bias and relu are one kernel
    assert compiled.compare(x).agrees


def test_inputs_go_by_position_or_name_and_shapes_may_be_left_out() -> None:
    nodes = [node("Sub", ["a", "b"], ["y"])]
    kinds = {"a": (F32, [2, 3]), "b": (F32, [3])}
    proto = small.model(nodes, kinds, {"y": (F32, [2, 3])})
    compiled = compile(proto)
    a, b = small.drawn(2, 3), small.drawn(3, seed=1)
    assert np.array_equal(compiled(a, b), compiled(b=b, a=a))
    assert compiled(*compiled.example[0], **compiled.example[1]).shape == (2, 3)
    assert compiled.latency_us > 0


def test_an_input_that_decides_a_shape_is_fixed() -> None:
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    kinds = {"x": (F32, [2, 6]), "shape": (np.int64, [2])}
    proto = small.model(nodes, kinds, {"y": (F32, None)})
    x, shape = small.drawn(2, 6), np.array([3, 4])
    compiled = compile(proto, {"x": x, "shape": shape}, numerics="graph")
    assert compiled(x, shape).shape == (3, 4)
    with pytest.raises(UsageError, match="input shape decides shapes") as refused:
        compiled(x, np.array([4, 3]))
    assert "compile the model once more" in refused.value.render()
    with pytest.raises(UnsupportedOp, match="the shape to take depends on data"):
        compile(proto)


def test_shape_arithmetic_is_folded() -> None:
    """[batch, 6] to [batch * 2, 3] by Shape, Gather, Mul and Concat, as exporters write it."""
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
        node("Mul", ["n", "two"], ["m"]), node("Unsqueeze", ["m", "axis"], ["u"]),
        node("Concat", ["u", "three"], ["t"], axis=0), node("Reshape", ["x", "t"], ["y"]),
    ]  # fmt: skip
    held = {"zero": np.int64(0), "two": np.int64(2), "axis": np.array([0]), "three": np.array([3])}
    proto = small.model(nodes, FREE, {"y": (F32, None)}, held)
    compiled = compile(proto, small.drawn(5, 6))
    assert compiled.imported.graph.count() == {"reshape": 1}
    agrees(proto, {"x": small.drawn(5, 6)})


def test_external_data_is_read_from_beside_the_model(tmp_path: Path) -> None:
    proto, x = layer(), small.drawn(2, 6)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights", size_threshold=0)
    np.testing.assert_allclose(compile(path, x)(x), small.truth(layer(), {"x": x})[0], atol=1e-5)
    assert compile(path, x).compare(x).agrees
    with pytest.raises(UsageError, match="has no folder"):
        compile(path.read_bytes(), x)
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(UsageError, match="too short"):
        compile(path, x)
    (tmp_path / "weights").unlink()
    with pytest.raises(UsageError, match="is missing"):
        compile(path, x)


def test_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    proto = layer()
    (tmp_path / "secret").write_bytes(bytes(96))
    (tmp_path / "sub").mkdir()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = tmp_path / "sub" / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match="is missing"):
        compile(path, small.drawn(2, 6))


def _broken() -> dict[str, tuple[Any, Any, str]]:
    x = small.drawn(2, 6)
    unknown = small.model([node("Frobnicate", ["x"], ["y"], name="odd")], FREE,
                          {"y": (F32, None)})  # fmt: skip
    undefined = small.model([node("Add", ["x", "nowhere"], ["y"], name="lost")], FREE,
                            {"y": (F32, None)})  # fmt: skip
    attribute = small.model([node("Softmax", ["x"], ["y"], name="soft", flavour=3)], FREE,
                            {"y": (F32, None)})  # fmt: skip
    axis = small.model([node("Softmax", ["x"], ["y"], name="deep", axis=7)], FREE,
                       {"y": (F32, None)})  # fmt: skip
    shapes = layer(small.drawn(5, 4))
    strings = small.model([node("Identity", ["x"], ["y"])], {"x": (np.dtype(object), [1])},
                          {"y": (np.dtype(object), [1])})  # fmt: skip
    empty = onnx.ModelProto()
    return {
        "unknown operation": (unknown, x, r"node odd \(Frobnicate\).* has no rule"),
        "undefined input": (undefined, x, r"node lost \(Add\) reads nowhere"),
        "unknown attribute": (attribute, x, r"node soft \(Softmax\).*does not take"),
        "no such axis": (axis, x, r"axis that the tensor lacks; got 7|lacks \(in node deep"),
        "shapes": (shapes, x, "node p"),
        "strings": (strings, np.array(["a"]), "string|numbers"),
        "no graph": (empty, x, "no graph"),
        "not a file": ("missing.onnx", x, "cannot be read"),
        "not a model": (b"\x08\xff\xff\xff", x, "no ONNX model"),
        "dtype": (layer(), x.astype(np.float64), "another dtype"),
        "shape": (layer(), small.drawn(2, 7), "another shape"),
        "rank": (layer(), small.drawn(6), "another shape"),
        "symbolic": (layer(), (), "symbolic sizes"),
        "too many": (layer(), (x, x), "do not fit"),
        "strange name": (layer(), {"z": x}, "do not fit"),
        "no array": (layer(), {"x": [[1.0], [2.0, 3.0]]}, "no array of numbers"),
    }


@pytest.mark.parametrize("what", sorted(_broken()))
def test_what_is_wrong_is_said_clearly(what: str) -> None:
    model, inputs, said = _broken()[what]
    with pytest.raises(TenzingError, match=said) as refused:
        compile(model, inputs)
    assert "Traceback" not in refused.value.render()


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_or_read_but_never_crash(seed: int) -> None:
    content = bytearray(layer().SerializeToString())
    random = np.random.default_rng(seed)
    for _ in range(6):
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    for damaged in (bytes(content), bytes(content[: random.integers(len(content))])):
        with suppress(TenzingError):  # any other error fails the test
            compile(damaged, {"x": small.drawn(2, 6)})


def test_older_operation_sets_keep_their_meaning() -> None:
    """Version 6's axis of a sum, version 12's softmax over all later axes, and later ones."""
    x = {"x": (F32, [2, 3, 4])}
    old = small.model([node("Add", ["x", "row"], ["y"], broadcast=1, axis=1)], x,
                      {"y": (F32, [2, 3, 4])}, {"row": small.drawn(3)}, opset=6)  # fmt: skip
    got = compile(old, numerics="graph")(small.drawn(2, 3, 4))
    np.testing.assert_allclose(got, small.drawn(2, 3, 4) + small.drawn(3)[:, None], rtol=1e-6)
    for opset in (12, 13):
        soft = small.model([node("Softmax", ["x"], ["y"], axis=1)], x, {"y": (F32, [2, 3, 4])},
                           opset=opset)  # fmt: skip
        agrees(soft, {"x": small.drawn(2, 3, 4)}, "graph")


def test_a_local_function_is_inlined_with_its_attributes() -> None:
    body = [node("Constant", [], ["c"]), node("Mul", ["a", "c"], ["b"])]
    reference = body[0].attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "value_float", "factor", 1
    function = helper.make_function(
        "mine", "Scale", ["a"], ["b"], body, [helper.make_opsetid("", 20)], ["factor"]
    )
    proto = small.model([node("Scale", ["x"], ["y"], domain="mine", factor=2.5)], FREE,
                        {"y": (F32, ["batch", 6])}, domain="mine")  # fmt: skip
    proto.functions.append(function)
    agrees(proto, {"x": small.drawn(2, 6)})


def _graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    return small.model(nodes, inputs, outputs).graph


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_that_depends_on_data_runs_on_the_chip(flag: bool) -> None:
    branches = {f"{name}_branch": _graph([node(op, ["x"], ["r"])], {}, {"r": (F32, [2, 6])})
                for name, op in (("then", "Abs"), ("else", "Neg"))}  # fmt: skip
    kinds = {"c": (np.bool_, []), "x": (F32, [2, 6])}
    proto = small.model([node("If", ["c"], ["y"], **branches)], kinds, {"y": (F32, [2, 6])})
    compiled = compile(proto)
    assert "case" in compiled.graph.count()
    feed = {"c": np.bool_(flag), "x": small.drawn(2, 6)}
    np.testing.assert_allclose(compiled(**feed), small.truth(proto, feed)[0])


def _loop(count: list[Any], condition: Any) -> Any:
    """x doubles while its first element is below a limit, or a known number of times."""
    body = _graph(
        [node("Add", ["v", "v"], ["w"]), *condition],
        {"i": (np.int64, []), "go": (np.bool_, []), "v": (F32, [3])},
        {"again": (np.bool_, []), "w": (F32, [3])},
    )
    names = ["n" if count else "", "", "x"]
    return small.model([node("Loop", names, ["y"], body=body)], {"x": (F32, [3])},
                       {"y": (F32, [3])}, {"n": np.int64(count[0])} if count else {})  # fmt: skip


def test_a_loop_of_known_length_is_written_out_and_another_runs_on_the_chip() -> None:
    x = np.array([1.0, 2.0, 3.0], F32)
    same = [node("Identity", ["go"], ["again"])]
    fixed = _loop([3], same)
    assert compile(fixed).imported.graph.count() == {"add": 3}
    agrees(fixed, {"x": x})
    test = [node("Constant", [], ["edge"], value_float=20.0), node("ReduceMax", ["w"], ["top"],
            keepdims=0), node("Less", ["top", "edge"], ["again"])]  # fmt: skip
    free = _loop([], test)
    assert "while" in compile(free).imported.graph.count()
    np.testing.assert_allclose(compile(free)(x), small.truth(free, {"x": x})[0])


def test_a_tensor_without_elements_is_nothing_to_compute() -> None:
    proto = small.model([node("Trilu", ["x"], ["y"])], {"x": (np.int64, [3, 0, 5])},
                        {"y": (np.int64, [3, 0, 5])})  # fmt: skip
    agrees(proto, {"x": np.zeros((3, 0, 5), np.int64)}, "graph")  # the chip has no such tensor


def test_quantised_weights_are_computed_as_they_say() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        node("DequantizeLinear", ["w", "sw"], ["v"], axis=1),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    held = {"sx": F32(0.05), "zx": np.uint8(128), "sw": np.linspace(0.01, 0.02, 4, dtype=F32),
            "w": np.random.default_rng(0).integers(-128, 127, (6, 4)).astype(np.int8)}  # fmt: skip
    proto = small.model(nodes, FREE, {"y": (F32, ["batch", 4])}, held)
    agrees(proto, {"x": small.drawn(3, 6)})


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_agree_with_onnxruntime(kind: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    size, width = 5, 3
    held = {"w": small.drawn(2, gates * size, width), "b": small.drawn(2, 2 * gates * size, seed=2),
            "r": small.drawn(2, gates * size, size, seed=1) / 3}  # fmt: skip
    proto = small.model(
        [node(kind, ["x", "w", "r", "b"], ["y"], hidden_size=size, direction="bidirectional")],
        {"x": (F32, [4, 2, width])}, {"y": (F32, [4, 2, 2, size])}, held,
    )  # fmt: skip
    agrees(proto, {"x": small.drawn(4, 2, width, seed=3)}, "graph")


def test_operations_of_the_optimiser_of_onnxruntime() -> None:
    """SkipLayerNormalization and FastGelu reach the norm and the activation of the chip."""
    domain = "com.microsoft"
    nodes = [node("SkipLayerNormalization", ["x", "skip", "g", "b"], ["n"], domain=domain),
             node("FastGelu", ["n", "bias"], ["y"], domain=domain)]  # fmt: skip
    kinds = {"x": (F32, [2, 3, 6]), "skip": (F32, [2, 3, 6])}
    held = {name: small.drawn(6, seed=i) for i, name in enumerate(("g", "b", "bias"))}
    proto = small.model(nodes, kinds, {"y": (F32, [2, 3, 6])}, held, domain=domain)
    counts = compile(proto).imported.graph.count()
    assert counts["layer_norm"] == counts["gelu"] == 1
    agrees(proto, {"x": small.drawn(2, 3, 6), "skip": small.drawn(2, 3, 6, seed=1)})


def test_weights_stored_twice_as_inputs_keep_their_defaults() -> None:
    """Files of version 3 list weights among the inputs: only what has no value must be given."""
    proto = layer()
    proto.graph.input.append(helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [4]))
    x = small.drawn(2, 6)
    np.testing.assert_allclose(compile(proto, x)(x), small.truth(layer(), {"x": x})[0], atol=1e-5)
    assert numpy_helper.to_array(proto.graph.initializer[1]).shape == (4,)


def test_the_example_agrees(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "examples" / "compile_onnx.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "us on trn2, simulated" in done.stdout
    refused = subprocess.run(
        [sys.executable, str(script), "nothing.onnx"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_operations_are_compared_with_the_tensors_inside_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["product"], "multiply"),
        node("Gelu", ["product"], ["curved"], "curve"),
        node("Softmax", ["curved"], ["y"], "share"),
    ]
    x = small.drawn(3, 8)
    kinds = {"x": (F32, [3, 8])}, {"y": (F32, [3, 4])}
    proto = small.model(nodes, *kinds, {"w": small.drawn(8, 4)})
    found = compile(proto, x).compare(x, per_op=True)
    assert [d.module for d in found.operations] == ["curve", "share"]
    assert found.first is None
    since, right = next(iter(RULES["", "Gelu"].items()))
    monkeypatch.setitem(RULES, ("", "Gelu"), {since: lambda t, x: right(t, x, approximate="tanh")})
    found = compile(proto, x).compare(x, per_op=True)
    assert found.first is not None
    assert [d.module for d in found.operations if d.beyond] == ["curve"]
    assert found.first_meaning is None
