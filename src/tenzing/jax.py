"""What ``tenzing.jax`` offers: NKI kernels as JAX functions."""

from tenzing.compiler.frontends.jax_kernel import kernel

__all__ = ["kernel"]
