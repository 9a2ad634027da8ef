"""``neuronxcc.nki``: the older surface, whose calls return tiles."""

from tenzing.nki.older import compiler, isa, language, typing
from tenzing.nki.older.run import baremetal, benchmark, jit, profile, simulate_kernel

__tenzing_internal__ = True

trace = jit

__all__ = [
    "baremetal", "benchmark", "compiler", "isa", "jit", "language", "profile", "simulate_kernel",
    "trace", "typing",
]  # fmt: skip
