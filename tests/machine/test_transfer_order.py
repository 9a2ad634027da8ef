"""Transfers are served in the order their data can move, not in the order of their triggers."""

from __future__ import annotations

import numpy as np

from tenzing.machine import Options, analyse
from tenzing.nki import Spec, jit, session
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl


@jit
def load_then_store(x):
    loaded = nl.ndarray((128, 4096), dtype=nl.float32, buffer=nl.sbuf)
    ready = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
    out = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.shared_hbm)
    nisa.memset(dst=ready, value=1.0)
    nisa.dma_copy(dst=loaded, src=x)
    nisa.dma_copy(dst=out, src=ready)
    return out


def test_a_store_does_not_wait_for_a_load_whose_data_comes_later() -> None:
    with session("trn2", Options(values=False)):
        program = load_then_store.launch(Spec((128, 4096), np.dtype(np.float32))).programs[0]
    times = analyse(program).times
    load, store = 1, 2
    assert times.start_ps[load] < times.start_ps[store], "the load is triggered first"
    transfer = program.template(store).cost.transfer
    assert transfer is not None
    assert times.data_start_ps[store] == times.issue_end_ps[store] + transfer.fixed_ps
    assert times.data_start_ps[store] < times.data_start_ps[load]
