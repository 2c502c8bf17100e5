"""What the conic route states of its error holds, against solutions found in another way."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import Any

import cvxpy as cp
import mpmath
import numpy as np
import pytest
import torch
from cvxpy_problems import CASES
from test_cvxpy import points, pulled

import bilevelnet as bln
from bilevelnet.interop import cvxpy_conic, cvxpy_routes
from bilevelnet.interop.cvxpy_values import Parameters

F64 = torch.float64
ROUTED = [name for name, case in CASES.items() if case.solver != "conic"]


def conic(layer: Any) -> Any:
    """The same layer by its cone program."""
    layer.route = cvxpy_routes._conic(layer.model, Parameters(layer.model.parameters))
    return layer


@pytest.mark.parametrize(
    "name", [name if k % 4 == 0 else pytest.param(name, marks=pytest.mark.heavy) for k, name in enumerate(ROUTED)]
)
def test_the_bound_holds_against_our_exact_solvers(name: str) -> None:
    built, tensors = CASES[name].build(), points(name)
    exact = bln.from_cvxpy(*built, confirm=False)(*tensors)
    solution = conic(bln.from_cvxpy(*built, confirm=False)).solve(*tensors)
    assert solution.converged.all()
    for z, w in zip(solution.values, exact, strict=True):
        gap = (z - w).detach().abs().reshape(len(z), -1).amax(-1)
        assert bool((gap <= solution.error_bound + 1e-12).all())  # EXACT of the other side
        assert float(gap.max()) <= 1e-12
    for g, h in zip(pulled(solution.values, tensors), pulled(exact, tensors), strict=True):
        torch.testing.assert_close(g, h, atol=1e-9, rtol=1e-9)  # the damping of 1e-12 times conditions of 10 to 100


def graded(condition: float, generator: np.random.Generator) -> np.ndarray:
    """A 7 × 4 matrix with singular values from 1 to 1/condition."""
    left, right = (np.linalg.qr(generator.standard_normal((k, 4)))[0] for k in (7, 4))
    return np.asarray(left @ np.diag(np.geomspace(1, 1 / condition, 4)) @ right.T)


def nearest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """argmin ‖A x − b‖ in 60 digits."""
    with mpmath.workdps(60):
        rows, level = mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist())
        return np.array([float(t) for t in mpmath.lu_solve(rows.T * rows, rows.T * level)])


def lowest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """argmin Σ x under ‖A x − b‖ ≤ 1 + least, in 60 digits."""
    with mpmath.workdps(60):
        rows, level, one = mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist()), mpmath.matrix([1] * 4)
        gram = rows.T * rows
        middle, step = mpmath.lu_solve(gram, rows.T * level), mpmath.lu_solve(gram, one)
        least = mpmath.norm(rows * middle - level)
        reach = mpmath.sqrt(mpmath.mpf(1.5) ** 2 * 4 - least**2) / mpmath.sqrt((step.T * one)[0])
        return np.array([float(t) for t in middle - reach * step])


def _norm(x: Any, a: np.ndarray, b: Any) -> cp.Problem:
    return cp.Problem(cp.Minimize(cp.norm(a @ x - b)))


def _linear(x: Any, a: np.ndarray, b: Any) -> cp.Problem:
    return cp.Problem(cp.Minimize(cp.sum(x)), [cp.norm(a @ x - b) <= 3])


@pytest.mark.parametrize(("problem", "exact"), [(_norm, nearest), (_linear, lowest)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 3e5, 1e7, 1e9, 1e12])
def test_an_ill_conditioned_solution_is_within_its_bound_or_told(
    problem: Callable[..., cp.Problem], exact: Callable[..., np.ndarray], condition: float
) -> None:
    generator = np.random.default_rng(7)
    for _ in range(4):
        a, b = graded(condition, generator), generator.standard_normal(7)
        x, p = cp.Variable(4), cp.Parameter(7)
        layer = bln.from_cvxpy(problem(x, a, p), [p], [x], on_failure="ignore")
        solution, want = layer.solve(torch.from_numpy(b)), exact(a, b)
        assert solution.solver == "conic"
        error = np.abs(solution.values[0].numpy() - want).max()
        if solution.converged:
            assert error <= float(solution.error_bound) <= 1e-6 * (1 + 1.01 * np.abs(want).max())  # ACCEPT
        else:
            assert condition > 1e4
            layer.on_failure = "raise"
            with pytest.raises(bln.SolveError, match=r"known to .* only|unbounded"):  # to Clarabel's digits it is
                layer(torch.from_numpy(b))


def pulls(problem: cp.Problem, parameters: list[Any], variables: list[Any], *values: Any) -> Any:
    """The solution at these values, its derivatives against differences."""
    layer = bln.from_cvxpy(problem, parameters, variables)
    tensors = [torch.tensor(v, dtype=F64, requires_grad=True) for v in values]
    assert torch.autograd.gradcheck(layer, tensors, eps=1e-5, atol=1e-7, rtol=1e-7)  # 1e-10 times a third derivative
    return layer.solve(*tensors)


def test_cones_that_no_other_route_has() -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    near = cp.sum_squares(x - p)
    power = cp.Problem(cp.Minimize(near), [cp.PowCone3D(x[0], x[1], x[2], 0.3)])
    for point in ([1.0, 1.0, 2.0], [1.0, 1.0, -2.0], [2.0, 0.5, 0.1], [-1.0, 0.3, 1.0]):
        solution = pulls(power, [p], [x], point)
        assert (solution.solver, bool(solution.converged)) == ("conic", True)
        a, b, c = solution.values[0].tolist()
        assert a**0.3 * b**0.7 >= abs(c) - 1e-12  # rounding of the powers
    exponential = cp.Problem(cp.Minimize(near), [cp.constraints.ExpCone(x[0], x[1], x[2])])
    for point in ([1.0, 1.0, 2.0], [-1.0, -0.5, 1.0], [0.1, 1.0, 3.0]):
        assert bool(pulls(exponential, [p], [x], point).converged)
    y, c = cp.Variable((2, 3)), cp.Parameter((2, 3))
    nuclear = cp.Problem(cp.Minimize(cp.sum_squares(y - c) / 2 + cp.normNuc(y)))
    point = [[3.0, 0.2, 1.0], [0.1, 2.0, 0.4]]
    u, sizes, v = np.linalg.svd(np.array(point), full_matrices=False)
    want = torch.from_numpy(u @ np.diag(np.maximum(sizes - 1, 0)) @ v)
    torch.testing.assert_close(pulls(nuclear, [c], [y], point).values[0].detach(), want, atol=1e-13, rtol=0)


def test_several_minimisers_are_told() -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    free = cp.Problem(cp.Minimize(cp.norm(x[:2] - p[:2])), [cp.abs(x) <= 3])
    layer = bln.from_cvxpy(free, [p], [x])
    with pytest.raises(bln.SolveError, match=r"known to .* only: of several minimisers"):
        layer(torch.ones(3, dtype=F64))
    y, t = cp.Variable(2), cp.Variable(2)  # t is free, and not asked for
    one = cp.Problem(cp.Minimize(cp.norm(y - p[:2]) + cp.norm1(y)), [cp.norm(t) <= p[2]])
    (z,) = bln.from_cvxpy(one, [p], [y])(torch.tensor([3.0, 0.1, 2.0], dtype=F64))
    assert z.shape == (2,)


@pytest.mark.heavy
def test_a_program_beyond_dense_matrices() -> None:
    n = 400
    x, p = cp.Variable(n), cp.Parameter(n)
    problem = cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm1(x)) + cp.sum_squares(x)))
    layer = bln.from_cvxpy(problem, [p], [x], confirm=False)
    v = torch.randn(n, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    solution = layer.solve(v)
    assert solution.solver == "conic"
    assert bool(solution.converged)
    assert torch.autograd.gradcheck(layer, v, eps=1e-5, atol=1e-7, rtol=1e-7, fast_mode=True)


def test_the_threads_of_the_linear_algebra_do_not_multiply_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm1(x)))), [p], [x])
    blas = cvxpy_conic._blas()

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in blas.info() if pool["user_api"] == "blas"]

    found, solve = [], cvxpy_conic.Conic.begun

    def begun(self: Any, row: Any) -> Any:
        found.append(threads())
        return solve(self, row)

    monkeypatch.setattr(cvxpy_conic.Conic, "begun", begun)
    with blas.limit(limits=2, user_api="blas"):
        before = threads()
        layer(torch.arange(6, dtype=F64).reshape(2, 3))
        assert threads() == before
        with cvxpy_conic._alone(), ThreadPool(4) as pool:  # callers side by side
            pool.map(layer, [torch.arange(3, dtype=F64)] * 8)
            assert threads() == [1] * len(before)
        assert threads() == before
    assert max(before) == 2  # of a library that was built for one there is but one
    assert found == [[1] * len(before)] * 10
