"""What the constraints of a problem say: ends for each entry, equations, balls, and conditions on the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .cvxpy_atoms import add
from .cvxpy_join import Ball, ball
from .cvxpy_parts import Parts
from .cvxpy_quantity import Quantity
from .cvxpy_read import Line, Reading, Rows, exponent, kind, tall
from .cvxpy_values import Values

LARGEST = ("maximum", "max", "abs", "norm_inf", "minimum", "min")  # of the arguments, or with a negative weight


class Sets:
    """lower ≤ x ≤ upper, equations M x + o = 0 and inequalities M x + o ≤ 0 of several entries each, balls.

    ``infeasible``: where no x meets them, as far as told.
    """

    def __init__(self, reading: Reading):
        self.n = reading.n
        self.lower, self.upper = reading.lower, reading.upper
        self.equations: list[Rows] = []
        self.inequalities: list[Rows] = []
        self.balls: list[Ball] = []
        self.infeasible: list[Quantity] = []
        for line, equal, constraint in reading.constraints:
            try:
                if line.terms:
                    self._bounded(line)
                else:
                    self._linear(line.rows, equal)
            except InputError as refusal:
                raise InputError(f"{constraint}: {refusal}") from refusal
        self.exclude(self.lower.map(torch.gt, self.upper))

    def exclude(self, broken: Quantity) -> None:
        """No x where ``broken`` has an entry that is not 0; nothing to keep where it is known to have none."""
        if not broken.is_number(0.0):
            self.infeasible.append(broken)

    def _linear(self, rows: Rows, equal: bool) -> None:
        counts = np.diff(rows.matrix.indptr)
        empty, one, more = (np.flatnonzero(t) for t in (counts == 0, counts == 1, counts > 1))
        if len(empty):
            offset = rows.offset.take(empty)  # a condition on the parameters alone
            beyond = (lambda o, slack: o.abs() > slack) if equal else torch.gt
            self.exclude(offset.map(beyond, offset.rounding()))
        if len(more):
            found = self.equations if equal else self.inequalities
            found.append(Rows(rows.matrix[more], rows.offset.take(more)))
        if len(one):
            matrix = rows.matrix[one]
            index, scale = matrix.indices, matrix.data
            end = -(rows.offset.take(one) / Quantity(scale))
            self._ends(index, end, scale > 0, equal)

    def _ends(self, index: np.ndarray, end: Quantity, upper: np.ndarray, equal: bool = False) -> None:
        """x at the index is ≤ end where ``upper``, else ≥ end; or both."""
        for above in (True, False):
            mine = np.flatnonzero((upper == above) | equal)
            while len(mine):  # rows that name one entry again wait for their turn
                _, first = np.unique(index[mine], return_index=True)
                rows, mine = mine[np.sort(first)], np.delete(mine, first)
                fill = np.inf if above else -np.inf
                limit = end.take(rows).spread(index[rows], self.n, fill)
                if above:
                    self.upper = limit if self.upper.is_number(np.inf) else self.upper.map(torch.minimum, limit)
                else:
                    self.lower = limit if self.lower.is_number(-np.inf) else self.lower.map(torch.maximum, limit)

    def _bounded(self, line: Line) -> None:
        """Σ weight · atom + rows ≤ 0."""
        if (every := self._each(line)) is not None:
            for rows in every:
                self._linear(rows, False)
            return
        if line.rows.matrix.shape[0] != 1:
            raise InputError("atoms with a value for each of several rows")
        parts = Parts(self.n)
        for term in line.terms:
            add(parts, term)
        parts.add_linear(line.rows, Quantity(1.0))
        found = ball(parts)
        self.exclude(found.radius.map(_no_radius))
        self.balls.append(found._replace(radius=found.radius.map(_radius)))

    def _each(self, line: Line) -> list[Rows] | None:
        """The rows that must all be ≤ 0, where each row of the line holds a largest of affine functions or a square."""
        term, name, size = line.terms[0], kind(line.terms[0].atom), line.rows.matrix.shape[0]
        square = name == "Power" and exponent(term.atom) == 2 and not line.rows.matrix.nnz
        if len(line.terms) > 1 or term.atom.size != size or not (name in LARGEST or square):
            return None
        if getattr(term.atom, "axis", None) is not None:
            return None
        if (weight := term.weight.number) is None:
            raise InputError("an atom with a weight that is a parameter, or differs from row to row")
        rest, found = line.rows, [*term.arguments]
        if square:  # |M x + o| ≤ √level
            level = rest.offset / Quantity(-weight)
            self.exclude(level.map(lambda t: t < 0))
            rest, weight = Rows(rest.matrix, -level.map(lambda t: t.clamp(min=0).sqrt())), 1.0
        if name in ("abs", "norm_inf") or square:
            found.append(Rows(-found[0].matrix, -found[0].offset))
        size = max(size, *(r.matrix.shape[0] for r in found))
        rest = tall(rest, size)
        return [
            Rows(r.matrix * weight + rest.matrix, r.offset * Quantity(weight) + rest.offset)
            for r in (tall(r, size) for r in found)
        ]


def _no_radius(r: Tensor) -> Tensor:
    return ~(r >= 0)


def _radius(r: Tensor) -> Tensor:
    """0 in place of a root of a negative number, in an element that is told to be infeasible."""
    return torch.where(r >= 0, r, 0.0)


def infeasible(conditions: list[Quantity], values: Values) -> Tensor | None:
    """Where some condition has an entry that is not 0, over the batch; None where there is no condition."""
    found: Any = None
    for condition in conditions:
        mask = (condition.at(values) != 0).any(-1)
        found = mask if found is None else found | mask
    return found
