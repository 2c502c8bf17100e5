"""cvxpy problems, solved and differentiated by cvxpylayers (Agrawal et al., 2019): proxes, quadratic programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer
from torch import Tensor

from ..cases.groups import fives, tikhonov


def _entropy_simplex(z: Any) -> tuple[Any, list[Any]]:
    return -cp.sum(cp.entr(z)) - cp.sum(z), [cp.sum(z) == 1]


def _energy_box(z: Any) -> tuple[Any, list[Any]]:
    return cp.sum_squares(z) / 2, [z >= 0, z <= 1]


def _fermi_dirac_l1(z: Any) -> tuple[Any, list[Any]]:
    return -cp.sum(cp.entr(z)) - cp.sum(cp.entr(1 - z)) + 0.1 * cp.norm1(z), []


def _fermi_dirac_huber(z: Any) -> tuple[Any, list[Any]]:
    # cp.huber is z² inside, and λ = 1, δ = 1/2.
    return -cp.sum(cp.entr(z)) - cp.sum(cp.entr(1 - z)) + cp.sum(cp.huber(z, 0.5)) / 2, []


def _fermi_dirac_simplex(z: Any) -> tuple[Any, list[Any]]:
    return -cp.sum(cp.entr(z)) - cp.sum(cp.entr(1 - z)), [z >= 0, cp.sum(z) == 1]


def _fermi_dirac_capped_simplex(z: Any) -> tuple[Any, list[Any]]:
    return -cp.sum(cp.entr(z)) - cp.sum(cp.entr(1 - z)), [z >= 0, z <= 1, cp.sum(z) == 5]


def _tv1d(z: Any) -> tuple[Any, list[Any]]:
    return cp.sum_squares(z) / 2 + 0.5 * cp.norm1(cp.diff(z)), []


def _entropy_tv1d(z: Any) -> tuple[Any, list[Any]]:
    return -cp.sum(cp.entr(z)) - cp.sum(z) + 0.5 * cp.norm1(cp.diff(z)), []


def _mahalanobis_groups(z: Any) -> tuple[Any, list[Any]]:
    factor = torch.linalg.cholesky(tikhonov(z.size)).numpy()
    norms = [cp.norm2(z[list(group)]) for group in fives(z.size)]
    return cp.sum_squares(factor.T @ z) / 2 + 0.5 * cp.sum(cp.hstack(norms)), []


PROBLEMS: dict[str, Callable[[Any], tuple[Any, list[Any]]]] = {
    "boltzmann_shannon + simplex": _entropy_simplex,
    "energy + box": _energy_box,
    "fermi_dirac + l1": _fermi_dirac_l1,
    "fermi_dirac + huber": _fermi_dirac_huber,
    "fermi_dirac + simplex": _fermi_dirac_simplex,
    "fermi_dirac + capped simplex": _fermi_dirac_capped_simplex,
    "energy + tv1d": _tv1d,
    "boltzmann_shannon + tv1d": _entropy_tv1d,
    "mahalanobis + group_lasso": _mahalanobis_groups,
}


def prox(name: str, n: int, method: str | None = "Clarabel") -> Callable[[Tensor], Tensor]:
    """v ↦ argmin_z φ(z) + g(z) − ⟨z, v⟩ in n variables.

    With Clarabel, the back end that is right on all of them, or with ``method`` None as the package does by default.
    """
    z, v = cp.Variable(n), cp.Parameter(n)
    objective, constraints = PROBLEMS[name](z)
    problem = cp.Problem(cp.Minimize(objective - v @ z), constraints)
    arguments = {} if method is None else {"solve_method": method}
    layer = CvxpyLayer(problem, parameters=[v], variables=[z], solver_args=arguments)
    return lambda x: layer(x)[0]


def program(Q: Tensor, G: Tensor, h: Tensor, solver: str | None = None) -> Callable[[Tensor], Tensor]:
    """q ↦ argmin_z ½ zᵀQz + qᵀz under G z ≤ h, Q as L Lᵀ: cvxpy takes no parameter for a square form."""
    n, m = Q.shape[-1], G.shape[-2]
    z, root, linear = cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(n)
    rows, right = cp.Parameter((m, n)), cp.Parameter(m)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(root.T @ z) / 2 + linear @ z), [rows @ z <= right])
    layer = CvxpyLayer(problem, parameters=[root, linear, rows, right], variables=[z], solver=solver)
    return lambda q: layer(torch.linalg.cholesky(Q), q, G, h)[0]
