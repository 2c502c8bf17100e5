"""Quadratic programs whose rows are all equations: one linear system, min ½z'Pz + q'z, A z = b."""

from __future__ import annotations

import torch
from torch import Tensor

from ..values import readable, tracked
from .cvxpy_eliminate import Program

# Of the least pivot to the largest, about 1/κ: below, there is no solution, or not one alone, or few digits are left.
PIVOT = 1e-12


def stationary(p: Program) -> tuple[Tensor, Tensor, Tensor]:
    """(z, y, whether P z + A'y = −q, A z = b is safely regular), by LU with pivots, which does not square what least
    squares problems have as their condition number; 0 where it is not.
    """
    n, k = p.q.shape[-1], p.b.shape[-1]
    batch = torch.broadcast_shapes(p.P.shape[:-2], p.A.shape[:-2])
    upper = torch.cat([p.P.expand(*batch, n, n), p.A.mT.expand(*batch, n, k)], -1)
    lower = torch.cat([p.A.expand(*batch, k, n), p.A.new_zeros(*batch, k, k)], -1)
    system = torch.cat([upper, lower], -2)
    whole = torch.broadcast_shapes(p.q.shape[:-1], p.b.shape[:-1], batch)
    right = torch.cat([-p.q.expand(*whole, n), p.b.expand(*whole, k)], -1)
    w, sound = _solved(system, right)
    if not readable(sound) or not bool(sound.all()):  # no derivative of a singular system
        keep = sound.unsqueeze(-1)
        eye = torch.eye(n + k, dtype=system.dtype, device=system.device)
        w, _ = _solved(torch.where(keep.unsqueeze(-1), system, eye), torch.where(keep, right, 0.0))
    return w[..., :n], w[..., n:], sound.expand(whole)


def _solved(system: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    factors, pivots, _ = torch.linalg.lu_factor_ex(system.detach())
    size = factors.diagonal(dim1=-2, dim2=-1).abs()
    sound = size.amin(-1) > PIVOT * size.amax(-1)
    shared = system.ndim == 2  # one system for all elements
    columns = right.reshape(-1, right.shape[-1]).mT if shared else right.unsqueeze(-1)
    if tracked(system, right):  # the derivative of the factors themselves would cost four times as much
        w = torch.linalg.solve_ex(system, columns)[0]
    else:
        w = torch.linalg.lu_solve(factors, pivots, columns)
    return w.mT.reshape(right.shape) if shared else w.squeeze(-1), sound
