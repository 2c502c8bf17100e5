"""The Legendre function whose mirror map is the ELU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..domains import Interval
from ..numerics import expm1, expm1_minus, log1p_minus
from ..piece import Scalar, Weight
from .base import Separable


class Elu(Separable):
    """φ(z) = z²/2 for z ≥ 0, (z + α) log(1 + z/α) − z for z < 0, on [−α, ∞).

    ∇φ = z or log(1 + z/α), ∇φ* = ELU: u or α(e^u − 1), φ* = u²/2 or α(e^u − 1 − u), σ = min(1, 1/α).
    Raises InputError unless α > 0.
    """

    key = "elu"
    examples = ({}, {"alpha": 0.4}, {"alpha": 2.0})
    alpha = Weight(low=0)

    def __init__(self, alpha: Scalar = 1.0):
        super().__init__()
        self.alpha = alpha

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Interval(-self.alpha, torch.inf)

    def value(self, z: Tensor) -> Tensor:
        t, rest = self._parts(z)
        near = torch.where(t < -0.5, -0.5, t)  # there the two logarithms meet at the end of the domain, infinite
        below = torch.where(t < -0.5, -torch.special.entr(rest) - t, near * near.log1p() + log1p_minus(near))
        return torch.where(z > 0, z**2 / 2, self.alpha * below)

    def grad(self, z: Tensor) -> Tensor:
        t, rest = self._parts(z)
        far = t < -0.5
        below = torch.where(far, torch.where(far, rest, 0.5).log(), torch.where(far, -0.5, t).log1p())
        return torch.where(z > 0, z, below)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        if isinstance(self.alpha, float):
            return functional.elu(u, self.alpha)
        return torch.where(u > 0, u, self.alpha * expm1(_negative(u)))

    def conjugate(self, u: Tensor) -> Tensor:
        return torch.where(u > 0, u**2 / 2, self.alpha * expm1_minus(_negative(u)))

    def hessian(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, 1.0, 1 / (self.alpha + _negative(z)))

    @property
    def strong_convexity(self) -> Scalar:
        if isinstance(self.alpha, Tensor):
            return (1 / self.alpha).clamp(max=1)
        return min(1.0, 1 / self.alpha)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """t = min(z, 0)/α and 1 + t = (α + min(z, 0))/α, exact where 1 + z/α loses digits of z."""
        z = _negative(z)
        return z / self.alpha, (self.alpha + z) / self.alpha


def _negative(x: Tensor) -> Tensor:
    return torch.where(x > 0, 0.0, x)  # the branch that is not taken stays finite, and so do its derivatives
