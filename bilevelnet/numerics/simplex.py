"""The threshold τ with Σ max(v − τ, 0)^p = radius, p = 1 or 2: projection onto the simplex, and entmax 1.5.

τ ≥ max v − radius^{1/p}, so that few entries matter as a rule: where values can be read, only those above a lower
bound of τ take part, and Newton's method climbs to τ from below. Elsewhere τ comes from sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..values import readable
from .candidates import Candidates

Scalar = float | Tensor
WIDE = 128  # entries of a row from which on it is worth leaving some out
GROUPS, MEMBERS = 256, 32  # for the bound: at most so many groups a row, of so many entries or more
MANY = 1 / 3  # share of candidates from which on it is cheaper to keep all entries
FEW, STEPS = 4, 100  # Newton steps for the bound, and at most; ten do as a rule


def simplex_threshold(v: Tensor, radius: Scalar, dim: int = -1) -> Tensor:
    """τ with Σ max(v − τ, 0) = radius > 0 along ``dim`` (kept) (Held, Wolfe & Crowder 1974).

    Derivative of the mean over the support: dτ/dv = 1/k on it.
    """
    return _solve(v, radius, dim, 1)[1]


def project_simplex(v: Tensor, radius: Scalar, dim: int = -1, power: int = 1) -> Tensor:
    """max(v − τ, 0)^p, formed from differences to the largest entry: its sum is right however far v is from 0."""
    return _solve(v, radius, dim, power)[0]


def _solve(v: Tensor, radius: Scalar, dim: int, p: int) -> tuple[Tensor, Tensor]:
    """(max(v − τ, 0)^p, τ); NaN in the rows that hold one."""
    dim = dim if dim < 0 else dim - v.ndim
    r = torch.as_tensor(radius, dtype=v.dtype, device=v.device)
    rows, r = v.movedim(dim, -1), r.reshape((1,) * (v.ndim - r.ndim) + r.shape).movedim(dim, -1)
    largest = rows.detach().amax(-1, keepdim=True)
    if v.is_cuda or not readable(v, r):
        z, level = _below_largest(rows - largest, r, p)
    elif rows.shape[-1] < WIDE or not v.numel():
        z, level = _below_largest(rows - largest, r, p, -(r.detach() ** (1 / p)))
    else:
        shape = torch.broadcast_shapes(largest.shape, r.shape)
        rows, largest = rows.expand(*shape[:-1], rows.shape[-1]), largest.expand(shape)
        z, level = _among_candidates(
            rows.reshape(-1, rows.shape[-1]), largest.reshape(-1, 1), r.expand(shape).reshape(-1, 1), p
        )
        z, level = z.view(rows.shape), level.view(shape)
    return z.movedim(-1, dim), (level + largest).movedim(-1, dim)


def _among_candidates(rows: Tensor, largest: Tensor, radius: Tensor, p: int) -> tuple[Tensor, Tensor]:
    fixed, r = rows.detach(), radius.detach()
    # A part of the entries gives a lower bound: here the largest of each group.
    members = max(MEMBERS, rows.shape[-1] // GROUPS)
    groups = rows.shape[-1] // members
    leaders = fixed.narrow(-1, 0, groups * members).unflatten(-1, (groups, members)).amax(-1) - largest
    level = -(r ** (1 / p))
    for _ in range(FEW):
        level = _newton(leaders, level, r, p)
    level = level - 1e-3 * level.abs() - 4 * torch.finfo(rows.dtype).eps * largest.abs()  # for rounding, and to spare
    above = fixed > largest + level
    if int(above.count_nonzero()) > MANY * rows.numel():
        return _below_largest(rows - largest, radius, p, level)
    few = Candidates(above)
    z, level = _below_largest(few.pack(rows) - largest, radius, p, level)
    return few.unpack(z, largest - largest), level  # 0, or NaN where v has one


def _below_largest(d: Tensor, radius: Tensor, p: int, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(max(d − τ, 0)^p, τ) for d the differences to the largest entry, −∞ where there is none.

    τ from ``start`` ≤ τ by Newton's method, or by sorting.
    """
    fixed, r = d.detach(), radius.detach()
    support = fixed > (_by_sorting(fixed, r, p) if start is None else _climb(fixed, start, r, p))
    support = support | (fixed == 0)
    inside, k = torch.where(support, d, 0.0), support.sum(-1, keepdim=True)
    # The search gave the same τ; this one has the graph.
    mean = inside.sum(-1, keepdim=True) / k
    if p == 1:
        level = mean - radius / k
    else:  # Σ (d − τ)² = Σ (d − mean)² + k (mean − τ)²
        spread = torch.where(support, inside - mean, 0.0).square().sum(-1, keepdim=True)
        level = mean - ((radius - spread) / k).sqrt()
    gap = torch.where(support, inside - level, level.detach() - level.detach())  # 0, or NaN where v has one
    gap = torch.where(gap < 0, 0.0, gap)
    return gap if p == 1 else gap.square(), level


def _newton(d: Tensor, level: Tensor, radius: Tensor, p: int) -> Tensor:
    """A Newton step for Σ max(d − level, 0)^p = radius: the sum is convex and falls, so that no step passes τ."""
    gap = (d - level).clamp(min=0)
    if p == 1:
        return level + (gap.sum(-1, keepdim=True) - radius) / (gap > 0).sum(-1, keepdim=True).clamp(min=1)
    return level + (gap.square().sum(-1, keepdim=True) - radius) / (2 * gap.sum(-1, keepdim=True))


def _climb(d: Tensor, level: Tensor, radius: Tensor, p: int) -> Tensor:
    eps = 4 * torch.finfo(d.dtype).eps
    for _ in range(STEPS):
        before, level = level, _newton(d, level, radius, p)
        if not bool((level - before > eps * level.abs()).any()):
            break
    return level


def _by_sorting(d: Tensor, radius: Tensor, p: int) -> Tensor:
    """The τ of the k largest entries, for the last k whose smallest lies above it."""
    top = d.sort(-1, descending=True).values
    k = torch.arange(1, d.shape[-1] + 1, device=d.device, dtype=d.dtype)
    total = top.cumsum(-1)
    if p == 1:
        level = (total - radius) / k
    else:
        spread = top.square().cumsum(-1) - total.square() / k
        level = total / k - ((radius - spread) / k).clamp(min=0).sqrt()
    last = (top > level).sum(-1, keepdim=True).clamp(min=1) - 1
    return level.gather(-1, last)
