"""Quadratic programs whose rows are all equations: one linear system, P z + A'y = f and A z = g.

z = (w, x) and the rows are in an order in which A = [B N; C M] with B square, well conditioned and without parameters:
cvxpy writes ‖F x − g‖² as ‖w‖² with w = F x − g, so that B = I there. w = B⁻¹(g_1 − N x) leaves a system in x and the
multipliers of the last rows: of least squares F'F, a fifth as large, of which the condition number is squared. What
that loses is found again by residuals of the whole system, where it is less than half of the digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..numerics.kkt import times
from ..values import readable, tracked

# Of the least pivot of the system to the largest, about 1/κ, and how much of z the first correction may change: half of
# the digits, so that a second correction finds the others; the derivative has one too.
HALF = 1e-8

Vectors = tuple[Tensor, Tensor]
Inverse = Callable[[Tensor, Tensor], Vectors]


class Equations(NamedTuple):
    """min ½z'Pz + q'z, A z = b: B, ``inverse`` = B⁻¹ and ``last`` = C for all elements, ``moving`` = [N; M] of each. A
    vector in the place of P, B or B⁻¹ is a diagonal.
    """

    P: Tensor
    q: Tensor
    base: Tensor
    inverse: Tensor
    last: Tensor
    moving: Tensor
    b: Tensor

    def split(self, z: Tensor) -> Vectors:
        """(w, x), and of a vector of rows those of B and the others."""
        return z[..., : self.base.shape[-1]], z[..., self.base.shape[-1] :]

    def residual(self, z: Tensor, y: Tensor) -> Vectors:
        """(−q − P z − A'y, b − A z)."""
        (w, x), (first, rest) = self.split(z), self.split(y)
        still = torch.cat([on(self.base, w), times(self.last, w)], -1)
        pull = torch.cat([on(turned(self.base), first) + times(self.last.mT, rest), times(self.moving.mT, y)], -1)
        return -self.q - on(self.P, z) - pull, self.b - still - times(self.moving, x)

    def matrix(self) -> Tensor:
        """A."""
        base = self.base.diag() if self.base.ndim == 1 else self.base
        still = torch.cat([base, self.last])
        return torch.cat([still.expand(*self.moving.shape[:-2], *still.shape), self.moving], -1)


def stationary(p: Equations) -> tuple[Tensor, Tensor, Tensor]:
    """(z, y, whether the system is safely regular): solved without a graph, then corrected twice with one by the same
    factors, which gives the derivatives to second order.
    """
    known = Equations(*(t.detach() for t in p))
    make = folded if p.base.shape[-1] and readable(*p) else whole
    inverse, sound = make(known)
    z, y = inverse(-known.q, known.b)
    dz, dy = inverse(*known.residual(z, y))
    sound = sound & (_norm(dz) <= HALF * _norm(z))
    z, y = z + dz, y + dy
    for _ in range(2 if tracked(*p) else 0):
        dz, dy = inverse(*p.residual(z, y))
        z, y = z + dz, y + dy
    return z, y, sound


def whole(p: Equations) -> tuple[Inverse, Tensor]:
    """By LU of the whole system; 0 where it is singular."""
    n = p.q.shape[-1]
    solve, sound = _lu(_joined(p.P.diag() if p.P.ndim == 1 else p.P, p.matrix()))

    def inverse(f: Tensor, g: Tensor) -> Vectors:
        v = solve(torch.cat([f, g], -1))
        return v[..., :n], v[..., n:]

    return inverse, sound


def folded(p: Equations) -> tuple[Inverse, Tensor]:
    """By LU of the system in x and the multipliers of the last rows: w = B⁻¹g_1 + Z x with Z = −B⁻¹N."""
    count = p.base.shape[-1]
    z = -on_columns(p.inverse, p.moving[..., :count, :])
    if p.P.ndim == 1:
        ww, xx = p.P[:count], p.P[count:].diag()
        wx = xx.new_zeros(())
        half = on_columns(ww, z)
    else:
        ww, wx, xx = p.P[..., :count, :count], p.P[..., :count, count:], p.P[..., count:, count:]
        half = ww @ z + 2 * wx
    gram = z.mT @ half  # Z'P_ww Z + Z'P_wx + P_xw Z, once it is made symmetric
    solve, sound = _lu(_joined((gram + gram.mT) / 2 + xx, p.moving[..., count:, :] + p.last @ z))

    def inverse(f: Tensor, g: Tensor) -> Vectors:
        (f_w, f_x), (g_1, g_2) = p.split(f), p.split(g)
        start = on(p.inverse, g_1)
        pull = f_x + times(z.mT, f_w - on(ww, start))
        v = solve(torch.cat([pull - times(wx.mT, start) if wx.ndim else pull, g_2 - times(p.last, start)], -1))
        x, rest = v[..., : xx.shape[-1]], v[..., xx.shape[-1] :]
        w = start + times(z, x)
        left = f_w - on(ww, w) - times(p.last.mT, rest)
        first = on(turned(p.inverse), left - times(wx, x) if wx.ndim else left)
        return torch.cat([w, x], -1), torch.cat([first, rest], -1)

    return inverse, sound


def compact(matrix: Tensor) -> Tensor:
    """The diagonal, (n), of a matrix that all elements share and that has nothing beside it, else the matrix."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return diagonal if matrix.ndim == 2 and torch.equal(matrix, diagonal.diag()) else matrix


def on(matrix: Tensor, x: Tensor) -> Tensor:
    """M x of a ``compact`` M."""
    return matrix * x if matrix.ndim == 1 else times(matrix, x)


def on_columns(matrix: Tensor, x: Tensor) -> Tensor:
    """M X of a ``compact`` M."""
    return matrix.unsqueeze(-1) * x if matrix.ndim == 1 else matrix @ x


def turned(matrix: Tensor) -> Tensor:
    return matrix if matrix.ndim == 1 else matrix.mT


def _joined(p: Tensor, a: Tensor) -> Tensor:
    """[P A'; A 0]."""
    n, k = p.shape[-1], a.shape[-2]
    batch = torch.broadcast_shapes(p.shape[:-2], a.shape[:-2])
    if not k:
        return p.expand(*batch, n, n)
    upper = torch.cat([p.expand(*batch, n, n), a.mT.expand(*batch, n, k)], -1)
    return torch.cat([upper, torch.cat([a.expand(*batch, k, n), a.new_zeros(*batch, k, k)], -1)], -2)


def _lu(system: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """(r ↦ its solution, whether the least pivot is above HALF of the largest); r itself where it is not."""
    factors, pivots, _ = torch.linalg.lu_factor_ex(system)
    size = factors.diagonal(dim1=-2, dim2=-1).abs()
    sound = size.amin(-1) > HALF * size.amax(-1)
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
