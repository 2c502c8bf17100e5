"""The indicators of the Euclidean ball and the l1 ball."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import NormBall
from ..numerics import norm, normal_level, project_l1_ball
from ..piece import Scalar, Weight
from .base import Regularizer


class Scaled(Regularizer):
    """The indicator of radius · C along ``dim``. Raises InputError unless radius > 0."""

    event_ndim = 1
    indicator = True
    examples: tuple[dict[str, Any], ...] = ({}, {"radius": 2.5})
    radius = Weight(low=0)

    def __init__(self, radius: Scalar = 1.0, dim: int = -1):
        super().__init__()
        self.radius, self.dim = radius, dim

    def value(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z.sum(self.dim))


class L2Ball(Scaled):
    """The indicator of ‖z‖₂ ≤ radius along ``dim``; prox v min(1, r/‖v‖), conjugate r‖y‖₂. InputError unless r > 0."""

    key = "l2_ball"
    examples = ({}, {"radius": 5.0})

    @property
    def domain(self) -> NormBall:  # type: ignore[override]
        return NormBall(2, self.radius, self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        n = norm(v, (self.dim,))
        outside = n > self.radius
        return torch.where(outside, v / torch.where(outside, n, 1.0) * self.radius, v)

    def conjugate(self, y: Tensor) -> Tensor:
        return (self.radius * norm(y, (self.dim,))).squeeze(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # The normal cone is the ray along z on the sphere, {0} inside.
        n = norm(z, (self.dim,))
        on = n >= self.radius * (1 - 4 * z.shape[self.dim] * torch.finfo(z.dtype).eps)
        unit = z / torch.where(n > 0, n, 1.0)
        along = (y * unit).sum(self.dim, keepdim=True).clamp(min=0)
        gap = norm(torch.where(on, y - along * unit, y), (self.dim,))
        return (gap + (n - self.radius).clamp(min=0)).squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return 0.0, [cp.norm2(z) <= self.radius]


class L1Ball(Scaled):
    """The indicator of ‖z‖₁ ≤ radius along ``dim``; prox soft(v, τ) with τ by sorting, conjugate r max |y|.

    Raises InputError unless radius > 0.
    """

    key = "l1_ball"

    @property
    def domain(self) -> NormBall:  # type: ignore[override]
        return NormBall(1, self.radius, self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return project_l1_ball(v, self.radius, self.dim)

    def conjugate(self, y: Tensor) -> Tensor:
        return (self.radius * y.abs().amax(self.dim, keepdim=True)).squeeze(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # On the sphere the normal cone is {t s : s_i = sign z_i, or |s_i| ≤ 1 where z_i = 0, t ≥ 0}, inside {0}.
        size = z.abs().sum(self.dim, keepdim=True)
        on = size >= self.radius * (1 - 4 * z.shape[self.dim] * torch.finfo(z.dtype).eps)
        zero = z == 0
        signed = torch.where(zero, y.abs(), y * z.sign())
        t = normal_level(signed, zero, dim=self.dim).clamp(min=0)
        gap = torch.where(zero, (signed - t).clamp(min=0), signed - t)
        distance = norm(torch.where(on, gap, y), (self.dim,)) + (size - self.radius).clamp(min=0)
        return distance.squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return 0.0, [cp.norm1(z) <= self.radius]
