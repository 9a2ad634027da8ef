"""Accelerators and workload shapes: names, sources, refusals."""

from __future__ import annotations

import pytest

from tenzing import facts
from tenzing.errors import FactsError
from tenzing.facts.accelerator import read_accelerators
from tenzing.facts.catalogue import catalogue, find_shape, read_catalogue
from tenzing.facts.sheet import parse


@pytest.mark.parametrize(
    ("spoken", "name"),
    [("gpu-h100", "h100"), ("trainium2", "trn2"), ("tpu-v7x-ironwood", "v7x"),
     ("trainium1 (presumed)", "trn1"), ("GPU-A100", "a100"), ("gpu-h100-pcie", "h100"),
     ("gpu-a100-40gb", "a100-40")],
)  # fmt: skip
def test_names_as_rows_spell_them(spoken: str, name: str) -> None:
    assert facts.accelerator(spoken).name == name


def test_an_unknown_accelerator_lists_the_known() -> None:
    with pytest.raises(FactsError, match="abacus") as caught:
        facts.accelerator("abacus")
    assert "h100" in str(caught.value)


def test_every_accelerator_can_be_timed() -> None:
    for name in facts.accelerators():
        device = facts.accelerator(name)
        assert device.bf16_tflops > 0
        assert device.hbm_gb_s > 0
        assert device.hbm_bytes > 2**30
        assert device.tflops("fp8") >= device.tflops("bf16") >= device.tflops("fp32")


def test_a_rival_without_a_source_is_refused() -> None:
    text = 'schema_version = 1\n[accelerator.x]\nfamily = "gpu"\ngeneration = 1\naliases = []\n'
    with pytest.raises(FactsError, match="needs peak_bf16_tflops"):
        read_accelerators(parse(text, "x.toml"), facts.sources())


def test_every_shape_has_a_source_and_is_found_by_its_own_name() -> None:
    for entry in catalogue():
        assert entry.where
        assert entry.values["params_m"] > 0


@pytest.mark.parametrize(
    ("name", "shape"),
    [("google/vit-base-patch16-224", "vit-base"), ("distilbert-base-uncased", "distilbert"),
     ("Stable Diffusion 2.1", "sd21"), ("xlm-roberta-base", "bert-base"),
     ("whisper-large-v3-turbo", "whisper-turbo"), ("gpt-oss-20b", "gpt-oss-20b")],
)  # fmt: skip
def test_names_find_their_shape(name: str, shape: str) -> None:
    found = find_shape(name)
    assert found is not None
    assert found.name == shape


@pytest.mark.parametrize(
    ("row", "complaint"),
    [('match = ["x"]\nkind = "cnn"\nparams_m = 1', "needs where"),
     ('where = "x"\nmatch = ["("]\nkind = "cnn"\nparams_m = 1', "regular expression"),
     ('where = "x"\nmatch = ["x"]\nkind = "cnn"\nparams_m = 1\nweight = 3', "unknown key")],
)  # fmt: skip
def test_broken_shapes_are_refused(row: str, complaint: str) -> None:
    with pytest.raises(FactsError, match=complaint):
        read_catalogue(parse(f"schema_version = 1\n[model.x]\n{row}\n", "x.toml"))
