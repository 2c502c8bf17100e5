"""φ(z) = (m/2) z², the energy: D is the squared Euclidean distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar, Weight
from .base import Separable


class Energy(Separable):
    """φ(z) = (m/2) z² on ℝ; ∇φ = m z, ∇φ* = u/m, φ* = u²/(2m), σ = m = ``scale``.

    Raises InputError unless scale > 0.
    """

    key = "energy"
    radial = True
    examples = ({}, {"scale": 2.5})
    scale = Weight(low=0)

    def __init__(self, scale: Scalar = 1.0):
        super().__init__()
        self.scale = scale

    def value(self, z: Tensor) -> Tensor:
        return self.scale / 2 * z**2

    def grad(self, z: Tensor) -> Tensor:
        return self.scale * z

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u / self.scale

    def conjugate(self, u: Tensor) -> Tensor:
        return u**2 / (2 * self.scale)

    def hessian(self, z: Tensor) -> Tensor:
        return self.scale * torch.ones_like(z)

    @property
    def strong_convexity(self) -> Scalar:
        return self.scale

    def span(self) -> dict[str, Scalar]:
        return {"linear": self.scale}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return self.scale / 2 * cp.sum_squares(z)
