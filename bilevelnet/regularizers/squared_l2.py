"""g(z) = (λ/2) z², and with l1 the elastic net."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..piece import Scalar, Weight
from .base import Smooth, Sum
from .l1 import L1


class SquaredL2(Smooth):
    """g(z) = (λ/2) z²; prox v/(1 + λ), conjugate y²/(2λ). Raises InputError where λ < 0."""

    key = "squared_l2"
    examples = ({"lam": 0.7},)
    lam = Weight(low=0, closed=True)

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.lam / 2 * z**2

    def grad(self, z: Tensor) -> Tensor:
        return self.lam * z

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return v / (1 + step * self.lam)

    def conjugate(self, y: Tensor) -> Tensor:
        return y**2 / (2 * self.lam)

    def span(self) -> dict[str, Scalar]:
        return {"linear": self.lam}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return self.lam / 2 * cp.sum_squares(z)


class ElasticNet(Sum):
    """g(z) = λ|z| + (λ₂/2) z²; prox soft(v, λ)/(1 + λ₂). Raises InputError where λ or λ₂ < 0."""

    key = "elastic_net"
    examples = ({"lam": 0.5, "lam2": 0.3},)

    def __init__(self, lam: Scalar = 1.0, lam2: Scalar = 1.0):
        super().__init__(L1(lam), SquaredL2(lam2))
