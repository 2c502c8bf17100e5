"""Mehrotra's predictor-corrector method for many quadratic programs side by side, to a loose gap.

min ½ zᵀQz + qᵀz, C z + s = d, s = 0 in the first p rows and s ≥ 0 in the others, whose multipliers are λ ≥ 0.
Source: Mehrotra, On the implementation of a primal-dual interior point method (1992); Nocedal & Wright, chapter 16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kkt import HARD, Factor, System, largest


class Interior(NamedTuple):
    """z (B, n), w = (y, λ) (B, r), s (B, m), the gap that it stopped at (B,), relative to the terms."""

    z: Tensor
    w: Tensor
    s: Tensor
    gap: Tensor


def begin(system: System, q: Tensor, d: Tensor, p: int) -> Interior:
    """The minimiser where an excess costs its square; s and λ are moved inside by their mean size."""
    weights = torch.cat([torch.full_like(d[:, :p], HARD), torch.ones_like(d[:, p:])], -1)
    z, w = system.factor(weights).solve(-q, d)
    inner = w[:, p:]
    floor = inner.abs().mean(-1, keepdim=True).clamp(min=1e-8)
    s, dual = (-inner).clamp(min=0) + floor, inner.clamp(min=0) + floor
    return Interior(z, torch.cat([w[:, :p], dual], -1), s, torch.full_like(z[:, 0], torch.inf))


def advance(
    system: System, q: Tensor, d: Tensor, p: int, at: Interior, tol: float, max_iter: int
) -> tuple[Interior, int]:
    """Steps until every gap is below ``tol``; elements that are done wait. And the number of steps."""
    for iteration in range(max_iter + 1):
        z, w, s, _ = at
        dual = w[:, p:]
        qz, cz = system.image(z, w)
        ra, rc = -q - qz, d - cz
        rc = torch.cat([rc[:, :p], rc[:, p:] - s], -1)
        mu = (s * dual).mean(-1, keepdim=True)
        gap = _gap(q, d, p, at, ra, rc, qz, cz, mu)
        active = ((gap > tol) & gap.isfinite())[:, None]
        at = at._replace(gap=torch.where(active[:, 0] | at.gap.isinf(), gap, at.gap))
        if iteration == max_iter or not bool(active.any()):
            break
        weights = torch.cat([torch.full_like(w[:, :p], HARD), dual / s], -1)
        factor = system.factor(weights)
        _, _, ds, dl = _step(factor, ra, rc, s, p, s)
        length = _length(s, ds, dual, dl, 1.0)
        sigma = ((s + length * ds) * (dual + length * dl)).mean(-1, keepdim=True) / mu
        target = sigma**3 * mu - ds * dl
        dz, dw, ds, dl = _step(factor, ra, rc, s, p, s - target / dual)
        length = torch.where(active, _length(s, ds, dual, dl, 0.995), 0.0)
        moved = z + length * dz, w + length * dw, s + length * ds
        fine = moved[0].isfinite().all(-1, keepdim=True) & moved[1].isfinite().all(-1, keepdim=True) & active
        z, w, s = (torch.where(fine, new, old) for new, old in zip(moved, (z, w, s), strict=True))
        at = Interior(z, w, s, at.gap)
    return at, iteration


def _step(factor: Factor, ra: Tensor, rc: Tensor, s: Tensor, p: int, move: Tensor) -> tuple[Tensor, ...]:
    """(dz, dw, ds, dλ) where λ ds + s dλ = −λ ``move``."""
    right = torch.cat([rc[:, :p], rc[:, p:] + move], -1)
    dz, dw = factor.solve(ra, right)
    dl = dw[:, p:]
    return dz, dw, -move - dl / factor.d[:, p:], dl


def _length(s: Tensor, ds: Tensor, dual: Tensor, dl: Tensor, share: float) -> Tensor:
    """The longest step, at most 1, that keeps s and λ positive, times ``share``."""
    fall = torch.maximum((-ds / s).amax(-1, keepdim=True), (-dl / dual).amax(-1, keepdim=True))
    return (share / fall.clamp(min=1e-300)).clamp(max=1.0)


def _gap(
    q: Tensor, d: Tensor, p: int, at: Interior, ra: Tensor, rc: Tensor, qz: Tensor, cz: Tensor, mu: Tensor
) -> Tensor:
    """The largest of the residuals and μ, each relative to its terms."""
    force = torch.maximum(largest(q), largest(qz)).clamp(min=1e-300)
    room = torch.maximum(torch.maximum(largest(d), largest(cz)), torch.finfo(q.dtype).eps * force)
    work = force * torch.maximum(largest(at.z), room)
    return torch.maximum(torch.maximum(largest(ra) / force, largest(rc) / room), mu.squeeze(-1) / work)
