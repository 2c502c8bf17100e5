"""φ(z) = e^z: ρ is the logarithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Positive
from ..piece import Scalar
from .base import Separable


class Exponential(Separable):
    """φ(z) = e^z on ℝ; ∇φ = e^z, ∇φ* = log u for u > 0, φ* = u log u − u, σ = 0.

    dom φ* is u ≥ 0: for v ≤ 0 there is no minimiser, unless g grows at −∞.
    """

    key = "exponential"
    dual_domain = Positive()

    def value(self, z: Tensor) -> Tensor:
        return z.exp()

    def grad(self, z: Tensor) -> Tensor:
        return z.exp()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u.log()

    def conjugate(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - u

    def hessian(self, z: Tensor) -> Tensor:
        return z.exp()

    def span(self) -> dict[str, Scalar]:
        return {"exp": 1.0}

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.exp(z))
