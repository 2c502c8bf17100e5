"""φ(z) = 1/z, the Legendre function of the reverse χ² divergence."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Negative, Positive
from ..legendre import Separable


class Reciprocal(Separable):
    """φ(z) = 1/z on (0, ∞); ∇φ = −1/z², ∇φ* = 1/√(−u) for u < 0, φ* = −2√(−u), σ = 0."""

    domain = Positive()
    dual_domain = Negative()

    @property
    def label(self) -> str:
        return "reciprocal"

    def value(self, z: Tensor) -> Tensor:
        return 1 / z

    def grad(self, z: Tensor) -> Tensor:
        return -1 / z**2

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return (-u).rsqrt()

    def conjugate(self, u: Tensor) -> Tensor:
        return -2 * (-u).sqrt()

    def hessian(self, z: Tensor) -> Tensor:
        return 2 / z**3

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.inv_pos(z))
