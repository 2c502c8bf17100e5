"""The Legendre function whose mirror map is the normal distribution function: probit units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics.half import in_float32
from ..piece import Scalar
from .base import Separable


class NormalCdf(Separable):
    """φ(z) = −n(N⁻¹(z)) on [0, 1], n and N the standard normal density and distribution function.

    ∇φ = N⁻¹(z), ∇φ* = N(u), φ* = u N(u) + n(u), σ = √(2π).
    """

    key = "normal_cdf"
    domain = Interval(0.0, 1.0)

    @in_float32
    def value(self, z: Tensor) -> Tensor:
        return -_density(self.grad(z))

    @in_float32
    def grad(self, z: Tensor) -> Tensor:
        return torch.special.ndtri(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return torch.erfc(u * -math.sqrt(0.5)) / 2  # ½ (1 + erf) and ndtr in float32 lose the left tail

    def conjugate(self, u: Tensor) -> Tensor:
        return u * self.grad_conjugate(u) + _density(u)

    @in_float32
    def hessian(self, z: Tensor) -> Tensor:
        return 1 / _density(self.grad(z))

    @property
    def strong_convexity(self) -> Scalar:
        return math.sqrt(2 * math.pi)


def _density(x: Tensor) -> Tensor:
    return (x * x / -2).exp() / math.sqrt(2 * math.pi)
