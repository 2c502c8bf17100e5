"""A table of cvxpy problems: (name, solver that must be chosen, builder of (problem, parameters, variables), points).

A builder makes a problem of a small size; ``points`` are the parameters at which it is solved, drawn from a seed: away
from the kinks of the solution, almost surely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor


class Case(NamedTuple):
    """One problem. ``solver``: the one that must be chosen. ``draw``: of a generator, one tensor a parameter."""

    name: str
    solver: str
    build: Callable[[], tuple[cp.Problem, list[Any], list[Any]]]
    draw: Callable[[torch.Generator, Any], Tensor]


def _normal(g: torch.Generator, p: Any) -> Tensor:
    """N(0, 1), made nonnegative, symmetric or positive semidefinite as the parameter was declared."""
    x = torch.randn(p.shape, generator=g, dtype=torch.float64)
    if any(p.attributes.get(a) for a in ("nonneg", "pos")):
        return 0.2 + x.abs()
    if p.attributes.get("PSD"):
        return x @ x.mT + torch.eye(len(x), dtype=x.dtype)
    return x + x.mT if p.attributes.get("symmetric") else x


def _positive(g: torch.Generator, p: Any) -> Tensor:
    return 0.5 + torch.rand(p.shape, generator=g, dtype=torch.float64)


CASES: dict[str, Case] = {}


def case(solver: str, draw: Callable[[torch.Generator, Any], Tensor] = _normal) -> Any:
    def register(build: Any) -> Any:
        CASES[build.__name__] = Case(build.__name__, solver, build, draw)
        return build

    return register


N = 4


@case("conic")
def socp():
    x, p, r = cp.Variable(N), cp.Parameter(N), cp.Parameter(nonneg=True)
    a = np.array([[1.0, 0.5, 0, 0], [0, 1, -0.5, 0], [0.2, 0, 1, 1]])
    return cp.Problem(cp.Minimize(cp.norm(x - p) + cp.sum_squares(x)), [cp.norm(a @ x) <= r]), [p, r], [x]


@case("conic")
def sdp():
    x, c = cp.Variable((3, 3), symmetric=True), cp.Parameter((3, 3), symmetric=True)
    return cp.Problem(cp.Minimize(cp.trace(c @ x) + cp.sum_squares(x)), [x >> 0, cp.trace(x) == 1]), [c], [x]


@case("conic", _positive)
def geometric_programme():
    x, y, z = (cp.Variable(pos=True) for _ in range(3))
    a, b, c = cp.Parameter(pos=True), cp.Parameter(pos=True), cp.Parameter()
    constraints = [a * (x * y + x * z + y * z) <= b, x >= y**c]
    return cp.Problem(cp.Minimize(1 / (x * y * z)), constraints), [a, b, c], [x, y, z]


@case("conic")
def logistic_regression():
    x, p, lam = cp.Variable(2), cp.Parameter((5, 2)), cp.Parameter(nonneg=True)
    return cp.Problem(cp.Minimize(cp.sum(cp.logistic(p @ x)) + lam * cp.sum_squares(x - 1))), [p, lam], [x]


@case("conic", _positive)
def two_variables_and_an_entropy():
    x, y, p, q = cp.Variable(3), cp.Variable(3), cp.Parameter(3), cp.Parameter(3)
    objective = -cp.sum(cp.entr(x)) - p @ x + cp.sum_squares(y - q)
    return cp.Problem(cp.Minimize(objective), [cp.sum(x) == 1, x + y >= 0.5]), [p, q], [x, y]
