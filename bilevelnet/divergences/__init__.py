"""D: what ties z to z⁻, and the references R for widths that differ."""

from .base import Divergence
from .bregman import Bregman, Mahalanobis, SquaredEuclidean
from .f_divergence import FDivergence
from .function import Function
from .references import Dual, Identity, Reference, RowStochastic, Zero

__all__ = [
    "Bregman",
    "Divergence",
    "Dual",
    "FDivergence",
    "Function",
    "Identity",
    "Mahalanobis",
    "Reference",
    "RowStochastic",
    "SquaredEuclidean",
    "Zero",
]
