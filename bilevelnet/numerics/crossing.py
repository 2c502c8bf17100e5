"""Where a decreasing piecewise-linear function of one multiplier takes a value, by sorting its breakpoints."""

from __future__ import annotations

import torch
from torch import Tensor


def crossing(breaks: Tensor, changes: Tensor, level: Tensor, dim: int = -1) -> Tensor:
    """τ (kept as 1 along ``dim``) with Σ_j c_j max(b_j − τ, 0) = level ≥ 0, a sum that decreases in τ; no graph.

    The values at the sorted breakpoints are sums of nonnegative terms (slope times gap), so none cancels. −∞ where
    the sum stays below the level.
    """
    breaks, order = breaks.sort(dim=dim, descending=True)
    n = breaks.shape[dim]
    slopes = changes.gather(dim, order).cumsum(dim)
    gaps = breaks.narrow(dim, 0, n - 1) - breaks.narrow(dim, 1, n - 1)
    steps = (slopes.narrow(dim, 0, n - 1) * gaps).clamp(min=0)
    values = torch.cat([torch.zeros_like(breaks.narrow(dim, 0, 1)), steps.cumsum(dim)], dim)
    k = ((values < level).sum(dim, keepdim=True) - 1).clamp(min=0)
    slope, rest = slopes.gather(dim, k), level - values.gather(dim, k)
    flat = slope <= 0
    below = torch.where(rest > 0, rest / torch.where(flat, 1.0, slope), 0.0)
    return torch.where(flat & (rest > 0), -torch.inf, breaks.gather(dim, k) - below)


def normal_level(y: Tensor, low: Tensor, high: Tensor | None = None, dim: int = -1) -> Tensor:
    """The τ that minimises Σ_free (y − τ)² + Σ_low (y − τ)₊² + Σ_high (τ − y)₊², kept as 1 along ``dim``; no graph.

    So τ1 is the nearest to y in the normal cone of {Σ z = r, lo ≤ z ≤ hi} at z, up to what the bounds may take:
    ``low`` and ``high`` say which entries of z lie on them.
    """
    y = y.detach()
    high = torch.zeros_like(low) if high is None else high
    top = y.amax(dim, keepdim=True)
    # The derivative is Σ_free (y − τ) + Σ_low (y − τ)₊ − Σ_high (τ − y)₊ = 0; below the largest y its slope starts
    # with the free and the high entries, gains a low one and loses a high one as τ passes it.
    always = ~low
    start = torch.where(always, top - y, 0.0).sum(dim, keepdim=True)
    breaks = torch.cat([top, y], dim)
    changes = torch.cat([always.to(y.dtype).sum(dim, keepdim=True), low.to(y.dtype) - high.to(y.dtype)], dim)
    return crossing(breaks, changes, start, dim)
