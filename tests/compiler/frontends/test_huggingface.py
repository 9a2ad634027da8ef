"""Hugging Face folders, configurations and names: weights run, shapes alone are timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenzing import cli, compiler
from tenzing.errors import TenzingError, UsageError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "vocab_size": 96}  # fmt: skip
KINDS: dict[str, Any] = {
    "BertModel": {"model_type": "bert", **TINY},
    "LlamaForCausalLM": {"model_type": "llama", "num_key_value_heads": 2, **TINY},
    "T5ForConditionalGeneration": {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64,
                                   "num_layers": 1, "num_heads": 4, "vocab_size": 96,
                                   "decoder_start_token_id": 0},
    "ViTModel": {"model_type": "vit", "image_size": 32, "patch_size": 8, **TINY},
    "CLIPModel": {"model_type": "clip", "projection_dim": 16,
                  "text_config": {**TINY, "max_position_embeddings": 16, "eos_token_id": 2},
                  "vision_config": {**TINY, "image_size": 32, "patch_size": 8}},
    "WhisperModel": {"model_type": "whisper", "d_model": 32, "encoder_layers": 1,
                     "decoder_layers": 1, "encoder_attention_heads": 4, "vocab_size": 96,
                     "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
                     "num_mel_bins": 8, "max_source_positions": 20, "pad_token_id": 0,
                     "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    "Wav2Vec2Model": {"model_type": "wav2vec2", "conv_dim": [16, 16], "conv_kernel": [10, 3],
                      "conv_stride": [5, 2], "num_feat_extract_layers": 2,
                      "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, **TINY},
}  # fmt: skip


def saved(kind: str, folder: Path) -> Path:
    config = transformers.AutoConfig.for_model(**KINDS[kind])
    torch.manual_seed(0)
    getattr(transformers, kind)(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_weights_agrees_with_transformers(kind: str, tmp_path: Path) -> None:
    sizes = {"length": 400} if kind == "Wav2Vec2Model" else {"batch": 2, "length": 8}
    compiled = compiler.compile(saved(kind, tmp_path), sizes, numerics="graph")
    inputs, keywords = compiled.example
    assert compiled.compare(*inputs, **keywords).agrees
    assert (
        type(compiled(*inputs, **keywords)).__name__
        == type(compiled.interface.eager(inputs, keywords)).__name__
    )


def test_own_inputs_in_place_of_sizes(tmp_path: Path) -> None:
    folder = saved("BertModel", tmp_path)
    ids = torch.arange(6)[None]
    found = compiler.compile(str(folder), {"input_ids": ids}, numerics="graph")(input_ids=ids)
    assert found.last_hidden_state.shape == (1, 6, 32)


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "ViTModel"])
def test_a_configuration_is_timed_without_weights(kind: str, tmp_path: Path) -> None:
    config = {**KINDS[kind], "architectures": [kind]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    first, second = compiler.compile(path, {"length": 16}), compiler.compile(config, {"length": 16})
    assert first.latency_us == second.latency_us > 0
    assert not first.runnable
    with pytest.raises(UsageError, match="can be timed but not run"):
        first.run_arrays([])


def test_a_decode_step_by_cache_length() -> None:
    config = KINDS["LlamaForCausalLM"]
    short, long = (compiler.compile(config, {"cached": n, "batch": 2}) for n in (128, 2048))
    assert short.latency_us < long.latency_us
    assert compiler.compile(config, {"cached": 2048}, mesh={"tp": 2}).time.collective_ps > 0


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("none.json", (), "none.json is not a file"),
        ("nobody-1b", (), "no model that can be compiled; got 'nobody-1b'"),
        ({"model_type": "nope"}, {"length": 4}, "transformers cannot load nope"),
        (KINDS["BertModel"], {"cached": 4}, "decode step of this model has no builder"),
        (KINDS["LlamaForCausalLM"], {"cached": 4, "length": 4}, "exclude each other"),
        (KINDS["LlamaForCausalLM"], {"length": 0}, "size length; got 0"),
        ({**KINDS["LlamaForCausalLM"], "vocab_size": "many"}, (), "vocab_size; got many"),
    ],
)
def test_what_is_no_model_is_said(model: Any, inputs: Any, message: str) -> None:
    with pytest.raises(TenzingError, match=message):
        compiler.compile(model, inputs)


def test_a_folder_whose_weights_are_broken_is_said(tmp_path: Path) -> None:
    folder = saved("BertModel", tmp_path)
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UsageError, match="transformers cannot load"):
        compiler.compile(folder, {"length": 4})


def test_the_command_line_takes_folders_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved("BertModel", tmp_path)
    assert cli.main(["run", str(folder), "--size", "length=8", "--compare", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agreement"]["max_abs_difference"] < 1e-5
    assert found["comparison"]["outputs"]


def test_the_command_line_knows_the_repository_of_a_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_name, by_repository = (
        (cli.main(["run", name, "--size", "cached=512", "--json"]), capsys.readouterr().out)
        for name in ("llama-3.1-8b", "meta-llama/Llama-3.1-8B")
    )
    assert by_name[0] == by_repository[0] == 0
    first, second = (json.loads(text)["kernels"][0] for _, text in (by_name, by_repository))
    assert first["latency_ps"] == second["latency_ps"]


def test_a_known_name_has_a_time_and_no_timeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "llama-3.1-8b", "--size", "cached=512"]
    assert cli.main(arguments) == 0
    first = capsys.readouterr()
    assert "without weights there is time, but no result" in first.err
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == first.out  # kept results tell the assumed facts as well
    assert "assumed facts used" in first.out
    assert cli.main([*arguments, "--html", str(tmp_path / "page.html")]) == 2
    assert "has a time, but no timeline" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["length", "length=0", "length=x", "=3"])
def test_sizes_are_checked(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "llama-3.1-8b", "--size", size]) == 2
    assert "is not NAME=N" in capsys.readouterr().err
