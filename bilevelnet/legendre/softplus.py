"""The Legendre function whose mirror map is the softplus."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..domains import Interval
from ..numerics import dilogarithm
from ..piece import Scalar, Weight
from .base import Separable


class Softplus(Separable):
    """φ(z) = z²/2 + (Li₂(e^{−βz}) − π²/6)/β² on [0, ∞).

    ∇φ = z + log(1 − e^{−βz})/β, ∇φ* = log(1 + e^{βu})/β, φ* = −Li₂(−e^{βu})/β², σ = 1.
    Raises InputError unless β > 0.
    """

    key = "softplus"
    domain = Interval(0.0)
    examples = ({}, {"beta": 10.0})
    beta = Weight(low=0)

    def __init__(self, beta: Scalar = 1.0):
        super().__init__()
        self.beta = beta

    def value(self, z: Tensor) -> Tensor:
        # Near 0 both terms of Li₂(y) − π²/6 agree to all digits: Euler's reflection has neither.
        x = self.beta * z
        gap = -torch.expm1(-x)  # 1 − y, y = e^{−βz}
        near = gap < 0.5
        reflected = torch.xlogy(x, gap) - dilogarithm(torch.where(near, gap, 0.25))
        direct = dilogarithm(torch.where(near, 0.25, -x.neg().exp().neg())) - math.pi**2 / 6
        return z**2 / 2 + torch.where(near, reflected, direct) / self.beta**2

    def grad(self, z: Tensor) -> Tensor:
        return z + torch.log(-torch.expm1(-self.beta * z)) / self.beta

    def grad_conjugate(self, u: Tensor) -> Tensor:
        if isinstance(self.beta, float):  # beyond βu = 40 the correction is below half an ulp of float64
            return functional.softplus(u, self.beta, 40)
        return torch.logaddexp(self.beta * u, torch.zeros_like(u)) / self.beta

    def conjugate(self, u: Tensor) -> Tensor:
        x = self.beta * u
        # −Li₂(−e^x) = π²/6 + x²/2 + Li₂(−e^{−x}) for x > 0; abs would have the derivative 0 at 0
        tail = dilogarithm(-torch.where(x > 0, -x, x).exp())
        return torch.where(x > 0, math.pi**2 / 6 + x**2 / 2 + tail, -tail) / self.beta**2

    def hessian(self, z: Tensor) -> Tensor:
        return -1 / torch.expm1(-self.beta * z)

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0
