"""``neuronxcc.nki``: the older surface, whose calls return tiles.

Loops run in Python, once per iteration, where AWS's tracer ran a body once: a kernel that counts
addresses up inside a loop body gets new ones in every iteration here.
"""

from tenzing.nki.older import compiler, isa, language, typing
from tenzing.nki.older.run import baremetal, benchmark, jit, profile, simulate_kernel

__tenzing_internal__ = True

trace = jit
tensor = typing.tensor

__all__ = [
    "baremetal", "benchmark", "compiler", "isa", "jit", "language", "profile", "simulate_kernel",
    "tensor", "trace", "typing",
]  # fmt: skip
