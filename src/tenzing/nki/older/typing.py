"""``neuronxcc.nki.typing``: names for annotations; they check nothing."""

from __future__ import annotations

from typing import Any, Final


class TensorAnnotation:
    """``tensor[rows, columns]``: an annotation, equal to any other."""

    def __getitem__(self, shape: Any) -> TensorAnnotation:
        return self


tensor: Final = TensorAnnotation()
scalar: Final = TensorAnnotation()
__all__ = ["scalar", "tensor"]
