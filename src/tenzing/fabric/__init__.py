"""What joins chips: how long collectives take between the ranks of one instance."""

from tenzing.fabric.collectives import Collective, collective_ps

__all__ = ["Collective", "collective_ps"]
