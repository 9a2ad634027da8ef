"""The option enums of ``nki.isa``, with the published member names and values.

Names are the vendor's own lower-case ones, because ``nki.isa`` exports them unchanged.
"""

from __future__ import annotations

from tenzing.isa.instruction import FastEnum


class reduce_cmd(FastEnum):
    """What an instruction does with the accumulation registers of its engine."""

    idle = 0  # leaves them alone
    reset = 1  # sets them to the start value
    reduce = 2  # adds this instruction's results to what they hold
    reset_reduce = 3  # start value first, then this instruction's results
    load_reduce = 4  # a given value first, then this instruction's results


class dge_mode(FastEnum):
    """Who writes the descriptors of a DMA."""

    unknown = 0  # the compiler chooses
    swdge = 1  # GpSimd, while the kernel runs
    hwdge = 2  # the hardware block behind the Sync and Scalar queues
    none = 3  # the host, before the kernel runs


class oob_mode(FastEnum):
    """What an indirect DMA does with an index outside its table."""

    error = 0
    skip = 1


class matmul_perf_mode(FastEnum):
    """Speed mode of a matrix product."""

    none = "none"
    double_row = "double_row"  # two fp8 pairs per cell and cycle


class nc_version(FastEnum):
    """Generation of a NeuronCore."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(FastEnum):
    """Which DMA hardware moves the data between two cores."""

    dma = 1
    gpsimd_dma = 2


__all__ = ["dge_mode", "dma_engine", "matmul_perf_mode", "nc_version", "oob_mode", "reduce_cmd"]
