"""The Legendre function whose mirror map is the leaky ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..piece import Scalar, Weight
from .base import Separable


class LeakyRelu(Separable):
    """φ(z) = z²/2 for z ≥ 0, z²/(2a) for z < 0, on ℝ, a = ``slope``.

    ∇φ = z or z/a, ∇φ* = u or a u, φ* = u²/2 or a u²/2, σ = min(1, 1/a). Raises InputError unless a > 0.
    """

    key = "leaky_relu"
    examples = ({}, {"slope": 0.1}, {"slope": 3.0})
    slope = Weight(low=0)

    def __init__(self, slope: Scalar = 0.01):
        super().__init__()
        self.slope = slope

    def value(self, z: Tensor) -> Tensor:
        return z * self.grad(z) / 2

    def grad(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, z, z / self.slope)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        if isinstance(self.slope, float):  # one pass instead of three
            return functional.leaky_relu(u, self.slope)
        return torch.where(u > 0, u, self.slope * u)

    def conjugate(self, u: Tensor) -> Tensor:
        return u * self.grad_conjugate(u) / 2

    def hessian(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, torch.ones_like(z), 1 / self.slope)

    @property
    def strong_convexity(self) -> Scalar:
        if isinstance(self.slope, Tensor):
            return (1 / self.slope).clamp(max=1)
        return min(1.0, 1 / self.slope)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return (cp.sum_squares(cp.pos(z)) + cp.sum_squares(cp.neg(z)) / self.slope) / 2
