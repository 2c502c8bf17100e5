"""Entropies of other intervals: x = t + d x' moves them onto those of the catalogue, (0, ∞), (0, 1) and (−1, 1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .cvxpy_quantity import Quantity
from .cvxpy_read import Line, Reading, Rows, Term, kind

ENTROPIES = ("entr", "log", "kl_div", "rel_entr")  # of each entry s x_j + o; GeoMean of two such rows


class Move(NamedTuple):
    """x = shift + scale x', one number an entry."""

    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, reading: Reading) -> Move | None:
        """The one that the entropies of the objective ask for, None where it moves nothing."""
        ends: dict[int, list[tuple[float, int]]] = {}  # where the argument of an entropy of x_j is 0, and its sign
        centred = set()
        for term in reading.objective.terms:
            name = kind(term.atom)
            for rows in term.arguments if name in ENTROPIES or name == "GeoMean" else ():
                for j, end, sign in _ends(rows):
                    ends.setdefault(j, []).append((end, sign))
                    centred |= {j} if name == "GeoMean" else set()
        shift, scale = np.zeros(reading.n), np.ones(reading.n)
        for j, found in ends.items():
            shift[j], scale[j] = _placed(found, j in centred)
        return None if not shift.any() and (scale == 1).all() else cls(shift, scale)

    def reading(self, reading: Reading) -> Reading:
        """The same problem in x'."""
        goal, d = reading.objective, Quantity(self.scale)
        objective = Line(Rows(None, goal.rows.offset * d), [self._term(t) for t in goal.terms])
        told = [
            (Line(self._rows(line.rows), [self._term(t) for t in line.terms]), equal, c)
            for line, equal, c in reading.constraints
        ]
        ends = [(end - Quantity(self.shift)) / d for end in (reading.lower, reading.upper)]
        mirrored = torch.from_numpy(self.scale < 0)
        lower, upper = (
            a.map(lambda p, q: torch.where(mirrored.to(p.device), q, p), b) for a, b in (ends, reversed(ends))
        )
        return reading._replace(objective=objective, constraints=told, lower=lower, upper=upper)

    def _term(self, term: Term) -> Term:
        return term._replace(arguments=[self._rows(r) for r in term.arguments])

    def _rows(self, rows: Rows) -> Rows:
        own = rows.moving
        if own is None:
            return Rows(sp.csr_array(rows.matrix * self.scale), rows.offset + Quantity(rows.matrix @ self.shift))
        d, t = torch.from_numpy(self.scale), torch.from_numpy(self.shift)
        moved = own._replace(matrix=own.matrix.map(lambda m: m * d.to(m)))
        if own.index is not None:
            moved = moved._replace(scale=own.scale * Quantity(self.scale[own.index]))
        return Rows(None, rows.offset + own.matrix.map(lambda m: m @ t.to(m)), moved)

    def back(self, z: Tensor) -> Tensor:
        """x at x' = z."""
        d, t = (torch.from_numpy(a).to(z) for a in (self.scale, self.shift))
        return t + d * z


def _ends(rows: Rows) -> list[tuple[int, float, int]]:
    """(j, end, sign) of each row s x_j + o of known numbers: it is 0 at the end and has this sign beyond it."""
    if rows.moving is not None or rows.offset.fixed is None:
        return []
    matrix = rows.matrix.tocoo()
    offset = rows.offset.fixed.expand(rows.matrix.shape[0]).numpy()
    if len(matrix.row) != len(set(matrix.row.tolist())):
        return []
    entries = zip(matrix.row, matrix.col, matrix.data, strict=True)
    return [(int(j), float(-offset[i] / s), int(np.sign(s))) for i, j, s in entries]


def _placed(ends: list[tuple[float, int]], centred: bool) -> tuple[float, float]:
    """(t, d) of one entry: of the least end from above, from there to the greatest from below where there is one."""
    low, high = ([end for end, sign in ends if sign == s] for s in (1, -1))
    if centred:
        return ((low[0] + high[0]) / 2, (high[0] - low[0]) / 2) if low and high else (0.0, 1.0)
    if low and high:
        return low[0], high[0] - low[0]
    return (low[0], 1.0) if low else (high[0], -1.0)
