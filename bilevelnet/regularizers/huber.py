"""g(z) = λ h_δ(z), Huber's function: quadratic near 0, linear beyond δ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar, Strength, Weight
from .base import Smooth


class Huber(Smooth):
    """g(z) = λ z²/2 for |z| ≤ δ, else λ(δ|z| − δ²/2); prox v/(1 + λ) for |v| ≤ (1 + λ)δ, else v − λδ sign v.

    Conjugate y²/(2λ) on |y| ≤ λδ. Raises InputError unless λ ≥ 0 and δ > 0. (Huber, 1964.)
    """

    key = "huber"
    examples = ({"lam": 0.8, "delta": 0.5},)
    lam, delta = Strength(), Weight(low=0)

    def __init__(self, lam: Scalar = 1.0, delta: Scalar = 1.0):
        super().__init__()
        self.lam, self.delta = lam, delta

    def value(self, z: Tensor) -> Tensor:
        size, delta = z.abs(), self.delta
        return self.lam * torch.where(size <= delta, z * z / 2, delta * (size - delta / 2))

    def grad(self, z: Tensor) -> Tensor:
        return self.lam * torch.where(z.abs() <= self.delta, z, z.sign() * self.delta)

    def hessian(self, z: Tensor) -> Tensor:
        return torch.where(z.abs() <= self.delta, self.lam, torch.zeros_like(z))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        c = step * self.lam
        inner = v / (1 + c)
        return torch.where(inner.abs() <= self.delta, inner, v - c * self.delta * v.sign())

    def conjugate(self, y: Tensor) -> Tensor:
        square = torch.where(y == 0, 0.0, y * y / (2 * self.lam))
        return torch.where(y.abs() <= self.lam * self.delta, square, torch.inf)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(self.lam / 2, cp.huber(z, self.delta)))
