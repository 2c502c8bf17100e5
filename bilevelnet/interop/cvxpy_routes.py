"""The ways to solve an imported problem, in order: the first that takes it is its solver.

closed_form, scalar, multiplier   a sum of pieces of the catalogue: φ, g and a linear f
quadratic                         cvxpy's program where all its rows are linear, by solve_qp
newton, splitting                 a sum of pieces of the catalogue that couple the entries otherwise
conic                             cvxpy's cone program: any DPP problem
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..values import readable
from .cvxpy_checks import Model
from .cvxpy_cone import Cone, Recovery, dual_constraints
from .cvxpy_confirm import differs
from .cvxpy_conic import Conic
from .cvxpy_match import Match
from .cvxpy_pair import PairSolver
from .cvxpy_quadratic import Quadratic
from .cvxpy_read import read
from .cvxpy_values import Parameters, Values

Found = tuple[list[Tensor], Tensor, Tensor | None, Tensor | None]


class Route:
    """A way to solve: the values of the variables, the status, and of each element, where ``full``, the residual, and
    the bound of the error in any entry where the solver has one.
    """

    name: str

    def solve(self, values: Values, full: bool = True) -> Found:
        raise NotImplementedError

    def explain(self) -> str:
        raise NotImplementedError


class ConeRoute(Route):
    """By a solver of cvxpy's canonical form, from which the variables are read off."""

    def __init__(self, solver: Any, recoveries: list[Recovery]):
        self.solver, self.recoveries, self.name = solver, recoveries, solver.name

    def solve(self, values: Values, full: bool = True) -> Found:
        x, y, status, residual, *bound = self.solver.solve(values, full)
        return [r(x, y) for r in self.recoveries], status, residual, *(bound or [None])

    def explain(self) -> str:
        return str(self.solver.explain())


class PairRoute(Route):
    """By φ and g of the catalogue, from z of which the variables are read off; elements in which a weight of φ is 0 by
    ``rest``, which gives the route of cvxpy's program.
    """

    def __init__(self, solver: PairSolver, recoveries: list[Recovery], rest: Callable[[], Route]):
        self.solver, self.recoveries, self.name = solver, recoveries, solver.name
        self.rest = cache(rest)

    def solve(self, values: Values, full: bool = True) -> Found:
        flat = self.solver.flat(values)
        if flat is None:
            return self._strict(values, full)
        found = self._strict(values.without(flat), full)
        return _merged(flat, self.rest().solve(values.without(~flat), full), found) if readable(flat) else found

    def _strict(self, values: Values, full: bool) -> Found:
        z, status, residual = self.solver.solve(values, full)
        return [r(z, None) for r in self.recoveries], status, residual, None

    def explain(self) -> str:
        words = self.solver.explain()
        return f"{words}; by cvxpy's program where a weight of φ is 0" if self.solver.match.degenerate else words


def _merged(mask: Tensor, one: Found, other: Found) -> Found:
    """``one`` where the mask says so, of which alone the error bound may be known."""
    z = [
        torch.where(mask.reshape(*mask.shape, *[1] * (b.ndim - mask.ndim)), a, b)
        for a, b in zip(one[0], other[0], strict=True)
    ]
    status = torch.where(mask, one[1], other[1])
    residual = None if one[2] is None or other[2] is None else torch.where(mask, one[2], other[2])
    return z, status, residual, None if one[3] is None else torch.where(mask, one[3], torch.nan)


def routes(model: Model, confirm: bool) -> tuple[Route, list[str]]:
    """The first route that takes the problem and, where ``confirm``, agrees with cvxpy; and why those before do not."""
    parameters = Parameters(model.parameters)
    reasons: list[str] = []

    def rest() -> Route:
        return _quadratic(model, parameters) if model.problem.is_qp() else _conic(model, parameters)

    attempts: list[tuple[str, Callable[[], Route]]] = [("not quadratic", lambda: _quadratic(model, parameters))]
    try:
        match, recoveries = _matched(model, parameters)
        direct, others = (
            ("not by the catalogue", lambda names=names: PairRoute(PairSolver(match, names), recoveries, rest))
            for names in (("closed_form", "scalar", "multiplier"), ("newton", "splitting"))
        )
        attempts = [direct, *attempts, others]
    except InputError as refusal:
        reasons.append(f"not by the catalogue: {refusal}")
    for words, attempt in attempts:
        try:
            route = attempt()
        except InputError as refusal:
            reasons += [r for r in [f"{words}: {refusal}"] if r not in reasons]
            continue
        if confirm and (gap := differs(model, route)):
            reasons.append(f"not {route.name}: {gap}")
            continue
        return route, reasons
    if not model.problem.is_dpp():
        raise InputError(
            f"a quadratic form whose matrix is a parameter needs a quadratic program: {'; '.join(reasons)}"
        )
    return _conic(model, parameters), reasons


def _matched(model: Model, parameters: Parameters) -> tuple[Match, list[Recovery]]:
    """φ, g and v, and how the variables are read off z."""
    if model.geometric:
        raise InputError("a geometric program")
    reading = read(model.problem, parameters)
    starts = {v.id: start for start, v in reading.shapes}
    if any(v.id not in starts for v in model.variables):
        raise InputError("dual variables are asked for")
    return Match(reading, parameters), [Recovery.plain(starts[v.id], v) for v in model.variables]


def _quadratic(model: Model, parameters: Parameters) -> Route:
    if not model.problem.is_qp():  # before cvxpy compiles it
        raise InputError("its objective or a constraint is not quadratic or piecewise linear")
    cone = Cone(model.problem, parameters, "CLARABEL", quad_form=True)
    recoveries = _recoveries(cone, model)
    return ConeRoute(Quadratic(cone, _asked(recoveries, False)), recoveries)


def _conic(model: Model, parameters: Parameters) -> Route:
    cone = Cone(model.problem, parameters, "DIFFCP")
    recoveries = _recoveries(cone, model)
    return ConeRoute(Conic(cone, (_asked(recoveries, False), _asked(recoveries, True))), recoveries)


def _asked(recoveries: list[Recovery], dual: bool) -> np.ndarray:
    """The entries of x, or of y, that are read off."""
    return np.unique([j for r in recoveries if r.dual is dual for j in r.place.tolist()]).astype(int)


def _recoveries(cone: Cone, model: Model) -> list[Recovery]:
    duals = dual_constraints(model.problem)
    return [cone.recovery(v, duals) for v in model.variables]
