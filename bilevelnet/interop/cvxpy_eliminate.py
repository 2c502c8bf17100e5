"""Equations of a quadratic program, solved beforehand for as many of the variables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ..numerics.kkt import largest, times
from .cvxpy_cone import Cone
from .cvxpy_equations import compact, on, on_columns, turned

GROWTH = 1e3  # the condition number up to which equations are solved beforehand: three digits of sixteen


class Program(NamedTuple):
    """min ½z'Pz + q'z, A z = b, G z ≤ h; matrices that all elements share have no batch dimensions."""

    P: Tensor
    q: Tensor
    A: Tensor
    b: Tensor
    G: Tensor
    h: Tensor

    @torch.no_grad()
    def residual(self, z: Tensor, y: Tensor, failed: Tensor) -> Tensor:
        """‖(P z + q + (A, G)'y, A z − b, min(y, h − G z))‖; ∞ where ``failed``."""
        p = self.b.shape[-1]
        force = times(self.P, z) + self.q + times(self.A.mT, y[..., :p]) + times(self.G.mT, y[..., p:])
        rows = torch.cat([times(self.A, z) - self.b, torch.minimum(y[..., p:], self.h - times(self.G, z))], -1)
        return torch.where(failed, torch.inf, torch.linalg.vector_norm(torch.cat([force, rows], -1), dim=-1))


class Moved(NamedTuple):
    """z = S x + e, and what the objective in x is divided by, as its root (…, 1): it takes off the units of P^½ S."""

    S: Tensor
    e: Tensor
    size: Tensor

    @classmethod
    def none(cls, p: Program) -> Moved:
        return cls(torch.eye(p.q.shape[-1]).to(p.q), torch.zeros_like(p.q), p.q.new_ones(1))


def basis(matrix: np.ndarray) -> np.ndarray | None:
    """Columns, in order, that are a well conditioned basis of the space of all of them; None where the rows are none or
    nearly dependent.
    """
    if not 0 < len(matrix) <= matrix.shape[1]:
        return None
    _, upper, order = scipy.linalg.qr(matrix, mode="economic", pivoting=True)
    size = np.abs(np.diag(upper))
    return np.sort(order[: len(matrix)]) if size[-1] * GROWTH > size[0] else None


def own(matrix: np.ndarray, moving: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows that have a variable to themselves, with a coefficient that is known; that variable, of several the one in
    the fewest rows ``beside``).
    """
    seen = (matrix != 0) | moving
    columns = np.flatnonzero((seen.sum(0) == 1) & ~moving.any(0))
    columns = columns[np.argsort(beside[:, columns].sum(0), kind="stable")]
    rows, first = np.unique(seen[:, columns].argmax(0), return_index=True)
    return rows, columns[first]


class Elimination:
    """F z = c, rows of A z = b, as z = S x + E c: B z_basic = c − N x, B square and without parameters.

    A row with a variable of its own, as cvxpy writes ‖F x − g‖² by w = F x − g, says what that is, parameters beside it
    or not; of the others those without parameters are solved where they are well conditioned.
    """

    diagonal = False  # P is, and has no parameters

    def __init__(self, matrix: np.ndarray, moving: np.ndarray, equations: int):
        beside = (matrix[equations:] != 0) | moving[equations:]
        matrix, moving, n = matrix[:equations], moving[:equations], matrix.shape[1]
        rows, basic = own(matrix, moving, beside)
        others = np.setdiff1d(np.flatnonzero(~moving.any(1)), rows)
        free = np.setdiff1d(np.flatnonzero(~moving.any(0)), basic)
        more = basis(matrix[np.ix_(others, free)])
        if more is not None:
            inside = np.linalg.solve(matrix[np.ix_(others, free[more])], matrix[others])
            if np.abs(inside).max(initial=0) <= GROWTH:
                rows, basic = np.concatenate([rows, others]), np.concatenate([basic, free[more]])
        rest = np.setdiff1d(np.arange(n), basic)
        self.fits = len(rows) > 0 and len(rest) > 0
        self.rows, self.basic, self.rest = (torch.from_numpy(i) for i in (rows, basic, rest))
        self.others = torch.from_numpy(np.setdiff1d(np.arange(len(matrix)), rows))
        inverse = compact(torch.from_numpy(np.linalg.inv(matrix[np.ix_(rows, basic)])))
        self.inverse, self.back = inverse, turned(inverse)
        self.z_back = torch.cat([self.basic, self.rest]).argsort()
        self.y_back = torch.cat([self.rows, self.others]).argsort()

    @classmethod
    def of(cls, cone: Cone) -> Elimination | None:
        """Of the equations of the cone program; None where there are none that are solved beforehand."""
        if not cone.dims.zero:
            return None
        found = cls(*cone.known(), cone.dims.zero)
        found.diagonal = cone.P is None or (cone.P.fixed and np.array_equal(*cone.P_place))
        return found if found.fits else None

    def reduced(self, p: Program) -> tuple[Program, Moved]:
        """(the program in x, what that is)."""
        first = p.A.index_select(-2, self.rows.to(p.q.device))
        inside = -on_columns(self.inverse.to(p.q), first.index_select(-1, self.rest.to(p.q.device)))
        eye = torch.eye(len(self.rest), dtype=p.q.dtype, device=p.q.device)
        at = self.z_back.to(p.q.device)
        s = torch.cat([inside, eye.expand(*inside.shape[:-2], *eye.shape)], -2).index_select(-2, at)
        start = on(self.inverse.to(p.q), p.b.index_select(-1, self.rows.to(p.q.device)))
        e = torch.nn.functional.pad(start, (0, len(eye))).index_select(-1, at)
        place = self.others.to(p.q.device)
        a, b = p.A.index_select(-2, place), p.b.index_select(-1, place)
        size = _size(p.P, s)
        share, P = s / size.unsqueeze(-1), p.P.diagonal() if self.diagonal and p.P.ndim == 2 else p.P
        force = (p.q + on(P, e)) / size
        square, linear = share.mT @ on_columns(P, share), times(share.mT, force)
        small = Program(square, linear, a @ s, b - times(a, e), p.G @ s, p.h - times(p.G, e))
        return small, Moved(s, e, size)

    def recovered(self, p: Program, moved: Moved, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(z, multipliers of A and of G) from those of the program in x: B'y_F is what is left of the force."""
        z, y = times(moved.S, x) + moved.e, y * moved.size.square()
        k = len(self.others)
        place = self.others.to(x.device)
        force = times(p.P, z) + p.q + times(p.A.index_select(-2, place).mT, y[..., :k]) + times(p.G.mT, y[..., k:])
        first = -on(self.back.to(x), force.index_select(-1, self.basic.to(x.device)))
        equations = torch.cat([first, y[..., :k]], -1).index_select(-1, self.y_back.to(x.device))
        return z, torch.cat([equations, y[..., k:]], -1)


def _size(P: Tensor, s: Tensor) -> Tensor:
    """The largest entry of S in the rows that P holds, as a power of two (…, 1)."""
    inside = torch.where(P.detach().abs().sum(-1, keepdim=True) > 0, s.detach(), 0.0)
    size = largest(inside.flatten(-2))
    return torch.where(size > 0, size, 1.0).log2().round().exp2().unsqueeze(-1)
