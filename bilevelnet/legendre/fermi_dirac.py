"""φ(z) = z log z + (1 − z) log(1 − z), the Fermi-Dirac entropy: ρ is the sigmoid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..piece import Scalar
from .base import Separable


class FermiDirac(Separable):
    """φ(z) = z log z + (1 − z) log(1 − z) on [0, 1]; ∇φ = logit z, ∇φ* = sigmoid, φ* = softplus, σ = 4."""

    key = "fermi_dirac"
    domain = Interval(0.0, 1.0)

    def value(self, z: Tensor) -> Tensor:
        return torch.xlogy(z, z) + torch.special.xlog1py(1 - z, -z)

    def grad(self, z: Tensor) -> Tensor:
        return torch.logit(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u)

    def conjugate(self, u: Tensor) -> Tensor:
        return torch.logaddexp(u, torch.zeros_like(u))

    def hessian(self, z: Tensor) -> Tensor:
        return (z * (1 - z)).reciprocal()

    @property
    def strong_convexity(self) -> Scalar:
        return 4.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sum(cp.entr(z)) - cp.sum(cp.entr(1 - z))
