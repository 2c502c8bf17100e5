"""φ(z) = −log z, the Burg entropy: a barrier of z > 0."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Negative, Positive
from ..piece import Scalar
from .base import Separable


class Burg(Separable):
    """φ(z) = −log z on (0, ∞); ∇φ = −1/z, ∇φ* = −1/u for u < 0, φ* = −1 − log(−u), σ = 0.

    dom φ* is u < 0: for v ≥ 0 there is no minimiser, unless g grows at infinity.
    """

    key = "burg"
    domain = Positive()
    dual_domain = Negative()

    def value(self, z: Tensor) -> Tensor:
        return -z.log()

    def grad(self, z: Tensor) -> Tensor:
        return -1 / z

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return -1 / u

    def conjugate(self, u: Tensor) -> Tensor:
        return -1 - (-u).log()

    def hessian(self, z: Tensor) -> Tensor:
        return z**-2

    def span(self) -> dict[str, Scalar]:
        return {"reciprocal": 1.0}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sum(cp.log(z))
