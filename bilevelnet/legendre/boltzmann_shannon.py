"""φ(z) = z log z − z, the Boltzmann-Shannon entropy: ρ is the exponential, softmax on the simplex."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..piece import Scalar
from .base import Separable


class BoltzmannShannon(Separable):
    """φ(z) = z log z − z on [0, ∞); ∇φ = log z, ∇φ* = φ* = e^u, σ = 0."""

    key = "boltzmann_shannon"
    domain = Interval(0.0)

    def value(self, z: Tensor) -> Tensor:
        return torch.xlogy(z, z) - z

    def grad(self, z: Tensor) -> Tensor:
        return z.log()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u.exp()

    def conjugate(self, u: Tensor) -> Tensor:
        return u.exp()

    def hessian(self, z: Tensor) -> Tensor:
        return z.reciprocal()

    def span(self) -> dict[str, Scalar]:
        return {"log": 1.0}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sum(cp.entr(z)) - cp.sum(z)
