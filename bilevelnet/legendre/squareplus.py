"""φ(z) = z²/2 − (c/4) log z: ρ is the squareplus, an algebraic softplus."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Positive
from ..numerics import quadratic_root
from ..piece import Scalar, Weight
from .base import Separable


class Squareplus(Separable):
    """φ(z) = z²/2 − (c/4) log z on (0, ∞); ∇φ = z − c/(4z), ∇φ* = (u + √(u² + c))/2, φ* by Fenchel, σ = 1.

    Raises InputError unless c > 0.
    """

    key = "squareplus"
    domain = Positive()
    examples = ({}, {"c": 4.0})
    c = Weight(low=0)

    def __init__(self, c: Scalar = 1.0):
        super().__init__()
        self.c = c

    def value(self, z: Tensor) -> Tensor:
        return z**2 / 2 - self.c / 4 * z.log()

    def excess(self, z: Tensor) -> Tensor:
        return -self.c / 4 * z.log()

    def grad(self, z: Tensor) -> Tensor:
        return z - self.c / 4 / z

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return quadratic_root(u, 1.0, self.c / 4)

    def hessian(self, z: Tensor) -> Tensor:
        return 1 + self.c / 4 / z**2

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def span(self) -> dict[str, Scalar]:
        return {"linear": 1.0, "reciprocal": self.c / 4}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum_squares(z) / 2 - self.c / 4 * cp.sum(cp.log(z))
