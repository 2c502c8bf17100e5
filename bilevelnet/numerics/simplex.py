"""The threshold of the Euclidean projection onto the simplex."""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = float | Tensor


def simplex_threshold(v: Tensor, radius: Scalar, dim: int = -1) -> Tensor:
    """τ with Σ max(v − τ, 0) = radius along ``dim`` (kept), by sorting (Held, Wolfe & Crowder 1974).

    Derivative of the mean over the support: dτ/dv = 1/k on it.
    """
    fixed = v.detach()
    top = fixed.sort(dim=dim, descending=True).values
    count = torch.arange(1, v.shape[dim] + 1, device=v.device, dtype=v.dtype)
    count = count.reshape([-1 if d == dim % v.ndim else 1 for d in range(v.ndim)])
    radius = torch.as_tensor(radius, dtype=v.dtype, device=v.device)
    # Sums of differences to the largest entry: no digit is lost where v is far from 0.
    largest = top.narrow(dim, 0, 1)
    total = (top - largest).cumsum(dim)
    inside = (top - largest) * count > total - radius.detach()
    k = inside.sum(dim, keepdim=True)
    threshold = (total.gather(dim, k - 1) - radius.detach()) / k + largest
    support = (fixed > threshold) | (fixed == largest)
    n = support.sum(dim, keepdim=True)
    # The two passes give the same τ; this one has the graph.
    return (torch.where(support, v - largest, 0.0).sum(dim, keepdim=True) - radius) / n + largest
