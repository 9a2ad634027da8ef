"""What joins chips: meshes of ranks, and how long collectives take between them."""

from tenzing.fabric.collectives import Collective, collective_ps
from tenzing.fabric.mesh import Mesh

__all__ = ["Collective", "Mesh", "collective_ps"]
