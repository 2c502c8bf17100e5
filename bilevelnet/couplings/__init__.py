"""f: the coupling, learned by the upper level."""

from .affine import Affine, Bilinear, Coupling

__all__ = ["Affine", "Bilinear", "Coupling"]
