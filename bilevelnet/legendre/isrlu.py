"""The Legendre function whose mirror map is the ISRLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import hypotenuse
from ..piece import Scalar, Weight
from .base import Separable


class Isrlu(Separable):
    """φ(z) = z²/2 for z ≥ 0, (1 − √(1 − αz²))/α for z < 0, on [−1/√α, ∞).

    ∇φ = z or z/√(1 − αz²), ∇φ* = ISRLU: u or u/√(1 + αu²), φ* = u²/2 or (√(1 + αu²) − 1)/α, σ = 1.
    Raises InputError unless α > 0.
    """

    key = "isrlu"
    examples = ({}, {"alpha": 2.0})
    alpha = Weight(low=0)

    def __init__(self, alpha: Scalar = 1.0):
        super().__init__()
        self.alpha = alpha

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Interval(-(self.alpha**-0.5), torch.inf)

    def value(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, z**2 / (1 + self._circle(z).sqrt()), z**2 / 2)

    def grad(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, z * self._circle(z).rsqrt(), z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return torch.where(u < 0, u / self._hyperbola(u), u)

    def conjugate(self, u: Tensor) -> Tensor:
        return torch.where(u < 0, u * (u / (1 + self._hyperbola(u))), u**2 / 2)

    def hessian(self, z: Tensor) -> Tensor:
        return torch.where(z < 0, self._circle(z) ** -1.5, 1.0)

    def _circle(self, z: Tensor) -> Tensor:
        # 1 − αz² for z < 0, else 1
        t = self.alpha**0.5 * torch.where(z < 0, z, 0.0)
        return (1 - t) * (1 + t)

    def _hyperbola(self, u: Tensor) -> Tensor:
        # √(1 + αu²) for u < 0, else 1
        return hypotenuse(self.alpha**0.5 * torch.where(u < 0, u, 0.0))

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        root = cp.sqrt(1 - self.alpha * cp.square(cp.neg(z)))
        return cp.sum_squares(cp.pos(z)) / 2 + cp.sum(1 - root) / self.alpha
