"""g(z) = (λ/2) z², and with l1 the elastic net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar, Strength
from .base import Smooth
from .calculus import Sum
from .l1 import L1


class SquaredL2(Smooth):
    """g(z) = (λ/2) z²; prox v/(1 + λ), conjugate y²/(2λ). Raises InputError where λ < 0."""

    key = "squared_l2"
    examples = ({"lam": 0.7},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.lam / 2 * z**2

    def grad(self, z: Tensor) -> Tensor:
        return self.lam * z

    def hessian(self, z: Tensor) -> Tensor:
        if not isinstance(self.lam, Tensor):
            return torch.full_like(z, self.lam)
        return self.lam + torch.zeros_like(z)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return v / (1 + step * self.lam)

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y == 0, 0.0, y**2 / (2 * self.lam))

    def span(self) -> dict[str, Scalar]:
        return {"linear": self.lam}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(self.lam / 2, cp.square(z)))


class ElasticNet(Sum):
    """g(z) = λ|z| + (λ₂/2) z²; prox soft(v, λ)/(1 + λ₂), conjugate (|y| − λ)₊²/(2λ₂).

    Raises InputError where λ or λ₂ < 0.
    """

    key = "elastic_net"
    examples = ({"lam": 0.5, "lam2": 0.3},)

    def __init__(self, lam: Scalar = 1.0, lam2: Scalar = 1.0):
        super().__init__(L1(lam), SquaredL2(lam2))

    def conjugate(self, y: Tensor) -> Tensor:
        l1, square = self.parts
        return square.conjugate((y.abs() - l1.lam).clamp(min=0))  # type: ignore[operator, union-attr]
