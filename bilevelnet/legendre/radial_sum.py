"""The sum of Legendre functions of the norm: one scalar root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, NormBall
from ..numerics import norm
from .base import Legendre, Separable
from .total import Total


class RadialSum(Total):
    """φ₁ + φ₂ of functions of ‖z‖ on one ball, or of one and an energy: ∇φ* = u t/‖u‖ with φ'(t) = ‖u‖, a root search.

    At u = 0 it is u/φ''(0). ``phi1 + phi2`` builds it.
    """

    explicit = True  # type: ignore[assignment]
    event_ndim = 1  # type: ignore[assignment]
    dual_domain = Interval()  # type: ignore[assignment]

    def __init__(self, first: Legendre, second: Legendre):
        Legendre.__init__(self)
        self.first, self.second = first, second
        self.profile = Profile(first, second)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return next(p.domain for p in self.parts if isinstance(p.domain, NormBall))

    def value(self, z: Tensor) -> Tensor:
        return _summed(self.first, z) + _summed(self.second, z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        size = norm(u, (-1,))
        zero = size == 0
        size = torch.where(zero, 1.0, size)
        flat = self.profile.hessian(torch.zeros_like(size))
        return torch.where(zero, u / flat, u * (self.profile.grad_conjugate(size) / size))

    def plus(self, other: Legendre) -> Legendre | None:
        return radial_sum(self, other)


class Profile(Separable):
    """t ↦ φ₁(t e) + φ₂(t e) along a unit vector e."""

    def __init__(self, first: Legendre, second: Legendre):
        super().__init__()
        self.first, self.second = first, second

    @property
    def domain(self) -> Any:  # type: ignore[override]
        radius = next(p.domain.radius for p in (self.first, self.second) if isinstance(p.domain, NormBall))
        return Interval(-radius, radius)

    def value(self, t: Tensor) -> Tensor:
        return sum(_summed(p, t.unsqueeze(-1)) for p in (self.first, self.second))  # type: ignore[return-value]

    def grad(self, t: Tensor) -> Tensor:
        return sum(p.grad(t.unsqueeze(-1)).squeeze(-1) for p in (self.first, self.second))  # type: ignore[return-value]

    def hessian(self, t: Tensor) -> Tensor:
        z = t.unsqueeze(-1)
        ones = torch.ones_like(z)
        return sum(p.hessian_product(z, ones).squeeze(-1) for p in (self.first, self.second))  # type: ignore[return-value]


def radial_sum(first: Legendre, second: Legendre) -> RadialSum | None:
    """The sum of two functions of the norm, where one lives on a ball and the other on the same or is an energy."""
    balls = [p.domain for p in (first, second) if isinstance(p.domain, NormBall)]
    same = bool(balls) and all((b.p, b.radius) == (2, balls[0].radius) for b in balls)
    one = all(t.ndim == 0 for p in (first, second) if not p.event_ndim for t in p.tensors())
    energies = all(p.radial and (isinstance(p.domain, NormBall) or not p.event_ndim) for p in (first, second))
    return RadialSum(first, second) if same and one and energies else None


def _summed(phi: Legendre, z: Tensor) -> Tensor:
    return phi.value(z) if phi.event_ndim else phi.value(z).sum(-1)
