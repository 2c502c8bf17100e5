"""The ways to solve an imported problem, in order: the first that takes it is its solver."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .cvxpy_checks import Model
from .cvxpy_cone import Cone, Recovery, dual_constraints
from .cvxpy_conic import Conic
from .cvxpy_values import Parameters, Values


class Route:
    """A way to solve: the values of the variables, the status and the residual of each element."""

    name: str

    def solve(self, values: Values) -> tuple[list[Tensor], Tensor, Tensor]:
        raise NotImplementedError

    def explain(self) -> str:
        raise NotImplementedError


class ConeRoute(Route):
    """By a solver of cvxpy's canonical form, from which the variables are read off."""

    def __init__(self, solver: Any, recoveries: list[Recovery]):
        self.solver, self.recoveries, self.name = solver, recoveries, solver.name

    def solve(self, values: Values) -> tuple[list[Tensor], Tensor, Tensor]:
        x, y, status, residual = self.solver.solve(values)
        return [r(x, y) for r in self.recoveries], status, residual

    def explain(self) -> str:
        return str(self.solver.explain())


def routes(model: Model, confirm: bool) -> tuple[Route, list[str]]:
    """The first route that takes the problem, and why those before it do not."""
    parameters = Parameters(model.parameters)
    cone = Cone(model.problem, parameters, "DIFFCP")
    duals = dual_constraints(model.problem)
    return ConeRoute(Conic(cone), [cone.recovery(v, duals) for v in model.variables]), []
