"""Bounded least squares written in cvxpy: what its size and condition make of the digits, against 100 of them."""

from __future__ import annotations

import itertools
from typing import Any

import cvxpy as cp
import mpmath
import numpy as np
import pytest
import torch

import bilevelnet as bln

F64 = torch.float64


def graded(condition: float, generator: np.random.Generator) -> np.ndarray:
    """A 5 × 3 matrix with singular values from 1 to 1/condition."""
    left, right = (np.linalg.qr(generator.standard_normal((k, 3)))[0] for k in (5, 3))
    return np.asarray(left @ np.diag(np.geomspace(1, 1 / condition, 3)) @ right.T)


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """argmin ‖A x − b‖ under −1 ≤ x ≤ 1: of all sets of active bounds the one that fits, in 100 digits."""
    with mpmath.workdps(100):
        size = float(abs(a).max())
        rows, level = mpmath.matrix(a.tolist()) / size, mpmath.matrix(b.tolist()) / size
        gram, pull = rows.T * rows, rows.T * level
        for held in itertools.product((0, -1, 1), repeat=3):
            system, right = gram.copy(), pull.copy()
            for i in (i for i in range(3) if held[i]):
                system[i, :], right[i] = mpmath.zeros(1, 3), held[i]
                system[i, i] = 1
            x = mpmath.lu_solve(system, right)
            force = gram * x - pull
            if all(abs(x[i]) <= 1 if not held[i] else held[i] * force[i] <= 0 for i in range(3)):
                return np.array([float(t) for t in x])
    raise AssertionError


def bounded(a: np.ndarray, moving: bool, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    """The layer of argmin ‖A x − p‖², |x| ≤ 1, A a parameter or not, and the tensors before p."""
    x, A, p = cp.Variable(3), cp.Parameter((5, 3)), cp.Parameter(5)
    problem = cp.Problem(cp.Minimize(cp.sum_squares((A if moving else a) @ x - p)), [x >= -1, x <= 1])
    layer = bln.from_cvxpy(problem, [A, p] if moving else [p], [x], confirm=False, **options)
    assert layer.route.name == "quadratic"
    return layer, [torch.from_numpy(a)] if moving else []


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("size", [1e-170, 1e-100, 1e-6, 1e6, 1e150])
def test_units_of_the_matrix_change_nothing(size: float, moving: bool) -> None:
    generator = np.random.default_rng(0)
    a = size * graded(10.0, generator)
    layer, given = bounded(a, moving)
    for share in (0.0, 1.0):
        b = a @ generator.standard_normal(3) + share * size * generator.standard_normal(5)
        (z,) = layer(*given, torch.from_numpy(b))
        torch.testing.assert_close(z, torch.from_numpy(exact(a, b)), atol=1e-13, rtol=0)  # 10² times eps, of sums of 5
