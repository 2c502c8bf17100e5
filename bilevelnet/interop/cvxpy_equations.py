"""Quadratic programs whose rows are all equations: one linear system, P z + A'y = f and A z = g.

z = (w, x) and the rows are in an order in which A = [B N; C M] with B square, well conditioned and without parameters:
cvxpy writes ‖F x − g‖² as ‖w‖² with w = F x − g, so that B = I there. w = B⁻¹(g_1 − N x) leaves a system in x and the
multipliers of the last rows: of least squares F'F, a fifth as large, of which the condition number is squared. What
that loses is found again by residuals of the whole system; where it is half of the digits, the whole is factored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..numerics.kkt import times
from ..values import readable, tracked

# Of the least pivot of the whole system to the largest, about 1/κ: below, there is no solution, or not one alone, or
# few digits are left.
PIVOT = 1e-12
# The same of the system in x, and how much of z the first correction may change: half of the digits, so that a second
# correction finds the others; the derivative has one too.
HALF = 1e-8

Vectors = tuple[Tensor, Tensor]
Inverse = Callable[[Tensor, Tensor], Vectors]


class Equations(NamedTuple):
    """min ½z'Pz + q'z, A z = b: ``fixed`` = [B; C], of all elements, ``inverse`` = B⁻¹ (``compact``), ``moving`` =
    [N; M].
    """

    P: Tensor
    q: Tensor
    fixed: Tensor
    inverse: Tensor
    moving: Tensor
    b: Tensor

    def image(self, z: Tensor, y: Tensor) -> Vectors:
        """(P z + A'y, A z)."""
        w, x = self.split(z)
        pull = torch.cat([times(self.fixed.mT, y), times(self.moving.mT, y)], -1)
        return times(self.P, z) + pull, times(self.fixed, w) + times(self.moving, x)

    def split(self, z: Tensor) -> Vectors:
        """(w, x), and of a vector of rows those of B and the others."""
        return z[..., : self.fixed.shape[-1]], z[..., self.fixed.shape[-1] :]

    def residual(self, z: Tensor, y: Tensor) -> Vectors:
        force, level = self.image(z, y)
        return -self.q - force, self.b - level


def stationary(p: Equations) -> tuple[Tensor, Tensor, Tensor]:
    """(z, y, whether the system is safely regular): solved without a graph, then corrected twice with one by the same
    factors, which gives the derivatives to second order.
    """
    known = Equations(*(t.detach() for t in p))
    folds = [folded] if p.fixed.shape[-1] and readable(*p) else []
    for make in (*folds, whole):
        inverse, sound = make(known)
        z, y = inverse(-known.q, known.b)
        dz, dy = inverse(*known.residual(z, y))
        if make is folded:
            sound = sound & (_norm(dz) <= HALF * _norm(z))
        z, y = z + dz, y + dy
        if make is whole or bool(sound.all()):
            break
    for _ in range(2 if tracked(*p) else 0):
        dz, dy = inverse(*p.residual(z, y))
        z, y = z + dz, y + dy
    return z, y, sound


def whole(p: Equations) -> tuple[Inverse, Tensor]:
    """By LU of the whole system; 0 where it is singular."""
    a = torch.cat([p.fixed.expand(*p.moving.shape[:-1], p.fixed.shape[-1]), p.moving], -1)
    n = p.q.shape[-1]
    solve, sound = _lu(_joined(p.P, a), PIVOT)

    def inverse(f: Tensor, g: Tensor) -> Vectors:
        v = solve(torch.cat([f, g], -1))
        return v[..., :n], v[..., n:]

    return inverse, sound


def folded(p: Equations) -> tuple[Inverse, Tensor]:
    """By LU of the system in x and the multipliers of the last rows: w = B⁻¹g_1 + Z x with Z = −B⁻¹N."""
    count = p.fixed.shape[-1]
    last = p.fixed[count:]  # C
    z = -_on(p.inverse, p.moving[..., :count, :])
    ww, wx, xx = p.P[..., :count, :count], p.P[..., :count, count:], p.P[..., count:, count:]
    ww = compact(ww)
    gram = z.mT @ (_on(ww, z) + 2 * wx)  # Z'P_ww Z + Z'P_wx + P_xw Z, once it is made symmetric
    solve, sound = _lu(_joined((gram + gram.mT) / 2 + xx, p.moving[..., count:, :] + last @ z), HALF)

    def inverse(f: Tensor, g: Tensor) -> Vectors:
        (f_w, f_x), (g_1, g_2) = p.split(f), p.split(g)
        start = _on(p.inverse, g_1.unsqueeze(-1)).squeeze(-1)
        pull = f_w - _on(ww, start.unsqueeze(-1)).squeeze(-1)
        v = solve(torch.cat([f_x + times(z.mT, pull) - times(wx.mT, start), g_2 - times(last, start)], -1))
        x, u = v[..., : xx.shape[-1]], v[..., xx.shape[-1] :]
        w = start + times(z, x)
        left = f_w - _on(ww, w.unsqueeze(-1)).squeeze(-1) - times(wx, x) - times(last.mT, u)
        first = _on(p.inverse.mT if p.inverse.ndim > 1 else p.inverse, left.unsqueeze(-1)).squeeze(-1)
        return torch.cat([w, x], -1), torch.cat([first, u], -1)

    return inverse, sound


def compact(matrix: Tensor) -> Tensor:
    """The diagonal, (n), of a matrix that all elements share and that has nothing beside it, else the matrix."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return diagonal if matrix.ndim == 2 and torch.equal(matrix, diagonal.diag()) else matrix


def _on(matrix: Tensor, x: Tensor) -> Tensor:
    """M X of a ``compact`` M."""
    return matrix.unsqueeze(-1) * x if matrix.ndim == 1 else matrix @ x


def _joined(p: Tensor, a: Tensor) -> Tensor:
    """[P A'; A 0]."""
    n, k = p.shape[-1], a.shape[-2]
    batch = torch.broadcast_shapes(p.shape[:-2], a.shape[:-2])
    if not k:
        return p.expand(*batch, n, n)
    upper = torch.cat([p.expand(*batch, n, n), a.mT.expand(*batch, n, k)], -1)
    return torch.cat([upper, torch.cat([a.expand(*batch, k, n), a.new_zeros(*batch, k, k)], -1)], -2)


def _lu(system: Tensor, limit: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """(r ↦ its solution, whether the least pivot is above ``limit`` times the largest); r itself where it is not."""
    factors, pivots, _ = torch.linalg.lu_factor_ex(system)
    size = factors.diagonal(dim1=-2, dim2=-1).abs()
    sound = size.amin(-1) > limit * size.amax(-1)
    if not readable(sound) or not bool(sound.all()):
        n = system.shape[-1]
        factors = torch.where(sound[..., None, None], factors, torch.eye(n, dtype=factors.dtype, device=factors.device))
        own = torch.arange(1, n + 1, dtype=pivots.dtype, device=pivots.device)
        pivots = torch.where(sound.unsqueeze(-1), pivots, own)

    def solve(r: Tensor) -> Tensor:
        if system.ndim == 2:  # one system for all elements
            return torch.linalg.lu_solve(factors, pivots, r.reshape(-1, r.shape[-1]).mT).mT.reshape(r.shape)
        return torch.linalg.lu_solve(factors, pivots, r.unsqueeze(-1)).squeeze(-1)

    return solve, sound


def _norm(z: Tensor) -> Tensor:
    return torch.linalg.vector_norm(z, dim=-1)
