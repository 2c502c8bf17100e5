"""D: what ties z to z⁻, and the references R for widths that differ."""

from .bregman import Bregman, SquaredEuclidean
from .references import Dual, Identity, Reference, RowStochastic, Zero

__all__ = ["Bregman", "Dual", "Identity", "Reference", "RowStochastic", "SquaredEuclidean", "Zero"]
