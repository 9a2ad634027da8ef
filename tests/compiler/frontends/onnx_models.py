"""Small ONNX models for tests, and onnxruntime's results for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any],
    initializers: Mapping[str, Any] | None = None, opset: int = 20, domain: str = "",
) -> Any:  # fmt: skip
    """A model; an input or output is (dtype, shape)."""
    from onnx import helper, numpy_helper

    def info(named: Mapping[str, Any]) -> list[Any]:
        return [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
            )
            for name, (dtype, shape) in named.items()
        ]

    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (initializers or {}).items()]
    graph = helper.make_graph(list(nodes), "test", info(inputs), info(outputs), held)
    sets = [helper.make_opsetid("", opset)]
    if domain:
        sets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def truth(proto: Any, feed: Mapping[str, Any]) -> list[Any]:
    """What onnxruntime returns."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {name: np.asarray(array) for name, array in feed.items()}))


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
