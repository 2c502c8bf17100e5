"""The contract of a solver."""

from __future__ import annotations

from ..legendre import Legendre
from ..maps import Map
from ..regularizers import Regularizer


class Solver:
    """A way of solving. ``bind`` returns a map, or raises InputError with the reason for which it refuses."""

    name: str

    def bind(self, phi: Legendre, g: Regularizer) -> Map:
        raise NotImplementedError
