"""Compile an ONNX file for the chip, run it, compare it with onnxruntime and time it.

    python examples/compile_onnx.py [model.onnx] [--target trn2]

Without a file a small convolutional network is made. Sizes that a file leaves open are refused with
the next step: give ``tenzing.compile`` example inputs of the sizes to serve.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import tenzing
from tenzing.errors import EXIT_REFUSED, TenzingError


def small_network() -> Any:
    """A convolution, pooling and a linear layer with drawn weights."""
    random = np.random.default_rng(0)
    weights = {"kernel": (8, 3, 3, 3), "matrix": (8, 10)}
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["image", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"]),
            node("GlobalAveragePool", ["r"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["f", "matrix"], ["scores"]),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [2, 10])],
        [
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def main() -> int:
    """Print what was compiled, how well it agrees and how long it takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--target", default="trn2")
    given = parser.parse_args()
    try:
        compiled = tenzing.compile(given.model or small_network(), target=given.target)
        inputs, named = compiled.example
        comparison = compiled.compare(*inputs, **named)
    except TenzingError as error:
        print(error.render(), file=sys.stderr)
        return EXIT_REFUSED
    print("operations:", ", ".join(f"{n} {kind}" for kind, n in compiled.graph.count().items()))
    for output in comparison.outputs:
        print(f"{output.name}: largest difference {output.relative:.1e} of its largest number")
    print(f"{compiled.latency_us:.1f} us on {compiled.target}, simulated")
    return 0 if comparison.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
