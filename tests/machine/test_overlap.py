"""Tensors with addresses really share bytes; reading one after the other was written is found."""

from __future__ import annotations

import numpy as np

from tenzing.machine import analyse
from tenzing.nki import isa as nisa
from tenzing.nki import jit, session
from tenzing.nki import language as nl


@jit
def shares(x, second_at):
    first = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0), name="first")
    second = nl.ndarray(
        (128, 64), dtype=nl.float32, buffer=nl.sbuf, address=(0, second_at), name="second"
    )
    out = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=first, src=x)
    nisa.memset(dst=second, value=7.0)
    nisa.dma_copy(dst=out, src=first)
    return out


def launch(second_at: int):
    x = np.ones((128, 64), np.float32)
    with session("trn2") as current:
        result = shares(x, second_at)
    return result, analyse(current.launches[0].programs[0]).findings


def test_apart_is_clean() -> None:
    result, findings = launch(256)
    assert (result == 1).all()
    assert findings == []


def test_same_address_aliases_and_is_reported_with_both_lines() -> None:
    result, findings = launch(0)
    assert (result == 7).all()
    (finding,) = findings
    assert finding.rule == "overlap"
    assert "first after its bytes were overwritten through second" in finding.message
    assert finding.loc is not None
    assert [label for label, _ in finding.related] == ["overwritten", "this tensor is made"]


def test_partial_overlap_is_reported() -> None:
    result, findings = launch(128)
    assert (result[:, :32] == 1).all()
    assert (result[:, 32:] == 7).all()
    assert [f.rule for f in findings] == ["overlap"]
