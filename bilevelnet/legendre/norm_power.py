"""φ(z) = ‖z‖^p/p: the p-mirror map of the Euclidean norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics import norm, radial_power
from ..piece import Scalar, Weight
from .base import Legendre


class NormPower(Legendre):
    """φ(z) = ‖z‖^p/p on ℝⁿ, p > 1; with 1/p + 1/q = 1: ∇φ = z‖z‖^{p−2}, ∇φ* = u‖u‖^{q−2}, φ* = ‖u‖^q/q.

    σ is 1 for p = 2, else 0. At 0 the slope of ∇φ is infinite for p < 2, that of ∇φ* for p > 2; √max of the dtype
    stands for it. Raises InputError unless p > 1.
    """

    key = "norm_power"
    event_ndim = 1
    radial = True
    examples = ({"p": 3.0}, {"p": 1.5}, {"p": 2.0})
    p = Weight(low=1)

    def __init__(self, p: Scalar = 2.0):
        super().__init__()
        self.p = p

    def value(self, z: Tensor) -> Tensor:
        return (z * self.grad(z) / self.p).sum(-1)

    def grad(self, z: Tensor) -> Tensor:
        return radial_power(z, self.p - 1)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return radial_power(u, 1 / (self.p - 1))

    def conjugate(self, u: Tensor) -> Tensor:
        return (u * self.grad_conjugate(u) * ((self.p - 1) / self.p)).sum(-1)

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(z) x = ‖z‖^{p−2} (x + (p − 2) z⟨z, x⟩/‖z‖²), the direction of 0 being 0."""
        size = norm(z, (-1,))
        unit = z / torch.where(size > 0, size, 1.0)
        return size ** (self.p - 2) * (x + (self.p - 2) * unit * (unit * x).sum(-1, keepdim=True))

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0 if isinstance(self.p, float) and self.p == 2 else 0.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        if not isinstance(self.p, float):
            raise InputError("norm_power with a tensor for p has no cvxpy expression: give a number")
        return cp.power(cp.norm(z), self.p) / self.p
