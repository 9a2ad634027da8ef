"""Saved programs: the same results without the framework, and no harm from broken files."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tenzing
from tenzing import compiler
from tenzing.compiler import Compiled, container, ops, saved
from tenzing.compiler.frontends.interface import ArrayInterface, Imported
from tenzing.compiler.graph import BF16, F32, Alias, GraphBuilder
from tenzing.compiler.manifest import GRAPH, IMPORTED, sha256
from tenzing.compiler.nesting import Fixed, Slot, fill, from_json, match, to_json
from tenzing.errors import TenzingError, UsageError
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

RANDOM = np.random.default_rng(0)


def counter(numerics: str = "instruction") -> Compiled:
    """total += x @ w + table; gives the total: a weight, a large constant and state."""
    builder = GraphBuilder("counter")
    x = builder.input("x", (4, 8), F32)
    weight = builder.parameter("w", (8, 16), F32)
    total = builder.parameter("total", (4, 16), F32)
    table = builder.add(ops.Constant.of(np.arange(64, dtype=np.float32).reshape(4, 16)))
    product = builder.add(ops.DotGeneral(((), ()), ((1,), (0,))), x, weight)
    new = builder.add(ops.Add(), builder.add(ops.Add(), product, table), total)
    graph = builder.build([new, new], [Alias(1, "total")])
    arrays = {"w": RANDOM.standard_normal((8, 16), np.float32), "total": np.zeros((4, 16), F32)}
    interface = ArrayInterface(graph.inputs, ("out",), state={"total": arrays["total"]})
    example = (np.ones((4, 8), np.float32),), {}
    return Compiled(Imported(graph, arrays, interface, example), "trn2", numerics=numerics)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "counter.tz"
    compiler.save(counter(), path)
    return path


@pytest.mark.parametrize("numerics", ["instruction", "graph"])
@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_results_state_program_and_time_are_the_same(
    numerics: str, weights: str, tmp_path: Path
) -> None:
    model, path = counter(numerics), tmp_path / "model.tz"
    compiler.save(model, path, weights=weights)
    loaded = compiler.load(path)
    for _ in range(2):  # the second call reads the state that the first one left
        x = RANDOM.standard_normal((4, 8), np.float32)
        np.testing.assert_array_equal(loaded(x), model(x))
    np.testing.assert_array_equal(loaded(x=x), model(x=x))
    assert loaded.program.text() == model.program.text()
    assert loaded.latency_us == model.latency_us == loaded.computed_time("trn2").latency_us
    assert loaded.time == loaded.computed_time("trn2")
    assert loaded.time_for("trn1") == model.time_for("trn1")


def test_a_program_is_shown_in_a_line(whole: Path) -> None:
    shown = [repr(counter()), repr(tenzing.load(whole)), repr(counter().graph)]
    assert all(len(line) < 200 for line in shown), "a notebook prints what a cell returns"
    assert "trn2" in shown[0]
    assert "f32[" in shown[1]
    assert "nodes" in shown[2]


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    model: Any = object()
    with pytest.raises(UsageError, match="only a compiled model can be saved; got object"):
        tenzing.save(model, tmp_path / "x.tz")


def test_state_is_saved_as_it_is(tmp_path: Path) -> None:
    model = counter("graph")
    first = model(np.ones((4, 8), np.float32))
    compiler.save(model, tmp_path / "a.tz")
    loaded = compiler.load(tmp_path / "a.tz")
    np.testing.assert_array_equal(loaded.interface.read_state()["total"], first)
    loaded(np.ones((4, 8), np.float32))
    compiler.save(loaded, tmp_path / "b.tz")
    again = compiler.load(tmp_path / "b.tz")
    zero = np.zeros((4, 8), np.float32)
    np.testing.assert_array_equal(again(zero), loaded(zero))


def test_the_same_model_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    compiler.save(compiler.load(whole), tmp_path / "again.tz")
    first, second = compiler.inspect(whole), compiler.inspect(tmp_path / "again.tz")
    assert second.graph_text == first.graph_text
    assert second.imported_text == first.imported_text
    compiler.save(compiler.load(whole), tmp_path / "twin.tz")
    assert (tmp_path / "twin.tz").read_bytes() == (tmp_path / "again.tz").read_bytes()


def test_every_part_is_a_plain_file_in_a_zip(whole: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[0] == "manifest.json"
        assert json.loads(archive.read("manifest.json"))["inputs"] == [
            {"name": "x", "type": "f32[4,8]"}
        ]
        text = archive.read("weights.safetensors")
    found = saved.safetensors.from_bytes(memoryview(text))
    assert sorted(found) == ["total", "w"]


def test_safetensors_files_are_read_by_others(tmp_path: Path) -> None:
    reader = pytest.importorskip("safetensors.numpy")
    compiler.save(counter(), tmp_path / "m.tz", weights="beside")
    found = reader.load_file(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(found["total"], np.zeros((4, 16)))


@pytest.mark.parametrize("dtype", [F32, BF16, np.dtype(np.bool_), np.dtype("u4"), np.dtype("f8")])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3)])
def test_arrays_keep_every_bit(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    from tenzing.compiler.graph import TensorType

    bits = RANDOM.integers(0, 2, int(np.prod(shape)) * dtype.itemsize, np.uint8)
    array = bits.view(dtype).reshape(shape)
    data = memoryview(saved.safetensors.to_bytes({"first": np.ones(3, np.int8), "a": array}))
    again = saved.safetensors.as_array(
        saved.safetensors.from_bytes(data)["a"], TensorType(shape, dtype)
    )
    assert again.dtype == dtype
    assert again.tobytes() == array.tobytes()


def test_no_framework_is_needed(whole: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'jax', 'jaxlib', 'tensorflow', 'onnx', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "import numpy, tenzing\n"
        f"program = tenzing.load({str(whole)!r})\n"
        "print(program(numpy.ones((4, 8), numpy.float32)).shape, program.latency_us)\n"
        "print(program.report())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(4, 16) ")
    assert "counter on trn2" in done.stdout


# -- damage ---------------------------------------------------------------------------------------


def damaged(data: bytes, seed: int) -> bytes:
    """One bit flipped, or the end cut off, at a random place."""
    random = np.random.default_rng(seed)
    at = int(random.integers(len(data)))
    if seed % 4 == 0:
        return data[:at]
    changed = bytearray(data)
    changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 1060), marks=pytest.mark.slow)], ids=["60", "1000"]
)
def test_flips_and_cuts_are_refused(whole: Path, tmp_path: Path, seeds: range) -> None:
    """A checksum over every byte: nothing changed is ever run."""
    data, path = whole.read_bytes(), tmp_path / "damaged.tz"
    for seed in seeds:
        path.write_bytes(damaged(data, seed))
        with pytest.raises(UsageError) as caught:
            compiler.load(path)
        assert caught.value.finding.next_step
        assert str(path) in str(caught.value)


def test_flips_in_weights_beside_are_refused(tmp_path: Path) -> None:
    compiler.save(counter(), tmp_path / "m.tz", weights="beside")
    file = tmp_path / "m.safetensors"
    data = file.read_bytes()
    for seed in range(1, 20):
        file.write_bytes(damaged(data, seed))
        with pytest.raises(UsageError, match="does not hold the weights"):
            compiler.load(tmp_path / "m.tz")
    file.unlink()
    with pytest.raises(UsageError, match="are not beside it"):
        compiler.load(tmp_path / "m.tz")


def rewritten(path: Path, changes: dict[str, bytes], note: dict[str, Any] | None = None) -> None:
    """A file of other parts with right checksums, as somebody else could write it."""
    found = compiler.inspect(path)
    parts = {name: bytes(content) for name, content in found.members.items()}
    parts.update(changes)
    manifest = {**asdict(found.manifest), **(note or {})}
    digests = {name: sha256(content) for name, content in parts.items()}
    manifest["sha256"] = {k: v for k, v in digests.items() if k != container.FIRST}
    parts[container.FIRST] = json.dumps(manifest).encode()
    container.write_members(path, parts)


def mutated(text: bytes, seed: int) -> bytes:
    """A text with a stretch removed, doubled or replaced by marks and numbers."""
    random = np.random.default_rng(seed)
    start = int(random.integers(len(text)))
    end = start + int(random.integers(1, 9))
    pieces = (b"", text[start:end] * 2, b"99999999999", b"-1", b"{", b"]", b"%x", b"\xff", b"nan")
    return text[:start] + pieces[int(random.integers(len(pieces)))] + text[end:]


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 400), marks=pytest.mark.slow)], ids=["12", "400"]
)
@pytest.mark.parametrize("part", [GRAPH, IMPORTED, "memory.json", "weights.safetensors", "note"])
def test_content_of_right_checksum_but_wrong_meaning(
    whole: Path, tmp_path: Path, part: str, seeds: range
) -> None:
    """Loading gives a program or a clean refusal, whatever the texts say."""
    path, refused = tmp_path / "other.tz", 0
    found = compiler.inspect(whole)
    parts = {name: bytes(content) for name, content in found.members.items()}
    for seed in seeds:
        path.write_bytes(whole.read_bytes())
        if part == "note":
            changed = mutated(json.dumps(asdict(found.manifest)).encode(), seed)
            container.write_members(path, {**parts, container.FIRST: changed})
        else:
            rewritten(path, {part: mutated(parts[part], seed)})
        refused += is_refused(path)
    assert refused > 0


def is_refused(path: Path) -> bool:
    try:
        _ = compiler.load(path), compiler.inspect(path)
    except TenzingError:
        return True
    return False


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * 10_000_000)
        archive.comment = container.MAGIC + b"0" * container.DIGEST_LENGTH
    data = path.read_bytes()[: -container.DIGEST_LENGTH]
    path.write_bytes(data + sha256(data).encode())


def test_compressed_parts_are_never_unpacked(tmp_path: Path) -> None:
    compressed(tmp_path / "bomb.tz")
    with pytest.raises(UsageError, match="damaged; got a compressed or encrypted member"):
        compiler.load(tmp_path / "bomb.tz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "made by a newer tenzing; got format 2 of 0.1.0; allowed: format 1"),
        ({"format": "1"}, "not what tenzing writes"),
        ({"target": "trn9"}, "trn9"),
        ({"numerics": "fast"}, "unknown numerics mode"),
        ({"nesting": {"arguments": {"tensor": 7}}}, "no nest: tensor"),
        ({"kernels": [{"name": "k", "function": "f", "member": "m", "sha256": ""}]},
         "calls kernel k, which its user wrote"),
        ({"weights": {"place": "beside", "file": "../x", "sha256": "", "bytes": 1, "tensors": 1}},
         "weights at beside ../x"),
        ({"weights": {"place": "none", "file": "", "sha256": "", "bytes": 1, "tensors": 1}}, ""),
    ],
)  # fmt: skip
def test_other_notes(whole: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "other.tz"
    path.write_bytes(whole.read_bytes())
    rewritten(path, {}, change)
    if says:
        with pytest.raises(TenzingError) as caught:
            compiler.load(path)
        assert says in str(caught.value)
        return
    loaded = compiler.load(path)
    assert loaded.latency_us > 0
    with pytest.raises(UsageError, match="can be timed but not run"):
        loaded(np.ones((4, 8), np.float32))


def test_a_tensor_of_a_petabyte_is_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.tz"
    path.write_bytes(whole.read_bytes())
    text = "graph g(%x: f32[99999999,99999999]) {\n  return %x\n}\n"
    rewritten(path, {GRAPH: text.encode(), IMPORTED: text.encode()})
    with pytest.raises(UsageError, match="not what tenzing writes; got a tensor %x"):
        compiler.load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "an empty file"), (b"PK\x03\x04 and so on", "a zip file of something else"),
     (b"\x80\x04\x95 a pickle", "a file of another kind")],
)  # fmt: skip
def test_foreign_files(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "foreign.tz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"is no saved program; got {says}"):
        compiler.load(path)
    with pytest.raises(UsageError, match=r"cannot read .* No such file"):
        compiler.load(tmp_path / "none.tz")
    with pytest.raises(UsageError, match="cannot read"):
        compiler.load(tmp_path)


# -- what a file cannot hold ----------------------------------------------------------------------


def test_inputs_are_checked_as_when_compiled(whole: Path) -> None:
    loaded = compiler.load(whole)
    with pytest.raises(UsageError, match="another shape or dtype than it was compiled for"):
        loaded(np.ones((4, 9), np.float32))
    with pytest.raises(UsageError, match="inputs differ from the compiled ones"):
        loaded()
    with pytest.raises(UsageError, match="no framework to compare with"):
        loaded.compare(np.ones((4, 8), np.float32))


def test_a_program_is_not_compiled_again(whole: Path) -> None:
    with pytest.raises(UsageError, match="is a compiled program already") as caught:
        tenzing.compile(str(whole))
    assert "tenzing.load" in caught.value.finding.next_step


def test_unknown_words_are_refused(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(UsageError, match="weights; got nowhere; allowed: inside, beside, none"):
        compiler.save(counter(), tmp_path / "m.tz", weights="nowhere")
    with pytest.raises(UsageError, match="is not a folder"):
        compiler.save(counter(), tmp_path / "none" / "m.tz")
    with pytest.raises(UsageError, match="calls no kernel of this name; got gelu"):
        compiler.load(whole, kernels={"gelu": len})
    with pytest.raises(UsageError, match="unknown numerics mode"):
        compiler.load(whole, numerics="exact")


def double(x, scale: float = 2.0):  # type: ignore[no-untyped-def]
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=scale)
    nisa.dma_copy(dst=out, src=tile)
    return out


def triple(x, scale: float = 3.0):  # type: ignore[no-untyped-def]
    return double(x, scale)


def test_a_users_kernel_is_shown_and_must_be_given(tmp_path: Path, monkeypatch: Any) -> None:
    from tenzing.compiler.ops.control import KERNELS

    ops.register_kernel("double", double)
    builder = GraphBuilder("own")
    x = builder.input("x", (4, 8), F32)
    call = ops.KernelCall("double", (x.type,))
    graph = builder.build([builder.add(call, x)])
    model = Compiled(Imported(graph, {}, ArrayInterface(graph.inputs, ("y",))), "trn2")
    compiler.save(model, tmp_path / "own.tz")
    monkeypatch.delitem(KERNELS, "double")
    found = compiler.inspect(tmp_path / "own.tz")
    assert "nisa.tensor_scalar" in found.kernel_sources["double"]
    with pytest.raises(UsageError, match="which its user wrote; the source in the file") as caught:
        compiler.load(tmp_path / "own.tz")
    assert "kernels={'double': double}" in caught.value.finding.next_step
    with pytest.raises(UsageError, match="another one than"):
        compiler.load(tmp_path / "own.tz", kernels={"double": triple})
    loaded = compiler.load(tmp_path / "own.tz", kernels={"double": double})
    np.testing.assert_array_equal(loaded(np.ones((4, 8), np.float32)), np.full((4, 8), 2.0))


def test_the_time_of_a_kernel_follows_its_source(monkeypatch: Any) -> None:
    """Times of our own kernels are kept on disk; those of a user's may change under one name."""

    def twice(x):  # type: ignore[no-untyped-def]
        return double(double(x))

    builder = GraphBuilder("own")
    x = builder.input("x", (4, 8), F32)
    call = ops.KernelCall("renewed", (x.type,))
    ops.register_kernel("renewed", double)
    graph = builder.build([builder.add(call, x)])
    first = compiler.timing.time_graph(graph)
    ops.register_kernel("renewed", twice)
    assert compiler.timing.time_graph(graph).instructions > first.instructions


# -- nests ----------------------------------------------------------------------------------------


def test_nests_read_back_and_say_what_differs() -> None:
    nest = ((Slot(0), [Slot(1), Fixed(None)]), {"flag": Fixed(True), "pair": {"a": Slot(2)}})
    assert from_json(to_json(nest), 3) == nest
    value = fill(nest, ["x", "y", "z"])
    assert value == (("x", ["y", None]), {"flag": True, "pair": {"a": "z"}})
    assert [found for _, _, found in match(nest, value)] == ["x", "y", "z"]
    for wrong, says in (
        ((("x", ["y"]), value[1]), "[0][1]"),
        ((value[0], {"flag": 1, "pair": {"a": 0}}), "['flag']"),
        ((value[0], {"flag": True}), "a mapping of flag, pair"),
    ):
        with pytest.raises(UsageError) as caught:
            list(match(nest, wrong))
        assert says in str(caught.value)
    with pytest.raises(UsageError, match="an object that a file cannot hold"):
        to_json(Fixed(object()))
