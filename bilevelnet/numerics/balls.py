"""Thresholds of the Euclidean projections onto the l1 ball and the capped simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from .crossing import crossing
from .simplex import project_simplex, simplex_threshold

Scalar = float | Tensor


def l1_threshold(v: Tensor, radius: Scalar, dim: int = -1) -> tuple[Tensor, Tensor]:
    """(τ, inside): Σ max(|v| − τ, 0) = radius ≥ 0 along ``dim`` (kept), and whether ‖v‖₁ ≤ radius, where τ = 0.

    (Duchi, Shalev-Shwartz, Singer & Chandra, Efficient projections onto the l1 ball, 2008.)
    """
    size = v.abs()
    radius = torch.as_tensor(radius, dtype=v.dtype, device=v.device)
    positive = radius.detach() > 0
    tau = simplex_threshold(size, torch.where(positive, radius, 1.0), dim)
    tau = torch.where(positive, tau, size.amax(dim, keepdim=True))
    inside = (size.detach().sum(dim, keepdim=True) <= radius.detach()) | (tau.detach() <= 0)
    return torch.where(inside, 0.0, tau), inside


def project_l1_ball(v: Tensor, radius: Scalar, dim: int = -1) -> Tensor:
    """The nearest point of {‖z‖₁ ≤ radius} along ``dim``, radius > 0: v, or sign(v) times |v| on the simplex."""
    size = v.abs()
    radius = torch.as_tensor(radius, dtype=v.dtype, device=v.device)
    inside = size.detach().sum(dim, keepdim=True) <= radius.detach()
    return torch.where(inside, v, v.detach().sign() * project_simplex(size, radius, dim))


def project_capped(v: Tensor, radius: Scalar, cap: Scalar, dim: int = -1) -> Tensor:
    """The nearest point of {0 ≤ z ≤ cap, Σ z = radius} along ``dim``: min(max(v − τ, 0), cap); NaN where empty."""
    radius, cap = (torch.as_tensor(t, dtype=v.dtype, device=v.device) for t in (radius, cap))
    fixed, r, c = v.detach(), radius.detach(), cap.detach()
    n, eps = v.shape[dim], torch.finfo(v.dtype).eps
    top = fixed.amax(dim, keepdim=True)
    shifted = fixed - top
    ones = torch.ones_like(shifted)
    tau = crossing(torch.cat([shifted, shifted - c], dim), torch.cat([ones, -ones], dim), r, dim)
    # The differences to a reference near τ are exact where they matter: a few Newton steps there mend the rounding
    # of the breakpoints.
    reference = torch.where(tau.isfinite(), top + tau, fixed.amin(dim, keepdim=True) - c)
    near = fixed - reference
    t = torch.zeros_like(top)
    for _ in range(3):
        free, full = (near > t) & (near < t + c), near >= t + c
        count = free.sum(dim, keepdim=True)
        excess = torch.where(free, near, 0.0).sum(dim, keepdim=True) + c * full.sum(dim, keepdim=True) - r
        t = torch.where(count > 0, excess / count.clamp(min=1), t)
    full_sum = cap * full.sum(dim, keepdim=True)
    level = (torch.where(free, v - reference, 0.0).sum(dim, keepdim=True) + full_sum - radius) / count.clamp(min=1)
    z = torch.where(free, v - reference - level, torch.where(full, cap, 0.0))
    z = torch.where(z < 0, 0.0, torch.where((z > cap) | (n * c <= r * (1 + n * eps)), cap, z))
    return torch.where((n * c >= r * (1 - n * eps)) & top.isfinite(), z, torch.nan)
