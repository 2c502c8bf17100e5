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


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("condition", [1e6, 1e8, 1e10, 1e12, 1e16])
def test_an_ill_conditioned_element_is_within_its_bound_or_told(condition: float, moving: bool) -> None:
    generator = np.random.default_rng(1)
    a = graded(condition, generator)
    layer, given = bounded(a, moving, on_failure="ignore")
    shares = [0.0, 0.0, 1e-8, 1.0]
    b = np.array([a @ generator.standard_normal(3) + share * generator.standard_normal(5) for share in shares])
    solution = layer.solve(*given, torch.from_numpy(b))
    for z, right, converged, bound in zip(
        solution.values[0].numpy(), b, solution.converged, solution.error_bound, strict=True
    ):
        want = exact(a, right)
        error = np.abs(z - want).max()
        assert not converged or error <= 1e-6 * (1 + np.abs(want).max())  # ACCEPT
        assert bound.isnan() or error <= bound
    if condition == 1e6:
        assert bool(solution.converged[:2].all())


def test_derivatives_of_an_ill_conditioned_element() -> None:
    generator = np.random.default_rng(2)
    a = graded(1e7, generator)
    layer, _ = bounded(a, True)
    A, p = torch.from_numpy(a).requires_grad_(), torch.from_numpy(a @ np.array([0.3, -0.2, 0.5])).requires_grad_()
    (z,) = layer(A, p)
    found = torch.autograd.grad(z[0], [A, p], create_graph=True)
    row = torch.linalg.pinv(A.detach())[0]  # dx = A⁺(dp − dA x), as nothing is left of A x − p
    for g, want in zip(found, (-row.outer(z.detach()), row), strict=True):
        torch.testing.assert_close(g, want, rtol=1e-7, atol=1e-7 * float(want.abs().max()))  # 1e7 times eps, of sums
    assert bool(torch.autograd.grad(found[1].sum(), A)[0].isfinite().all())
    assert bool(torch.func.vmap(lambda m: layer(m, p.detach())[0])(A.detach()[None]).isnan().all())  # not read there


def test_several_minimisers_are_told() -> None:
    layer, _ = bounded(np.ones((5, 3)), True)
    with pytest.raises(bln.SolveError, match=r"known to .* only: of several minimisers"):
        layer(torch.ones(5, 3, dtype=F64), torch.ones(5, dtype=F64))
    x, c = cp.Variable(2), cp.Parameter(2)  # |x| ≤ 1 brings a variable of its own, which is free and not asked for
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x) + c @ x), [cp.abs(x) <= 1])
    layer = bln.from_cvxpy(problem, [c], [x])
    assert bool(layer.solve(torch.ones(2, dtype=F64)).converged)


def test_ill_conditioned_least_squares_are_bounded_below() -> None:
    x, A, p = cp.Variable(3), cp.Parameter((5, 3)), cp.Parameter(5)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(A @ x - p))), [A, p], [x], on_failure="ignore")
    generator = np.random.default_rng(3)
    for condition in (1e7, 1e9, 1e11, 1e13):
        a = graded(condition, generator)
        solution = layer.solve(torch.from_numpy(a), torch.from_numpy(a.sum(-1)))
        assert int(solution.status) in (bln.Status.converged, bln.Status.max_iter)  # unbounded, by rounding of A'A
        assert float((solution.values[0] - 1).abs().max()) <= float(solution.error_bound) <= 1e-14 * condition
