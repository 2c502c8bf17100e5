"""φ(z) = cosh z: ρ is the inverse hyperbolic sine."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..numerics import hypotenuse
from ..piece import Scalar
from .base import Separable


class Cosh(Separable):
    """φ(z) = cosh z on ℝ; ∇φ = sinh z, ∇φ* = asinh u, φ* = u asinh u − √(1 + u²), σ = 1."""

    key = "cosh"

    def value(self, z: Tensor) -> Tensor:
        return z.cosh()

    def grad(self, z: Tensor) -> Tensor:
        return z.sinh()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u.asinh()

    def conjugate(self, u: Tensor) -> Tensor:
        return u * u.asinh() - hypotenuse(u)

    def hessian(self, z: Tensor) -> Tensor:
        return z.cosh()

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.exp(z) + cp.exp(-z)) / 2
