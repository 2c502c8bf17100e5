"""What has no solution is told on every back end, element by element, with the constraint, parameter or objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

import bilevelnet as bln

F64 = torch.float64
K = np.array([[1.0, 0.5], [0, 1], [0.2, 1]])
NAN = torch.nan
Make = Callable[[Any], tuple[Any, ...]]
STATUS = bln.Status

# (the solver, an objective in u ∈ ℝ², constraints): under bounds that a parameter moves.
BACK_ENDS: dict[str, tuple[str, Make]] = {
    "closed form": ("closed_form", lambda u: (cp.sum_squares(u),)),
    "closed form of an entropy": ("closed_form", lambda u: (-cp.sum(cp.entr(u)),)),
    "scalar": ("scalar", lambda u: (cp.sum_squares(u) + cp.sum(cp.logistic(u)),)),
    "multiplier": ("multiplier", lambda u: (cp.sum_squares(u), cp.sum(u) == 1.5)),
    "quadratic": ("quadratic", lambda u: (cp.sum_squares(K @ u),)),
    "splitting": ("splitting", lambda u: (cp.sum_squares(u) + cp.norm(K @ u),)),
    "splitting of a smooth function": ("splitting", lambda u: (cp.sum_squares(u) + cp.sum(cp.logistic(K @ u)),)),
    "conic": ("conic", lambda u: (cp.norm(u) + u[0] / 2,)),
}


def bounded(name: str, on_failure: str = "ignore") -> Any:
    u, p = cp.Variable(2, name="u"), cp.Parameter(2, name="p")
    objective, *constraints = BACK_ENDS[name][1](u)
    problem = cp.Problem(cp.Minimize(objective), [*constraints, u >= p, u <= 1])
    layer = bln.from_cvxpy(problem, [p], [u], on_failure=on_failure)
    assert layer.route.name == BACK_ENDS[name][0]
    return layer


@pytest.mark.parametrize("name", BACK_ENDS)
def test_each_element_has_its_status(name: str) -> None:
    p = torch.tensor([[0.3, 0.1], [2.0, 2.0], [NAN, 0.0], [0.2, 0.5]], dtype=F64, requires_grad=True)
    layer = bounded(name, "nan")
    solution = layer.solve(p)
    assert solution.status.tolist() == [STATUS.converged, STATUS.infeasible, STATUS.invalid, STATUS.converged]
    (z,) = layer(p)
    assert z.isnan().any(-1).tolist() == [False, True, True, False]
    (alone,) = layer(p[::3].detach())
    torch.testing.assert_close(z[::3], alone, atol=1e-14, rtol=0)  # rounding of numbers near 1
    (gradient,) = torch.autograd.grad(z[::3].sum(), p)
    assert bool(gradient[::3].isfinite().all())


@pytest.mark.parametrize("name", BACK_ENDS)
def test_opposite_bounds_are_named(name: str) -> None:
    with pytest.raises(bln.SolveError, match=r"infeasible: .*p <= u"):
        bounded(name, "raise")(torch.tensor([2.0, 2.0], dtype=F64))
    with pytest.raises(bln.SolveError, match="parameter p has a value that is not finite"):
        bounded(name, "raise")(torch.tensor([NAN, 2.0], dtype=F64))
    u, p = cp.Variable(2, name="u"), cp.Parameter(2, name="p")
    objective, *constraints = BACK_ENDS[name][1](u)
    problem = cp.Problem(cp.Minimize(objective + p @ u), [*constraints, u >= 2, u <= 1])
    with pytest.raises(bln.SolveError, match=r"infeasible: .*2\.0 <= u"):
        bln.from_cvxpy(problem, [p], [u])(torch.zeros(2, dtype=F64))


# (what is expected to be named, constraints of u and p, p where they can hold, p where they cannot).
EMPTY: dict[str, tuple[str, Callable[[Any, Any], list[Any]], list[float], list[float]]] = {
    "radius": (r"<= p\[0\]", lambda u, p: [cp.norm(u) <= p[0]], [1.0, 0], [-1.0, 0]),
    "radius of a sum": (r"<= p\[0\]", lambda u, p: [cp.sum(cp.abs(u)) <= p[0]], [1.0, 0], [-1.0, 0]),
    "square": (r"<= p\[0\]", lambda u, p: [cp.sum_squares(u) <= p[0]], [1.0, 0], [-1.0, 0]),
    "squares": ("<= p", lambda u, p: [cp.square(u) <= p], [1.0, 0.5], [-1.0, 0]),
    "simplex": (r"== p\[0\]", lambda u, p: [u >= 0, cp.sum(u) == p[0]], [1.0, 0], [-1.0, 0]),
    "capped simplex": (r"== p\[0\]", lambda u, p: [u >= 0, u <= 1, cp.sum(u) == p[0]], [1.0, 0], [2.5, 0]),
    "equations": (r"== p\[1\]", lambda u, p: [cp.sum(u) == p[0], 2 * cp.sum(u) == p[1]], [1.0, 2], [1.0, 1]),
    "entries": (r"== p\[1\]", lambda u, p: [u[0] == p[0], u[0] == p[1]], [1.0, 1], [1.0, 2]),
    "parameters alone": (r"p\[0\] <= 0", lambda u, p: [p[0] <= 0], [-1.0, 0], [1.0, 0]),
    "ball and box": ("norm|Pnorm", lambda u, p: [cp.norm(u) <= 1, u >= p], [0.2, 0.2], [2.0, 2]),
    "ball and l1 ball": ("norm1", lambda u, p: [cp.norm(u - p) <= 1, cp.norm1(u) <= 1], [0.2, 0.2], [2.0, 2]),
    "inequalities": (r"<= p\[0\]", lambda u, p: [cp.sum(u) <= p[0], cp.sum(u) >= p[1]], [1.0, 0], [0.0, 1]),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("entropy", [False, True])
def test_empty_sets(name: str, entropy: bool) -> None:
    named, constraints, some, none = EMPTY[name]
    u, p = cp.Variable(2, name="u"), cp.Parameter(2, name="p")
    objective = -cp.sum(cp.entr(u)) if entropy else cp.sum_squares(u)
    problem = cp.Problem(cp.Minimize(objective), constraints(u, p))
    layer = bln.from_cvxpy(problem, [p], [u], on_failure="ignore")
    points = torch.tensor([some, none], dtype=F64)
    assert layer.solve(points).status.tolist() == [STATUS.converged, STATUS.infeasible], layer.explain()
    layer.on_failure = "raise"
    with pytest.raises(bln.SolveError, match=f"1 of 1 .*infeasible: .*({named})"):
        layer(points[1])


@pytest.mark.parametrize(
    ("solver", "make", "some", "none"),
    [
        ("quadratic", lambda u, p: (p @ u, u <= 1), [-1.0, -1], [1.0, -1]),
        ("closed_form", lambda u, p: (p @ u - cp.sum(cp.log(u)),), [1.0, 1], [1.0, -1]),
        ("closed_form", lambda u, p: (p @ u + cp.sum(cp.exp(u)),), [-1.0, -1], [1.0, -1]),
        ("splitting", lambda u, p: (p @ u + cp.sum(cp.exp(u)) + cp.norm(K @ u),), [-1.0, -1], [9.0, -1]),
        ("conic", lambda u, p: (p @ u + cp.norm(u),), [0.5, 0.5], [1.0, -1]),
    ],
)
def test_unbounded(solver: str, make: Any, some: list[float], none: list[float]) -> None:
    u, p = cp.Variable(2, name="u"), cp.Parameter(2, name="p")
    objective, *constraints = make(u, p)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(objective), constraints), [p], [u], on_failure="ignore")
    assert layer.route.name == solver
    points = torch.tensor([some, none], dtype=F64)
    assert layer.solve(points).status.tolist() == [STATUS.converged, STATUS.unbounded]
    layer.on_failure = "raise"
    with pytest.raises(bln.SolveError, match=r"unbounded: the objective minimize p @ u"):
        layer(points[1])


@pytest.mark.parametrize(
    ("attribute", "value", "solver"),
    [
        ("nonneg", -1.0, "closed_form"),
        ("nonneg", -1.0, "quadratic"),
        ("nonneg", -1.0, "splitting"),
        ("nonneg", -1.0, "newton"),
        ("nonneg", -1.0, "conic"),
        ("pos", 0.0, "closed_form"),
    ],
)
def test_declared_signs_are_held(attribute: str, value: float, solver: str) -> None:
    u, lam = cp.Variable(2), cp.Parameter(name="lam", **{attribute: True})
    g = {
        "closed_form": cp.norm1(u),
        "quadratic": cp.norm1(K @ u),
        "splitting": cp.norm(K @ u),
        "newton": cp.sum(cp.logistic(K @ u)),
        "conic": cp.sum(cp.power(cp.abs(u), 3)),
    }[solver]
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(u - 1) + lam * g)), [lam], [u], on_failure="nan")
    assert layer.route.name == solver
    lams = torch.tensor([0.5, value], dtype=F64)
    assert layer.solve(lams).status.tolist() == [STATUS.converged, STATUS.invalid]
    assert layer(lams)[0].isnan().any(-1).tolist() == [False, True]
    layer.on_failure = "raise"
    with pytest.raises(bln.SolveError, match=f"lam was declared {attribute}=True"):
        layer(lams)


def test_declared_bounds_are_held() -> None:
    u, p = cp.Variable(2), cp.Parameter(2, name="p", bounds=[0, 1])
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(u - p))), [p], [u], on_failure="nan")
    points = torch.tensor([[0.5, 1.0], [0.5, 1.5]])
    assert layer.solve(points).status.tolist() == [STATUS.converged, STATUS.invalid]
    layer.on_failure = "raise"
    with pytest.raises(bln.SolveError, match="p was declared with bounds"):
        layer(points)


def transport(objective: Callable[[Any, Any], Any]) -> Any:
    """Of the marginals a and b, whose sums are the same but for rounding."""
    X, C = cp.Variable((3, 3)), cp.Parameter((3, 3))
    a, b = cp.Parameter(3, nonneg=True), cp.Parameter(3, nonneg=True)
    rows = [cp.sum(X, axis=1) == a, cp.sum(X, axis=0) == b]
    problem = cp.Problem(cp.Minimize(objective(X, C)), rows)
    return bln.from_cvxpy(problem, [C, a, b], [X], on_failure="ignore")


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rows_that_follow_from_others_up_to_rounding(dtype: torch.dtype) -> None:
    """Entropic transport of softmaxes, which sum to 1 by rounding of their dtype; 1e-4 beyond it is a contradiction."""
    layer = transport(lambda X, C: cp.sum(cp.multiply(C, X)) - 0.1 * cp.sum(cp.entr(X)))
    generator = torch.Generator().manual_seed(0)
    C, a, b = (torch.rand(20, *shape, dtype=dtype, generator=generator) for shape in ((3, 3), (3,), (3,)))
    a, b = a.softmax(-1), b.softmax(-1)
    assert not layer.solve(C, a, b).status.any()
    off = b * (1 + 1e3 * torch.finfo(dtype).eps)
    assert (layer.solve(C, a, off).status == STATUS.infeasible).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_conditions_on_parameters_have_the_rounding_of_their_dtype(dtype: torch.dtype) -> None:
    x, p, w, s, u = cp.Variable(3), cp.Parameter(3), cp.Parameter(3), cp.Parameter(), cp.Parameter()
    near = cp.Minimize(cp.sum_squares(x - w))
    shares = torch.rand(99, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)).softmax(-1)
    zero = torch.zeros(3, dtype=dtype)
    layer = bln.from_cvxpy(cp.Problem(near, [cp.sum(p) == 1]), [w, p], [x], on_failure="ignore")
    assert not layer.solve(zero, shares).status.any()
    assert (layer.solve(zero, shares + 1e-5).status == STATUS.infeasible).all()
    small = bln.from_cvxpy(cp.Problem(near, [x >= 0, x <= u, cp.sum(x) == s]), [w, s, u], [x], on_failure="ignore")
    cap = torch.full((3,), 1e-12, dtype=dtype)
    total = torch.tensor([3e-12, 2e-12, 4e-12], dtype=dtype)  # at the end of its reach, inside, beyond
    assert small.solve(zero, total, cap).status.tolist() == [0, 0, STATUS.infeasible]


@pytest.mark.parametrize(
    ("upper", "solver"), [(None, "closed_form"), (1.0, "closed_form"), (2 * np.eye(2), "multiplier")]
)
def test_one_row_of_a_matrix_without_a_solution(upper: Any, solver: str) -> None:
    x, r = cp.Variable((2, 2), name="x"), cp.Parameter(2, name="r")
    held = [cp.sum(x, axis=1) == r, x >= 0, *([] if upper is None else [x <= 1 + upper])]
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), held), [r], [x], on_failure="nan")
    assert layer.route.name == solver
    levels = torch.tensor([[1.0, 2.0], [1.0, -1.0], [9.0, 1.0], [0.0, 0.5]], dtype=F64)
    expected = [0, STATUS.infeasible, 0 if upper is None else STATUS.infeasible, 0]
    assert layer.solve(levels).status.tolist() == expected
    assert layer(levels)[0].isnan().any(-1).any(-1).tolist() == [status != 0 for status in expected]
    layer.on_failure = "raise"
    with pytest.raises(bln.SolveError, match=r"infeasible: Sum\(x, 1, False\) == r"):
        layer(levels[1])


def test_lists_of_other_things() -> None:
    x, p = cp.Variable(3, name="x"), cp.Parameter(3, name="p")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p)))
    for parameters, variables, words in (
        (p, [x], "parameters is a list of cvxpy.Parameter, not Parameter p"),
        (["p"], [x], "not str p"),
        ([x], [p], "parameters is a list of cvxpy.Parameter, not Variable x"),
        ([p], x, "variables is a list of cvxpy.Variable, not Variable x"),
        ([p], None, "variables is a list of cvxpy.Variable, not NoneType None"),
    ):
        with pytest.raises(bln.InputError, match=words):
            bln.from_cvxpy(problem, parameters, variables)
