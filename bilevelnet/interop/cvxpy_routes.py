"""The ways to solve an imported problem, in order: the first that takes it is its solver.

closed_form, scalar, multiplier   a sum of pieces of the catalogue: φ, g and a linear f
quadratic                         cvxpy's program where all its rows are linear, by solve_qp
newton, splitting                 a sum of pieces of the catalogue that couple the entries otherwise
conic                             cvxpy's cone program: any DPP problem
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
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

    def faults(self, values: Values) -> list[tuple[str, Tensor]]:
        """What is wrong with the parameters for this route, and in which elements."""
        return []

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
    """By φ and g of the catalogue, from z of which the variables are read off."""

    def __init__(self, solver: PairSolver, recoveries: list[Recovery]):
        self.solver, self.recoveries, self.name = solver, recoveries, solver.name

    def solve(self, values: Values, full: bool = True) -> Found:
        z, status, residual = self.solver.solve(values, full)
        return [r(z, None) for r in self.recoveries], status, residual, None

    def faults(self, values: Values) -> list[tuple[str, Tensor]]:
        return self.solver.faults(values)

    def explain(self) -> str:
        return self.solver.explain()


def routes(model: Model, confirm: bool) -> tuple[Route, list[str]]:
    """The first route that takes the problem and, where ``confirm``, agrees with cvxpy; and why those before do not."""
    parameters = Parameters(model.parameters)
    reasons: list[str] = []
    attempts: list[tuple[str, Callable[[], Route]]] = [("not quadratic", lambda: _quadratic(model, parameters))]
    try:
        match, recoveries = _matched(model, parameters)
        direct, others = (
            ("not by the catalogue", lambda names=names: PairRoute(PairSolver(match, names), recoveries))
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
    return Match(reading), [Recovery.plain(starts[v.id], v) for v in model.variables]


def _quadratic(model: Model, parameters: Parameters) -> Route:
    if not model.problem.is_qp():  # before cvxpy compiles it
        raise InputError("its objective or a constraint is not quadratic or piecewise linear")
    cone = Cone(model.problem, parameters, "CLARABEL", quad_form=True)
    return ConeRoute(Quadratic(cone), _recoveries(cone, model))


def _conic(model: Model, parameters: Parameters) -> Route:
    cone = Cone(model.problem, parameters, "DIFFCP")
    recoveries = _recoveries(cone, model)
    asked = (np.unique([j for r in recoveries if r.dual is dual for j in r.place.tolist()]) for dual in (False, True))
    primal, dual = (a.astype(int) for a in asked)
    return ConeRoute(Conic(cone, (primal, dual)), recoveries)


def _recoveries(cone: Cone, model: Model) -> list[Recovery]:
    duals = dual_constraints(model.problem)
    return [cone.recovery(v, duals) for v in model.variables]
