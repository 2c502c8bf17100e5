"""The indicator of the simplex: softmax under the entropy, sparsemax under the energy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import domains
from ..numerics import simplex_threshold
from ..piece import Scalar, Weight
from .base import Regularizer


class Simplex(Regularizer):
    """The indicator of {z ≥ 0, Σ z = radius} along ``dim``; prox (v − τ)₊, conjugate radius · max y.

    Raises InputError unless radius > 0.
    """

    key = "simplex"
    event_ndim = 1
    examples = ({}, {"radius": 2.5})
    radius = Weight(low=0)

    def __init__(self, radius: Scalar = 1.0, dim: int = -1):
        super().__init__()
        self.radius, self.dim = radius, dim

    @property
    def domain(self) -> domains.Simplex:  # type: ignore[override]
        return domains.Simplex(self.radius, self.dim)

    def value(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z.sum(self.dim))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        tau = simplex_threshold(v, self.radius, self.dim)
        return torch.where(v <= tau, 0.0, v - tau)

    def conjugate(self, y: Tensor) -> Tensor:
        return (self.radius * y.amax(self.dim, keepdim=True)).squeeze(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # ∂ι(z) = {y : y_i = τ on the support, y_i ≤ τ off it}; the mean over the support is within a factor √2
        # of the nearest τ, and exact where no inactive entry exceeds it.
        support = z > 0
        tau = torch.where(support, y, 0.0).sum(self.dim, keepdim=True) / support.sum(self.dim, keepdim=True)
        gap = torch.where(support, y - tau, (y - tau).clamp(min=0))
        infeasible = (z.sum(self.dim, keepdim=True) - self.radius).abs() + z.clamp(max=0).abs().sum(
            self.dim, keepdim=True
        )
        return torch.linalg.vector_norm(gap, dim=self.dim) + infeasible.squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return 0.0, [z >= 0, cp.sum(z) == self.radius]
