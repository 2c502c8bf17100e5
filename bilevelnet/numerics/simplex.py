"""The Euclidean projection onto the simplex, and its threshold."""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = float | Tensor


def simplex_threshold(v: Tensor, radius: Scalar, dim: int = -1) -> Tensor:
    """τ with Σ max(v − τ, 0) = radius > 0 along ``dim`` (kept), by sorting (Held, Wolfe & Crowder 1974).

    Derivative of the mean over the support: dτ/dv = 1/k on it.
    """
    _, largest, level = _support(v, radius, dim)
    return level + largest


def project_simplex(v: Tensor, radius: Scalar, dim: int = -1) -> Tensor:
    """max(v − τ, 0), formed from differences to the largest entry: its sum is right however far v is from 0."""
    support, largest, level = _support(v, radius, dim)
    z = torch.where(support, v - largest - level, 0.0 * largest)  # 0, or NaN where v has one
    return torch.where(z < 0, 0.0, z)


def _support(v: Tensor, radius: Scalar, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The support, the largest entry (no graph) and τ minus it."""
    fixed = v.detach()
    top = fixed.sort(dim=dim, descending=True).values
    count = torch.arange(1, v.shape[dim] + 1, device=v.device, dtype=v.dtype)
    count = count.reshape([-1 if d == dim % v.ndim else 1 for d in range(v.ndim)])
    radius = torch.as_tensor(radius, dtype=v.dtype, device=v.device)
    # Sums of differences to the largest entry: no digit is lost where v is far from 0.
    largest = top.narrow(dim, 0, 1)
    total = (top - largest).cumsum(dim)
    inside = (top - largest) * count > total - radius.detach()
    k = inside.sum(dim, keepdim=True).clamp(min=1)
    level = (total.gather(dim, k - 1) - radius.detach()) / k
    support = (fixed - largest > level) | (fixed == largest)
    n = support.sum(dim, keepdim=True)
    # The two passes give the same τ; this one has the graph.
    return support, largest, (torch.where(support, v - largest, 0.0).sum(dim, keepdim=True) - radius) / n
