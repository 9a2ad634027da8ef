"""How kernels are written: AWS's ``nki`` surface on simulated cores.

``TENZING_NKI=1`` in the environment aliases ``nki`` and ``neuronxcc`` as soon as this package is
imported; ``install()`` does so at any time.
"""

import os as _os

from tenzing.nki import isa, language
from tenzing.nki.alias import install, uninstall
from tenzing.nki.kernel import (
    GridDim,
    Kernel,
    Launch,
    Session,
    Spec,
    entered,
    jit,
    session,
    simulate,
)  # fmt: skip
from tenzing.nki.older import typing
from tenzing.nki.script import run_script
from tenzing.nki.tensor import NkiTensor

__tenzing_internal__ = True

if _os.environ.get("TENZING_NKI") == "1":
    install()

__all__ = [
    "GridDim", "Kernel", "Launch", "NkiTensor", "Session", "Spec", "entered", "install", "isa",
    "jit", "language", "run_script", "session", "simulate", "typing", "uninstall",
]  # fmt: skip
