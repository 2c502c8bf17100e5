"""φ(z) = −log cos z: ρ is the arctangent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import hypotenuse
from ..piece import Scalar
from .base import Separable


class Atan(Separable):
    """φ(z) = −log cos z on (−π/2, π/2); ∇φ = tan z, ∇φ* = atan u, φ* = u atan u − ½ log(1 + u²), σ = 1."""

    key = "atan"
    domain = Interval(-math.pi / 2, math.pi / 2, closed=(False, False))

    def value(self, z: Tensor) -> Tensor:
        return torch.log1p(z.tan() ** 2) / 2  # −log cos z without the rounding of cos z to 1

    def grad(self, z: Tensor) -> Tensor:
        return z.tan()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u.atan()

    def conjugate(self, u: Tensor) -> Tensor:
        # ½ log(1 + u²): of u² for small u, of the root, which does not overflow, for others
        near = u.abs() < 1
        half = torch.where(near, torch.where(near, u, 0.0).square().log1p() / 2, hypotenuse(u).log())
        return u * u.atan() - half

    def hessian(self, z: Tensor) -> Tensor:
        return z.cos() ** -2

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0
