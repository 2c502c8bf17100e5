"""g(z) = λ max |z_i|."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..numerics import l1_threshold, norm, simplex_threshold
from ..piece import Scalar, Strength
from .base import Regularizer


class LinfNorm(Regularizer):
    """g(z) = λ max |z_i| along ``dim``; prox v − P(v) = clip(v, −τ, τ), P the projection onto the l1 ball of radius λ
    and τ its threshold (Moreau); conjugate the indicator of ‖y‖₁ ≤ λ. Raises InputError where λ < 0.
    """

    key = "linf_norm"
    event_ndim = 1
    homogeneous = True
    examples = ({"lam": 0.9},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0, dim: int = -1):
        super().__init__()
        self.lam, self.dim = lam, dim

    def value(self, z: Tensor) -> Tensor:
        return (self.lam * z.abs().amax(self.dim, keepdim=True)).squeeze(self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        c = torch.as_tensor(step * self.lam, dtype=v.dtype, device=v.device)
        tau, inside = l1_threshold(v, c, self.dim)
        clipped = torch.where(v > tau, tau, torch.where(v < -tau, -tau, v))
        return torch.where(c == 0, v, torch.where(inside, 0.0 * v, clipped))

    def conjugate(self, y: Tensor) -> Tensor:
        inside = y.abs().sum(self.dim, keepdim=True) <= self.lam
        return torch.where(inside, y.new_zeros(()), torch.inf).squeeze(self.dim)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # ∂g(z) is λ times the convex hull of sign(z_i) e_i over the largest |z_i|, at 0 the l1 ball.
        largest = z.abs().amax(self.dim, keepdim=True)
        active = z.abs() >= largest * (1 - 4 * torch.finfo(z.dtype).eps)
        lam = torch.as_tensor(self.lam, dtype=z.dtype, device=z.device)
        size = torch.where(active, y * z.sign(), -torch.inf)
        tau = simplex_threshold(torch.where(largest > 0, size, y.abs()), torch.where(lam > 0, lam, 1.0), self.dim)
        face = torch.where(active, torch.minimum(size, tau), y)
        tau, _ = l1_threshold(y, lam, self.dim)
        ball = torch.minimum(y.abs(), tau)
        gap = torch.where(lam == 0, y, torch.where(largest > 0, face, ball))
        return norm(gap, (self.dim,)).squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.multiply(self.lam, cp.norm_inf(z))
