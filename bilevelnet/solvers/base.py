"""The contract of a solver."""

from __future__ import annotations

from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map
from ..regularizers import Regularizer
from ..values import check_count


class Solver:
    """A way of solving. ``bind`` returns a map, or raises InputError with the reason for which it refuses."""

    name: str

    def bind(self, phi: Legendre, g: Regularizer) -> Map:
        raise NotImplementedError


class Iterative(Solver):
    """A solver that iterates: to ``tol``, 0 for the rounding of the terms, in at most ``max_iter`` steps."""

    def __init__(self, tol: float = 0.0, max_iter: int = 120):
        if not isinstance(tol, int | float) or not tol >= 0:
            raise InputError(f"{self.name}: tol >= 0 is needed, not {tol!r}")
        self.tol, self.max_iter = tol, check_count(max_iter, f"{self.name}: max_iter")
