"""What the constraints of a problem say: ends for each entry, equations, balls, and conditions on the parameters."""

from __future__ import annotations

<<<<<<< HEAD
from typing import Any, NamedTuple
=======
from collections.abc import Callable
from typing import Any
>>>>>>> 4b3bd6e (from_cvxpy: balls however they are written; norms, squares and inequalities of several entries as compositions, for splitting and Newton)

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .cvxpy_atoms import add
from .cvxpy_join import Ball, ball
from .cvxpy_parts import Parts
from .cvxpy_quantity import Quantity
from .cvxpy_read import Line, Reading, Rows, kind, tall
from .cvxpy_values import Values


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
            offset = rows.offset.take(empty)
            slack = 1e-9  # a condition on the parameters alone, computed with rounding
            self.exclude(offset.map((lambda o: o.abs() > slack) if equal else (lambda o: o > slack)))
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

<<<<<<< HEAD
    def _bounded(self, line: Line, equal: bool) -> None:
        """atom ≤ r, of one atom with a fixed weight."""
        if equal or len(line.terms) > 1 or line.rows.matrix.nnz:
            raise InputError("a constraint on a sum of atoms")
        term = line.terms[0]
        if line.rows.matrix.shape[0] != term.atom.size:
            raise InputError("a constraint on a sum of atoms")
        if term.weight.fixed is None or not bool((term.weight.fixed > 0).all()):
            raise InputError("an atom with a weight that is a parameter")
        name, level, rows = kind(term.atom), -(line.rows.offset / term.weight), term.arguments[0]
        axis = getattr(term.atom, "axis", None)
        if name in ("maximum", "max") and axis is None:
            for r in term.arguments:
                self._linear(Rows(r.matrix, r.offset - level), False)
        elif (name == "abs" or name == "norm_inf") and axis is None:
            self._linear(Rows(rows.matrix, rows.offset - level), False)
            self._linear(Rows(-rows.matrix, -rows.offset - level), False)
        elif ((name == "Pnorm" and exponent(term.atom) == 2) or name == "norm1") and axis is None:
            self._ball(name, rows, level)
        elif name == "quad_over_lin" and axis is None and not term.arguments[1].matrix.nnz:
            square = level * term.arguments[1].offset
            self.exclude(square.map(lambda s: s < 0))
            self._ball("Pnorm", rows, square.map(lambda t: t.clamp(min=0).sqrt()))
        else:
            raise InputError(f"{name} with these arguments bounds no set of the catalogue")

    def _ball(self, name: str, rows: Rows, radius: Quantity) -> None:
        g = group(Parts(self.n), rows, Quantity(1.0), "a ball")
        if len(g.index) != self.n:
            raise InputError("a ball of some of the entries")
        radius = radius / g.weight
        self.exclude(radius.map(lambda r: r < 0))
        self.balls.append(Ball(name, radius, g.shift))
=======
    def _bounded(self, line: Line) -> None:
        """Σ weight · atom + rows ≤ 0."""
        largest = _largest(line)
        if largest is not None:
            for rows in largest:
                self._linear(rows, False)
            return
        if line.rows.matrix.shape[0] != 1:
            raise InputError("atoms with a value for each of several rows")
        parts = Parts(self.n)
        for term in line.terms:
            add(parts, term)
        parts.add_linear(line.rows, Quantity(1.0))
        found = ball(parts)
        self.infeasible.append(lambda values: ~(found.radius.at(values) >= 0).all(-1))
        self.balls.append(found._replace(radius=found.radius.map(lambda t: t.nan_to_num(0.0).clamp(min=0))))


def _largest(line: Line) -> list[Rows] | None:
    """The rows that must all be ≤ 0, where the line holds one atom and that is a largest of affine functions."""
    term, name = line.terms[0], kind(line.terms[0].atom)
    whole = getattr(term.atom, "axis", None) is None
    if len(line.terms) > 1 or name not in ("maximum", "max", "abs", "norm_inf") or not whole:
        return None
    if term.weight.number is None or term.weight.number <= 0:
        raise InputError("an atom with a weight that is a parameter")
    weight, found = term.weight.number, list(term.arguments)
    if name in ("abs", "norm_inf"):
        found.append(Rows(-found[0].matrix, -found[0].offset))
    size = max(line.rows.matrix.shape[0], *(r.matrix.shape[0] for r in found))
    rest = tall(line.rows, size)
    return [
        Rows(r.matrix * weight + rest.matrix, r.offset * Quantity(weight) + rest.offset)
        for r in (tall(r, size) for r in found)
    ]
>>>>>>> 4b3bd6e (from_cvxpy: balls however they are written; norms, squares and inequalities of several entries as compositions, for splitting and Newton)


def infeasible(conditions: list[Quantity], values: Values) -> Tensor | None:
    """Where some condition has an entry that is not 0, over the batch; None where there is no condition."""
    found: Any = None
    for condition in conditions:
        mask = (condition.at(values) != 0).any(-1)
        found = mask if found is None else found | mask
    return found
