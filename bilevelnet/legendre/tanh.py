"""The Legendre function whose mirror map is the scaled hyperbolic tangent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import log_cosh, two_sided_entropy
from ..piece import Scalar, Weight
from .base import Separable


class Tanh(Separable):
    """φ(z) = (a/2b)[(1+t) log(1+t) + (1−t) log(1−t)], t = z/a, on [−a, a].

    ∇φ = artanh(z/a)/b, ∇φ* = a tanh(b u), φ* = (a/b) log cosh(b u), σ = 1/(ab).
    Raises InputError unless a, b > 0.
    """

    key = "tanh"
    examples = ({}, {"a": 1.7159, "b": 0.6666})
    a, b = Weight(low=0), Weight(low=0)

    def __init__(self, a: Scalar = 1.0, b: Scalar = 1.0):
        super().__init__()
        self.a, self.b = a, b
        self._plain = a == 1.0 and b == 1.0 if self.constant else False

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Interval(-self.a, self.a)

    def value(self, z: Tensor) -> Tensor:
        return self.a / self.b * two_sided_entropy(z / self.a)

    def grad(self, z: Tensor) -> Tensor:
        if self._plain:
            return torch.atanh(z)
        size = torch.where(z < 0, -z, z)
        half = torch.log1p(2 * size / (self.a - size)) / (2 * self.b)  # z/a would round what is left of a − |z|
        return torch.where(z < 0, -half, half)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return torch.tanh(u) if self._plain else self.a * torch.tanh(self.b * u)

    def conjugate(self, u: Tensor) -> Tensor:
        return self.a / self.b * log_cosh(self.b * u)

    def hessian(self, z: Tensor) -> Tensor:
        return self.a / (self.b * (self.a - z) * (self.a + z))

    @property
    def strong_convexity(self) -> Scalar:
        return 1 / (self.a * self.b)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        t = z / self.a
        return self.a / (2 * self.b) * (-cp.sum(cp.entr(1 + t)) - cp.sum(cp.entr(1 - t)))
