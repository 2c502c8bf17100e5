"""f: the coupling, learned by the upper level."""

from .affine import Affine, Bilinear, Coupling
from .function import Function

__all__ = ["Affine", "Bilinear", "Coupling", "Function"]
