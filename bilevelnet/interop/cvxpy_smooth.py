"""Smooth convex functions that cvxpy has as atoms and the catalogue does not, and K z with one K an element."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..piece import Scalar, Weight
from ..regularizers.base import Regularizer, Smooth


class Image(nn.Module):
    """z ↦ K z, K (…, m, n) with the batch dimensions of z."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.zeros(1, 1, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return (self.matrix.to(z.dtype) @ z.unsqueeze(-1)).squeeze(-1)


class Scaled(Smooth):
    """λ h(s z) with λ ≥ 0 and s ≠ 0."""

    lam, rate = Weight(low=0, closed=True), Weight()

    def __init__(self, lam: Scalar = 1.0, rate: Scalar = 1.0):
        super().__init__()
        self.lam, self.rate = lam, rate


class Logistic(Scaled):
    """g(z) = λ log(1 + exp(s z))."""

    def value(self, z: Tensor) -> Tensor:
        return self.lam * torch.logaddexp(self.rate * z, torch.zeros_like(z))

    def grad(self, z: Tensor) -> Tensor:
        return self.lam * self.rate * torch.sigmoid(self.rate * z)

    def hessian(self, z: Tensor) -> Tensor:
        p, q = torch.sigmoid(self.rate * z), torch.sigmoid(-self.rate * z)
        return self.lam * self.rate**2 * p * q


class Exponential(Scaled):
    """g(z) = λ exp(s z)."""

    def value(self, z: Tensor) -> Tensor:
        return self.lam * torch.exp(self.rate * z)


class LogSumExp(Regularizer):
    """g(z) = λ log Σ exp(z_i)."""

    event_ndim = 1
    lam = Weight(low=0, closed=True)

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        lam = self.lam.squeeze(-1) if isinstance(self.lam, Tensor) and self.lam.ndim else self.lam
        return lam * torch.logsumexp(z, -1)
