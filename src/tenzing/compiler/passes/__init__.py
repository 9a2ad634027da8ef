"""Passes over graphs and the default pipeline."""

from __future__ import annotations

from typing import Final

from tenzing.compiler.graph import Graph
from tenzing.compiler.passes.activations import RecogniseActivations
from tenzing.compiler.passes.attention import RecogniseAttention, ShareKeyHeads
from tenzing.compiler.passes.autocast import AUTOCAST, AUTOCAST_DTYPES, Autocast
from tenzing.compiler.passes.bands import MasksAsBands
from tenzing.compiler.passes.cleanup import (
    CommonSubexpressions,
    DeadCode,
    FoldConstants,
    IotaAsLine,
    Simplify,
)
from tenzing.compiler.passes.epilogue import MatmulEpilogue, RecogniseLinear
from tenzing.compiler.passes.expansions import RecogniseErf
from tenzing.compiler.passes.experts import RecogniseExperts, SortByExpert
from tenzing.compiler.passes.fusion import FuseRows
from tenzing.compiler.passes.integers import WrapIntegers
from tenzing.compiler.passes.layout import PackHeads, SumsAsMatmul, WeightsForMatmul
from tenzing.compiler.passes.legalise import NarrowNumbers, WholeSums
from tenzing.compiler.passes.linears import (
    AddResiduals,
    BiasBeforeReshape,
    GateProducts,
    ReshapeBeforeLinear,
    SplitLinear,
)
from tenzing.compiler.passes.losses import RowLosses
from tenzing.compiler.passes.norm_gradients import RecogniseNormGradients
from tenzing.compiler.passes.norms import KeepStatistics, RecogniseNorms
from tenzing.compiler.passes.orientation import TransposesIntoProducts
from tenzing.compiler.passes.pipeline import Pass, Pipeline, Step
from tenzing.compiler.passes.preparation import HoistPreparation
from tenzing.compiler.passes.products import StandardProducts
from tenzing.compiler.passes.regions import CompileRegions
from tenzing.compiler.passes.rolling import JoinIterations, RollRecurrences
from tenzing.compiler.passes.rotary import RecogniseRotary
from tenzing.compiler.passes.sharding import Sharded, shard
from tenzing.compiler.passes.user_kernels import Kernels, UseKernels, registered
from tenzing.compiler.passes.windows import (
    FoldConvolutionScale,
    PatchesAsLinear,
    WeightsForConvolution,
)

__all__ = [
    "AddResiduals",
    "AUTOCAST",
    "AUTOCAST_DTYPES",
    "Autocast",
    "BiasBeforeReshape",
    "CommonSubexpressions",
    "CompileRegions",
    "DeadCode",
    "FoldConstants",
    "FoldConvolutionScale",
    "FuseRows",
    "GateProducts",
    "HoistPreparation",
    "IotaAsLine",
    "JoinIterations",
    "KeepStatistics",
    "Kernels",
    "MasksAsBands",
    "MatmulEpilogue",
    "NarrowNumbers",
    "PackHeads",
    "PatchesAsLinear",
    "Pass",
    "Pipeline",
    "RecogniseActivations",
    "RecogniseAttention",
    "RecogniseErf",
    "RecogniseExperts",
    "RecogniseLinear",
    "RecogniseNormGradients",
    "RecogniseNorms",
    "RecogniseRotary",
    "ReshapeBeforeLinear",
    "RollRecurrences",
    "RowLosses",
    "Sharded",
    "ShareKeyHeads",
    "Simplify",
    "Step",
    "SortByExpert",
    "SplitLinear",
    "StandardProducts",
    "SumsAsMatmul",
    "TransposesIntoProducts",
    "UseKernels",
    "WeightsForConvolution",
    "WeightsForMatmul",
    "WholeSums",
    "WrapIntegers",
    "default_pipeline",
    "recognise",
    "shard",
    "registered",
]


TIDY: Final = (FoldConstants(), CommonSubexpressions(), Simplify(), DeadCode())
# from what frameworks write to the operations that have kernels; nothing of the chip yet
RECOGNITION: Final[tuple[Pass, ...]] = (
    NarrowNumbers(),
    WrapIntegers(),
    *TIDY,
    RollRecurrences(),
    JoinIterations(),
    *TIDY,
    RecogniseErf(),
    DeadCode(),
    FoldConvolutionScale(),
    PatchesAsLinear(),
    RowLosses(),
    DeadCode(),
    RecogniseNormGradients(),
    DeadCode(),
    RecogniseNorms(),
    DeadCode(),
    KeepStatistics(),
    DeadCode(),
    RecogniseActivations(),
    StandardProducts(),
    DeadCode(),
    RecogniseExperts(),
    DeadCode(),
    RecogniseLinear(),
    BiasBeforeReshape(),
    DeadCode(),
    RecogniseAttention(),
    Simplify(),
    DeadCode(),
    RecogniseRotary(),
    DeadCode(),
    MasksAsBands(),
    DeadCode(),
    ShareKeyHeads(),
    DeadCode(),
)


def recognise(graph: Graph) -> Graph:
    """The graph in the operations that have kernels, before any choice for a chip."""
    return Pipeline(RECOGNITION).run(graph)


def default_pipeline(
    autocast: str = "none", autocast_dtype: str = "bf16", kernels: Kernels = ()
) -> Pipeline:
    """From an imported graph to fused groups, matrix products and attention.

    ``autocast``: the mode of the Autocast pass (none, matmult, all); ``autocast_dtype``: a name in
    ``AUTOCAST_DTYPES``; ``kernels``: the user's own by the operation they replace.
    """
    replaced = (UseKernels(kernels),) if kernels else ()
    passes: tuple[Pass, ...] = (
        *RECOGNITION,
        *TIDY,
        TransposesIntoProducts(),
        DeadCode(),
        PackHeads(),
        Autocast(autocast, autocast_dtype),
        DeadCode(),
        WholeSums(),
        SumsAsMatmul(),
        WeightsForMatmul(),
        WeightsForConvolution(),
        Simplify(),
        DeadCode(),
        SortByExpert(),
        *TIDY,
        ReshapeBeforeLinear(),
        *TIDY,
        SplitLinear(),
        *TIDY,
        MatmulEpilogue(),
        DeadCode(),
        GateProducts(),
        DeadCode(),
        AddResiduals(),
        DeadCode(),
        MatmulEpilogue(),
        DeadCode(),
        HoistPreparation(),
        *TIDY,
        *replaced,
        IotaAsLine(),
        CommonSubexpressions(),
        FuseRows(),
        DeadCode(),
    )
    inside = Pipeline(tuple(p for p in passes if not isinstance(p, HoistPreparation | UseKernels)))
    return Pipeline((CompileRegions(inside), *passes))
