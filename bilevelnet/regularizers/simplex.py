"""The indicators of the simplex and the capped simplex: softmax under the entropy, sparsemax under the energy."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from .. import domains
from ..errors import InputError
from ..numerics import norm, normal_level, project_capped, project_simplex
from ..piece import Scalar, Weight
from .balls import Scaled
from .base import Regularizer


class Simplex(Scaled):
    """The indicator of {z ≥ 0, Σ z = radius} along ``dim``; prox (v − τ)₊, conjugate radius · max y.

    Raises InputError unless radius > 0.
    """

    key = "simplex"

    @property
    def domain(self) -> domains.Simplex:  # type: ignore[override]
        return domains.Simplex(self.radius, self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return project_simplex(v, self.radius, self.dim)

    def conjugate(self, y: Tensor) -> Tensor:
        return (self.radius * y.amax(self.dim, keepdim=True)).squeeze(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # ∂ι(z) = {y : y_i = τ on the support, y_i ≤ τ off it}, at the nearest τ.
        low = z <= 0
        gap = y - normal_level(y, low, dim=self.dim)
        gap = torch.where(low, gap.clamp(min=0), gap)
        return (norm(gap, (self.dim,)) + _violation(z, self.radius, self.dim)).squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return 0.0, [z >= 0, cp.sum(z) == self.radius]


class CappedSimplex(Regularizer):
    """The indicator of {0 ≤ z ≤ cap, Σ z = radius} along ``dim``; prox min(max(v − τ, 0), cap) with τ by sorting.

    Conjugate: cap times the sum of the radius/cap largest entries of y, the last of them in part. Raises InputError
    unless radius > 0 and cap > 0, and at a z of too few entries (n cap < radius; NaN where the two are tensors).
    """

    key = "capped_simplex"
    event_ndim = 1
    indicator = True
    examples = ({"radius": 1.2, "cap": 0.5}, {"radius": 1.0, "cap": 0.5})
    radius, cap = Weight(low=0), Weight(low=0)

    def __init__(self, radius: Scalar = 1.0, cap: Scalar = 1.0, dim: int = -1):
        super().__init__()
        self.radius, self.cap, self.dim = radius, cap, dim

    @property
    def domain(self) -> domains.CappedSimplex:  # type: ignore[override]
        return domains.CappedSimplex(self.radius, self.cap, self.dim)

    def value(self, z: Tensor) -> Tensor:
        self._check(z.shape[self.dim])
        return torch.zeros_like(z.sum(self.dim))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        self._check(v.shape[self.dim])
        return project_capped(v, self.radius, self.cap, self.dim)

    def conjugate(self, y: Tensor) -> Tensor:
        top = y.sort(dim=self.dim, descending=True).values
        rank = torch.arange(y.shape[self.dim], dtype=y.dtype, device=y.device)
        rank = rank.reshape([-1 if d == self.dim % y.ndim else 1 for d in range(y.ndim)])
        room = torch.as_tensor(self.radius - rank * self.cap, dtype=y.dtype, device=y.device).clamp(min=0)
        return (torch.minimum(room, torch.as_tensor(self.cap, dtype=y.dtype, device=y.device)) * top).sum(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # y_i = τ between the bounds, ≤ τ where z_i = 0, ≥ τ where z_i = cap, at the nearest τ.
        low, high = z <= 0, z >= self.cap
        gap = y - normal_level(y, low, high, self.dim)
        gap = torch.where(low, gap.clamp(min=0), torch.where(high, gap.clamp(max=0), gap))
        excess = (z - self.cap).clamp(min=0).sum(self.dim, keepdim=True)
        return (norm(gap, (self.dim,)) + _violation(z, self.radius, self.dim) + excess).squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return 0.0, [z >= 0, z <= self.cap, cp.sum(z) == self.radius]

    def _check(self, n: int) -> None:
        radius, cap = self.radius, self.cap
        rounding = 1 - 2 * sys.float_info.epsilon  # of the two decimals and their product
        if not isinstance(radius, Tensor) and not isinstance(cap, Tensor) and n * cap < radius * rounding:
            raise InputError(
                f"infeasible: {n} entries of at most cap = {cap:g} cannot have the sum radius = {radius:g}; "
                f"raise cap or lower radius"
            )


def _violation(z: Tensor, radius: Scalar, dim: int) -> Tensor:
    """By how much z misses the sum and the sign."""
    return (z.sum(dim, keepdim=True) - radius).abs() + z.clamp(max=0).abs().sum(dim, keepdim=True)
