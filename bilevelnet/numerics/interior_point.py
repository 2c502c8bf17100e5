"""Mehrotra's predictor-corrector method for many quadratic programs side by side, to a loose gap.

min ½ zᵀQz + qᵀz, C z + s = d, s = 0 in the first p rows and s ≥ 0 in the others, whose multipliers are λ ≥ 0.
Source: Mehrotra, On the implementation of a primal-dual interior point method (1992); Nocedal & Wright, chapter 16.
Where the predictor may not go half its way the corrector counts less: whole, it may run in a circle (Colombo & Gondzio,
Further development of multiple centrality correctors, 2008).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
CENTRED = 0.01  # the least share of μ aimed at
SHORT = 0.995  # of the way to the boundary is gone: s and λ stay inside
FIRM = 1e8  # weight of the equations: half of the digits in a step, and what they are missed by shrinks as fast as μ
INSIDE = 1e-8  # the least start of s and λ, which a minimiser on all its rows would put at 0; in scaled units


class Factored(Protocol):
    def solve(self, a: Tensor, c: Tensor) -> Pair:
        """(z, w) with Q z + Cᵀw = a, C z − w/D = c."""


class Equations(Protocol):
    """A System, or a Condensed one, whose z has no entries."""

    def image(self, z: Tensor, w: Tensor) -> Pair:
        """(Q z + Cᵀw, C z)."""

    def factor(self, d: Tensor) -> Factored: ...


class Interior(NamedTuple):
    """z (B, n), w = (y, λ) (B, r), s (B, m), what is left of the equations −q − Qz − Cᵀw (B, n) and d − Cz − s (B, r).

    ``left``: by how much that has shrunk, ``first``: μ at the start (B, 1).
    """

    z: Tensor
    w: Tensor
    s: Tensor
    force: Tensor
    room: Tensor
    left: Tensor
    first: Tensor


def begin(system: Equations, q: Tensor, d: Tensor, p: int) -> Interior:
    """The minimiser where an excess costs its square; s and λ are moved inside by their mean size."""
    m = d.shape[-1] - p
    z, w = system.factor(_weights(p, d.new_ones(len(d), m))).solve(-q, d)
    y, inner = w.split([p, m], -1)
    floor = inner.abs().mean(-1, keepdim=True).clamp(min=INSIDE)
    s, dual = (-inner).clamp(min=0) + floor, inner.clamp(min=0) + floor
    w = torch.cat([y, dual], -1)
    force, image = system.image(z, w)
    room = d - image - torch.nn.functional.pad(s, (p, 0))
    return Interior(z, w, s, -q - force, room, torch.ones_like(floor), _mean(s * dual))


def advance(system: Equations, p: int, at: Interior, tol: float, max_iter: int) -> tuple[Interior, int]:
    """Steps until μ and the residuals have shrunk to ``tol``; elements that are done wait. And the number of steps."""
    for iteration in range(max_iter + 1):
        z, w, s, force, room, left, first = at
        dual = w[:, p:]
        mu = _mean(s * dual)
        active = remainder(at, p) > tol
        if iteration == max_iter or not bool(active.any()):
            break
        ratio = s / dual
        factor = system.factor(_weights(p, dual / s))
        ds, dl = _step(factor, force, room, ratio, p, s)[2:]
        length = _length(s, ds, dual, dl)
        sigma = _mean((s + length * ds) * (dual + length * dl)) / mu
        target, trust = (sigma**3).clamp(min=CENTRED) * mu, (2 * length).clamp(max=1.0).square()
        move = s - (target - trust * ds * dl) / dual
        dz, dw, ds, dl = _step(factor, force, room, ratio, p, move)
        length = SHORT * _length(s, ds, dual, dl)
        whole = dw.sum(-1, keepdim=True) + dz.sum(-1, keepdim=True)
        length = torch.where(active & whole.isfinite(), length.clamp(max=1.0), 0.0)
        rest = 1 - length
        room = rest * room
        if p:
            room[:, :p] -= length * dw[:, :p] / FIRM
        at = Interior(
            _along(z, length, dz), _along(w, length, dw), _along(s, length, ds), rest * force, room, rest * left, first
        )
    return at, iteration


def remainder(at: Interior, p: int) -> Tensor:
    """By how much μ, the residuals and the cost of what the equations are missed by have shrunk (B, 1), the largest."""
    y, dual = at.w.split([p, at.s.shape[-1]], -1)
    gap = _mean(at.s * dual)
    missed = (y * at.room[:, :p]).abs().sum(-1, keepdim=True) / dual.shape[-1]
    return torch.maximum(torch.maximum(gap, missed) / at.first, at.left)


def _weights(p: int, inner: Tensor) -> Tensor:
    return torch.nn.functional.pad(inner, (p, 0), value=FIRM)


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True)


def _along(x: Tensor, length: Tensor, step: Tensor) -> Tensor:
    return torch.where(length > 0, x + length * step, x)


def _step(factor: Factored, force: Tensor, room: Tensor, ratio: Tensor, p: int, move: Tensor) -> tuple[Tensor, ...]:
    """(dz, dw, ds, dλ) where ds + (s/λ) dλ = −``move``."""
    dz, dw = factor.solve(force, room + (torch.nn.functional.pad(move, (p, 0)) if p else move))
    dl = dw[:, p:]
    return dz, dw, -move - ratio * dl, dl


def _length(s: Tensor, ds: Tensor, dual: Tensor, dl: Tensor) -> Tensor:
    """The longest step, at most about 1, that keeps s and λ from being negative."""
    fall = torch.minimum((ds / s).amin(-1, keepdim=True), (dl / dual).amin(-1, keepdim=True))
    return 1 / (-fall).clamp(min=SHORT)
