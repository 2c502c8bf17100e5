"""φ(z) = −√(1 − z²), the Hellinger function: ρ is ISRU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Interval
from ..numerics import hypotenuse
from ..piece import Scalar
from .base import Separable


class Hellinger(Separable):
    """φ(z) = −√(1 − z²) on [−1, 1]; ∇φ = z/√(1 − z²), ∇φ* = u/√(1 + u²), φ* = √(1 + u²), σ = 1."""

    key = "hellinger"
    domain = Interval(-1.0, 1.0)

    def value(self, z: Tensor) -> Tensor:
        return -((1 - z) * (1 + z)).sqrt()

    def grad(self, z: Tensor) -> Tensor:
        return z * ((1 - z) * (1 + z)).rsqrt()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u / hypotenuse(u)

    def conjugate(self, u: Tensor) -> Tensor:
        return hypotenuse(u)

    def hessian(self, z: Tensor) -> Tensor:
        return ((1 - z) * (1 + z)) ** -1.5

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -sum(cp.geo_mean(cp.hstack([1 + entry, 1 - entry])) for entry in cp.vec(z, order="C"))
