"""The order in which the equations of a cone program are solved: first the columns and rows of a fixed square block."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..values import readable
from .cvxpy_cone import Cone, fill
from .cvxpy_eliminate import basis
from .cvxpy_equations import Equations, compact
from .cvxpy_values import Values


class Order:
    """z and the rows of A z = b in the order of ``Equations``, and back: the block B is sought among the columns that
    hold no parameter, and in the rows that they have entries in; empty where it is not well conditioned.
    """

    def __init__(self, cone: Cone):
        self.cone = cone
        matrix, moving = cone.known()
        still = np.flatnonzero(~moving.any(0))
        rows = np.flatnonzero(matrix[:, still].any(1))
        chosen = basis(matrix[np.ix_(rows, still)]) if len(rows) < cone.n else None
        w, rows = (still[:0], rows[:0]) if chosen is None else (still[chosen], rows)
        z, y = (np.concatenate([i, np.delete(np.arange(n), i)]) for i, n in ((w, cone.n), (rows, cone.m)))
        self.z, self.y, self.z_back, self.y_back = (torch.from_numpy(i) for i in (z, y, np.argsort(z), np.argsort(y)))
        base = matrix[np.ix_(rows, w)]
        self.base, self.inverse = (compact(torch.from_numpy(m)) for m in (base, np.linalg.inv(base)))
        self.last = torch.from_numpy(matrix[np.ix_(y[len(rows) :], w)])
        self.shape = cone.m, cone.n - len(w)
        row, column = cone.A_place
        column = np.argsort(z)[column] - len(w)
        kept = np.flatnonzero(column >= 0)
        self.entries = None if cone.A is None else cone.A.take(kept)
        self.where = torch.from_numpy(np.argsort(y)[row[kept]] * self.shape[1] + column[kept])

    def moving(self, values: Values) -> Tensor:
        """The columns of A beside those of B, in order."""
        if self.entries is None:
            return values.like.new_zeros(self.shape)
        return fill(self.entries(values), self.where, self.shape)

    def equations(self, P: Tensor, q: Tensor, moving: Tensor, b: Tensor) -> Equations:
        """Of P, q and b as the cone program has them."""
        at = self.z.to(q.device)
        P = P.index_select(-1, at).index_select(-2, at)
        constants = self.base.to(q), self.inverse.to(q), self.last.to(q)
        if readable(P) and (self.cone.P is None or self.cone.P.fixed):
            P = compact(P)
        return Equations(P, q.index_select(-1, at), *constants, moving, b.index_select(-1, self.y.to(q.device)))

    def back(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(z, y) in the order of the cone program."""
        return z.index_select(-1, self.z_back.to(z.device)), y.index_select(-1, self.y_back.to(y.device))

    def rows(self, p: Equations) -> Tensor:
        """A in the order of the cone program."""
        a = p.matrix()
        return a.index_select(-1, self.z_back.to(a.device)).index_select(-2, self.y_back.to(a.device))
