"""Equations of a quadratic program whose coefficients are known, solved beforehand for as many of the variables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ..numerics.kkt import times
from .cvxpy_cone import Cone

GROWTH = 1e3  # the condition number up to which equations are solved beforehand: three digits of sixteen


class Program(NamedTuple):
    """min ½z'Pz + q'z, A z = b, G z ≤ h; matrices that all elements share have no batch dimensions."""

    P: Tensor
    q: Tensor
    A: Tensor
    b: Tensor
    G: Tensor
    h: Tensor


def basis(matrix: np.ndarray) -> np.ndarray | None:
    """Columns, in order, that are a well conditioned basis of the space of all of them; None where the rows are none or
    nearly dependent.
    """
    if not 0 < len(matrix) <= matrix.shape[1]:
        return None
    _, upper, order = scipy.linalg.qr(matrix, mode="economic", pivoting=True)
    size = np.abs(np.diag(upper))
    return np.sort(order[: len(matrix)]) if size[-1] * GROWTH > size[0] else None


class Elimination:
    """F z = c, the rows of A z = b without parameters, as z = S x + E c: B z_basic = c − N x, B square."""

    def __init__(self, matrix: np.ndarray, rows: np.ndarray, count: int):
        self.rows = torch.from_numpy(rows)
        self.others = torch.from_numpy(np.delete(np.arange(count), rows))
        n, basic = matrix.shape[1], basis(matrix)
        self.fits = basic is not None and len(rows) < n
        if basic is None or not self.fits:
            return
        self.basic, rest, base = basic, np.delete(np.arange(n), basic), matrix[:, basic]
        spread, given = np.zeros((n, len(rest))), np.zeros((n, len(rows)))
        spread[rest, np.arange(len(rest))] = 1
        spread[self.basic] = -np.linalg.solve(base, matrix[:, rest])
        given[self.basic] = np.linalg.inv(base)
        self.spread, self.given, self.back = (torch.from_numpy(m) for m in (spread, given, given[self.basic].T))
        self.fits = bool(np.abs(spread).max(initial=0) <= GROWTH)

    @classmethod
    def of(cls, cone: Cone) -> Elimination | None:
        """Of the equations of the cone program; None where there are none, or they are nearly dependent."""
        equations = cone.dims.zero
        matrix, moving = cone.known()
        rows = np.flatnonzero(~moving[:equations].any(1))
        found = cls(matrix[rows], rows, equations)
        return found if found.fits else None

    def reduced(self, p: Program) -> tuple[Program, Tensor]:
        """(the program in x, E c)."""
        s, e = self.spread.to(p.q.device), times(self.given.to(p.q.device), p.b[..., self.rows])
        a, b = p.A[..., self.others, :], p.b[..., self.others]
        force = p.q + times(p.P, e)
        return Program(s.mT @ p.P @ s, force @ s, a @ s, b - times(a, e), p.G @ s, p.h - times(p.G, e)), e

    def recovered(self, p: Program, e: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(z, multipliers of A and of G) from those of the program in x: B'y_F is what is left of the force."""
        z = times(self.spread.to(x.device), x) + e
        k = len(self.others)
        force = times(p.P, z) + p.q + times(p.A[..., self.others, :].mT, y[..., :k]) + times(p.G.mT, y[..., k:])
        own = -times(self.back.to(x.device), force[..., self.basic])
        place = torch.cat([self.rows, self.others]).argsort().to(x.device)
        equations = torch.cat([own, y[..., :k]], -1).index_select(-1, place)
        return z, torch.cat([equations, y[..., k:]], -1)
