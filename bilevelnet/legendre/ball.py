"""Legendre functions on the open unit ball."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import NormBall
from ..numerics import norm_with_one
from ..piece import Scalar
from .base import Legendre
from .radial_sum import radial_sum


class BallLogBarrier(Legendre):
    """φ(z) = −log(1 − ‖z‖²) on ‖z‖ < 1; ∇φ = 2z/(1 − ‖z‖²), ∇φ* = u/(1 + s), φ* = s − 1 − log((1 + s)/2), σ = 2.

    s = √(1 + ‖u‖²).
    """

    key = "ball_log_barrier"
    event_ndim = 1
    radial = True
    domain = NormBall(2, 1.0)

    def value(self, z: Tensor) -> Tensor:
        return -(-z.square().sum(-1)).log1p()

    def grad(self, z: Tensor) -> Tensor:
        return 2 * z / _room(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u / (1 + norm_with_one(u))

    def conjugate(self, u: Tensor) -> Tensor:
        gap = (u * self.grad_conjugate(u)).sum(-1)  # s − 1 = ‖u‖²/(1 + s)
        return gap - (gap / 2).log1p()

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(z) x = 2x/(1 − ‖z‖²) + 4z⟨z, x⟩/(1 − ‖z‖²)²."""
        grad = self.grad(z)
        return 2 * x / _room(z) + grad * (grad * x).sum(-1, keepdim=True)

    @property
    def strong_convexity(self) -> Scalar:
        return 2.0

    def plus(self, other: Legendre) -> Legendre | None:
        return radial_sum(self, other)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.log(1 - cp.sum(cp.square(z)))  # sum_squares has a shape that log does not take


class BallHellinger(Legendre):
    """φ(z) = −√(1 − ‖z‖²) on ‖z‖ ≤ 1; ∇φ = z/√(1 − ‖z‖²), ∇φ* = u/√(1 + ‖u‖²), φ* = √(1 + ‖u‖²), σ = 1.

    Normalisation layers are this mirror map ρ = ∇φ*. For x in ℝⁿ, without gain and bias,

        RMSNorm(x; ε) = x/√(‖x‖²/n + ε) = √n ρ(x/√(nε)),

    and LayerNorm(x; ε) is the same of x − mean(x): √n prox^φ_g(x/√(nε)) with g the indicator of {Σz = 0}.
    """

    key = "ball_hellinger"
    event_ndim = 1
    radial = True
    domain = NormBall(2, 1.0)

    def value(self, z: Tensor) -> Tensor:
        return -_room(z).squeeze(-1).sqrt()

    def grad(self, z: Tensor) -> Tensor:
        return z * _room(z).rsqrt()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u / norm_with_one(u)

    def conjugate(self, u: Tensor) -> Tensor:
        return norm_with_one(u).squeeze(-1)

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(z) x = (x + z⟨z, x⟩/(1 − ‖z‖²))/√(1 − ‖z‖²)."""
        room = _room(z)
        return room.rsqrt() * (x + z * (z * x).sum(-1, keepdim=True) / room)

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def plus(self, other: Legendre) -> Legendre | None:
        return radial_sum(self, other)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.sqrt(1 - cp.sum(cp.square(z)))


def _room(z: Tensor) -> Tensor:
    return 1 - z.square().sum(-1, keepdim=True)
