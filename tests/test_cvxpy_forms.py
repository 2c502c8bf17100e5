"""One problem written in many ways is recognised as one; what is nearly of a form goes to the solver that is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cvxpy_certificate import conic

import bilevelnet as bln

F64 = torch.float64
N = 4
ORDER = [2, 0, 3, 1]
FLIP = np.eye(N)[ORDER]
Form = Callable[..., Any]

SQUARES: list[Form] = [  # ‖x − p‖² but for constants
    lambda x, p: cp.sum_squares(x - p),
    lambda x, p: cp.sum(cp.square(p - x)),
    lambda x, p: cp.norm(x - p) ** 2,
    lambda x, p: 3 * cp.sum_squares((x - p) / 3**0.5),
    lambda x, p: cp.quad_form(x, np.eye(N)) - cp.sum(2 * cp.multiply(p, x)),
    lambda x, p: cp.quad_over_lin(x - p, 1),
    lambda x, p: cp.sum_squares(x[:2] - p[:2]) + cp.sum_squares(x[2:] - p[2:]),
    lambda x, p: cp.sum_squares(x) - 2 * (p @ x),
    lambda x, p: cp.sum_squares(x[ORDER] - p[ORDER]),
    lambda x, p: cp.sum_squares(FLIP @ (x - p)),
    lambda x, p: cp.sum_squares(cp.reshape(x - p, (2, 2), order="C")),
    lambda x, p: sum(cp.square(x[i] - p[i]) for i in range(N)),
    lambda x, p: cp.sum_squares(x - p - 1) + 2 * cp.sum(x),
]
KINKS: list[Form] = [  # lam ‖x‖₁ but for constants
    lambda x, lam: lam * cp.norm1(x),
    lambda x, lam: lam * cp.sum(cp.abs(-x)),
    lambda x, lam: lam / 2 * cp.norm1(2 * x),
    lambda x, lam: lam * (cp.norm1(x[:1]) + cp.norm1(x[1:])),
    lambda x, lam: cp.sum(lam * cp.maximum(x, -x)),
    lambda x, lam: lam * cp.sum(cp.pos(x) + cp.neg(x)),
    lambda x, lam: lam * cp.sum(2 * cp.pos(x) - x),
    lambda x, lam: lam * cp.norm1(FLIP @ x),
    lambda x, lam: cp.norm1(lam * x),
    lambda x, lam: cp.sum(cp.abs(cp.multiply(lam * np.ones(N), 2 * x[ORDER]))) / 2,
    lambda x, lam: lam * cp.sum(cp.abs(cp.reshape(x, (2, 2), order="F"))),
    lambda x, lam: lam * cp.norm1(x) / 2 + lam / 2 * cp.sum(-cp.minimum(x, -x)),
]
BOXES: list[Form] = [  # −1 ≤ x ≤ 0.7
    lambda x: [x >= -1, x <= 0.7],
    lambda x: [-x <= 1, 0.7 - x >= 0],
    lambda x: [2 * x + 2 >= 0, cp.max(x) <= 0.7],
    lambda x: [cp.min(x) >= -1, x[:2] <= 0.7, x[2:] <= 0.7],
    lambda x: [cp.abs(x + 0.15) <= 0.85],
    lambda x: [cp.norm_inf(2 * x + 0.3) <= 1.7],
    lambda x: [cp.square(x + 0.15) <= 0.85**2],
    lambda x: [cp.maximum(-x - 1, x - 0.7) <= 0],
    lambda x: [FLIP @ x >= -1, x <= 0.7, x <= 5, x[0] >= -3],
]
L1_BALLS: list[Form] = [  # ‖x − 0.1‖₁ ≤ r
    lambda x, r: cp.norm1(x - 0.1) <= r,
    lambda x, r: cp.sum(cp.abs(x - 0.1)) <= r,
    lambda x, r: r - cp.norm1(x[:2] - 0.1) - cp.norm1(x[2:] - 0.1) >= 0,
    lambda x, r: cp.norm1(3 * x - 0.3) <= 3 * r,
    lambda x, r: cp.norm1(FLIP @ x - 0.1) / 2 + cp.sum(cp.maximum(x - 0.1, 0.1 - x)) / 2 <= r,
    lambda x, r: sum(cp.abs(x[i] - 0.1) for i in range(N)) - r <= 0,
]
L2_BALLS: list[Form] = [  # ‖x − 0.1‖ ≤ r
    lambda x, r: cp.norm(x - 0.1) <= r,
    lambda x, r: 2 * cp.norm(cp.reshape(x - 0.1, (2, 2), order="C"), "fro") <= 2 * r,
    lambda x, r: cp.norm((10 * x - 1)[ORDER]) <= 10 * r,
    lambda x, r: cp.SOC(r, x - 0.1),
]
L2_BALLS_OF_SQUARES: list[Form] = [  # ‖x − 0.1‖² ≤ r
    lambda x, r: cp.sum_squares(x - 0.1) <= r,
    lambda x, r: cp.sum(cp.square(x[:2] - 0.1)) + cp.sum_squares(x[2:] - 0.1) <= r,
    lambda x, r: cp.sum_squares(x) - 0.2 * cp.sum(x) + 0.01 * N <= r,
    lambda x, r: cp.quad_form(x - 0.1, 2 * np.eye(N)) / 2 <= r,
    lambda x, r: cp.norm(x - 0.1) ** 2 <= r,
]
SIMPLICES: list[Form] = [
    lambda x: [x >= 0, cp.sum(x) == 1],
    lambda x: [-2 * x <= 0, 1 - np.ones(N) @ x == 0],
    lambda x: [cp.constraints.NonNeg(x), cp.constraints.Zero(cp.sum(x) - 1)],
    lambda x: [cp.min(x) >= 0, 3 * cp.sum(x[:2]) + 3 * cp.sum(x[2:]) == 3],
    lambda x: [x >= 0, cp.sum(x) == 1, 2 * cp.sum(x) == 2],
]


def layer(build: Callable[[Any, Any, Any], tuple[Any, list[Any]]], scale: float = 1.0, maximise: bool = False) -> Any:
    """The layer of min scale · objective over x in ℝ⁴ with the parameters p (4) and r ≥ 0, whichever of them enter."""
    x, p, r = cp.Variable(N, name="x"), cp.Parameter(N, name="p"), cp.Parameter(nonneg=True, name="r")
    objective, constraints = build(x, p, r)
    goal = cp.Maximize(-scale * objective) if maximise else cp.Minimize(scale * objective)
    problem = cp.Problem(goal, constraints)
    used = {q.id for q in problem.parameters()}
    return bln.from_cvxpy(problem, [q for q in (p, r) if q.id in used], [x], confirm=False)


def recognised(found: Any) -> tuple[str, str]:
    return found.route.name, found.route.solver.match.g.label


P = 1.5 * torch.randn(64, N, dtype=F64, generator=torch.Generator().manual_seed(0))
R = torch.rand(64, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.1


def same(found: Any, wanted: Any, *tensors: torch.Tensor) -> None:
    """Both recognise one form; the values differ by the rounding of the coefficients, of size 1 and 10."""
    assert recognised(found) == recognised(wanted)
    torch.testing.assert_close(found(*tensors), wanted(*tensors), atol=1e-13, rtol=1e-13)


@settings(max_examples=40)
@given(
    st.sampled_from(SQUARES),
    st.sampled_from(KINKS),
    st.sampled_from(BOXES),
    st.sampled_from([1, 2, 0.3]),
    st.booleans(),
)
def test_kinks_in_a_box(square: Form, kinks: Form, box: Form, scale: float, maximise: bool) -> None:
    wanted = layer(lambda x, p, r: (SQUARES[0](x, p) + KINKS[0](x, r), BOXES[0](x)))
    assert recognised(wanted)[0] == "closed_form"
    found = layer(lambda x, p, r: (square(x, p) + kinks(x, r), box(x)), scale, maximise)
    same(found, wanted, P, R) if scale == 1 else torch.testing.assert_close(found(P, R), wanted(P, R))


@settings(max_examples=30)
@given(st.sampled_from([L1_BALLS, L2_BALLS, L2_BALLS_OF_SQUARES]), st.sampled_from(SQUARES), st.data())
def test_balls(forms: list[Form], square: Form, data: st.DataObject) -> None:
    wanted = layer(lambda x, p, r: (SQUARES[0](x, p), [forms[0](x, r)]))
    assert recognised(wanted) == ("closed_form", f"{'l1' if forms is L1_BALLS else 'l2'}_ball(z − 0.1)")
    ball = data.draw(st.sampled_from(forms))
    same(layer(lambda x, p, r: (square(x, p), [ball(x, r)])), wanted, P, R)


@settings(max_examples=15)
@given(st.sampled_from(SIMPLICES), st.sampled_from(SQUARES))
def test_simplices(simplex: Form, square: Form) -> None:
    wanted = layer(lambda x, p, r: (SQUARES[0](x, p), SIMPLICES[0](x)))
    assert recognised(wanted) == ("closed_form", "simplex")
    same(layer(lambda x, p, r: (square(x, p), simplex(x))), wanted, P)


def test_bounds_of_the_variable() -> None:
    for attributes in ({"bounds": [-1, 0.7]}, {"bounds": [np.full(N, -1.0), np.full(N, 0.7)]}):
        x, p = cp.Variable(N, **attributes), cp.Parameter(N)
        found = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x - p))), [p], [x])
        same(found, layer(lambda x, p, r: (SQUARES[0](x, p), BOXES[0](x))), P)
    x, p = cp.Variable(N, nonneg=True), cp.Parameter(N)
    found = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x - p))), [p], [x])
    same(found, layer(lambda x, p, r: (SQUARES[0](x, p), [-x <= 0])), P)


# What is nearly a form of the catalogue: (the solver that is right, objective beside ‖x − p‖², constraints).
NEAR_MISSES: dict[str, tuple[str, Callable[[Any, Any], tuple[Any, ...]]]] = {
    "a coupling term": ("quadratic", lambda x, r: (cp.sum_squares(x[0] - 2 * x[1]) / 2 + r * cp.norm1(x),)),
    "a kink across two entries": ("quadratic", lambda x, r: (r * cp.norm1(x) + cp.abs(x[0] + x[1]),)),
    "differences of half of the entries": ("quadratic", lambda x, r: (r * cp.norm1(cp.diff(x[:3])),)),
    "an l1 norm beside a sum": ("quadratic", lambda x, r: (0, cp.norm1(x) + x[0] <= r)),
    "an l1 ball whose weights differ": (
        "quadratic",
        lambda x, r: (0, cp.norm1(cp.multiply(np.arange(1.0, 5), x)) <= r),
    ),
    "a simplex with one weight 2": ("multiplier", lambda x, r: (0, x >= 0, cp.sum(x) + x[0] == r)),
    "a negative weight in the equation": ("multiplier", lambda x, r: (0, x >= 0, cp.sum(x) - 2 * x[0] == r)),
    "a simplex that is not filled": ("quadratic", lambda x, r: (0, x >= 0, cp.sum(x) <= r)),
    "two equations and bounds": ("quadratic", lambda x, r: (0, x >= 0, cp.sum(x) == 1, x[0] == x[1])),
    "a norm beside a sum": ("conic", lambda x, r: (0, cp.norm(x) + x[0] <= r)),
    "a norm times a parameter": ("conic", lambda x, r: (0, r * cp.norm(x) <= 1)),
    "a norm of factors that differ": ("splitting", lambda x, r: (r * cp.norm(cp.multiply(np.arange(1.0, 5), x)),)),
    "two balls": ("splitting", lambda x, r: (0, cp.norm(x) <= r, cp.norm(x - 1) <= 2)),
    "a cube": ("conic", lambda x, r: (r * cp.sum(cp.power(cp.abs(x), 3)),)),
    "an entropy of some entries": ("closed_form", lambda x, r: (-r * cp.sum(cp.entr(x[:2])),)),
    "a barrier of some entries": ("closed_form", lambda x, r: (-r * cp.sum(cp.log(x[1:3])),)),
    "two entropies of some entries": (
        "splitting",
        lambda x, r: (-r * cp.sum(cp.entr(x[:2])) - cp.sum(cp.log(x[2:])),),
    ),
}


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # at a tolerance that Clarabel does not always reach
@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses(name: str) -> None:
    solver, make = NEAR_MISSES[name]
    x, p, r = cp.Variable(N), cp.Parameter(N), cp.Parameter(nonneg=True)
    objective, *constraints = make(x, r)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + objective), constraints)
    used = [q for q in (p, r) if q.id in {q.id for q in problem.parameters()}]
    found = bln.from_cvxpy(problem, used, [x])
    assert found.route.name == solver, found.explain()
    tensors = [{p.id: P[0], r.id: R[0] + 0.4}[q.id] for q in used]
    (z,) = found(*tensors)
    for q, t in zip(used, tensors, strict=True):
        q.value = t.numpy()
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    # the root of Clarabel's tolerance
    torch.testing.assert_close(z, torch.from_numpy(x.value), atol=1e-5, rtol=1e-5)


# Entropies of other intervals: (the solver, objective beside −⟨p, x⟩, constraints); w ≥ 0.2.
A = np.array([-1.0, 0, 2, 3])
MOVED: dict[str, tuple[str, Callable[[Any, Any], tuple[Any, ...]]]] = {
    "shifted": ("closed_form", lambda x, w: (-cp.sum(cp.entr(x + 1)),)),
    "scaled and shifted": ("closed_form", lambda x, w: (-cp.sum(cp.entr(2 * x - A)), cp.sum(x) == 6)),
    "mirrored": ("closed_form", lambda x, w: (-cp.sum(cp.entr(1 - x)),)),
    "mirrored and a kink": ("closed_form", lambda x, w: (cp.norm1(x) - w[0] * cp.sum(cp.entr(3 - 2 * x)), x >= -4)),
    "mirrored, bounds of parameters": ("closed_form", lambda x, w: (-cp.sum(cp.entr(1 - x)), x <= w - 1, x >= -w - 1)),
    "a barrier from above": ("closed_form", lambda x, w: (-cp.sum(cp.log(1 - x)) - 9 * cp.sum(x), x >= -2)),
    "on [a, b]": ("multiplier", lambda x, w: (-w[0] * cp.sum(cp.entr(x - A) + cp.entr(A + 3 - x)), cp.sum(x) == 8)),
    "twice": ("closed_form", lambda x, w: (-cp.sum(cp.entr(2 * x) + cp.entr(2 - 2 * x)),)),
    "hellinger on [0, 3]": ("closed_form", lambda x, w: (-sum(cp.geo_mean(cp.hstack([t, 3 - t])) for t in x),)),
    "hellinger twice": ("closed_form", lambda x, w: (-sum(cp.geo_mean(cp.hstack([2 + 2 * t, 2 - 2 * t])) for t in x),)),
    "kl_div": ("closed_form", lambda x, w: (cp.sum(cp.kl_div(x + 1, w)),)),
    "in a ball": ("splitting", lambda x, w: (-cp.sum(cp.entr(x + 1)), cp.norm(x) <= 1)),
    "beside a factor": ("closed_form", lambda x, w: (cp.sum_squares(cp.multiply(w, x) - 1) - cp.sum(cp.entr(x + 1)),)),
    "and its factors": ("newton", lambda x, w: (cp.sum(cp.logistic(cp.multiply(w, x))) - cp.sum(cp.entr(x + 1)),)),
    "of some entries": ("closed_form", lambda x, w: (cp.sum_squares(x) - cp.sum(cp.entr(x[:2] + 1)),)),
    "two kinds": ("closed_form", lambda x, w: (-cp.sum(cp.entr(x[:2] + 1)) - cp.sum(cp.entr(1 - x[2:])),)),
    "variation": ("closed_form", lambda x, w: (cp.tv(x) - cp.sum(cp.entr(x + 1)),)),
    "two that overlap": ("conic", lambda x, w: (-cp.sum(cp.entr(x + 1) + cp.entr(x + 2)),)),
    "weights that are equal": ("closed_form", lambda x, w: (-w[0] * cp.sum(cp.entr(x) + cp.entr(1 - x)),)),
}


@pytest.mark.parametrize("name", MOVED)
def test_entropies_of_other_intervals(name: str) -> None:
    solver, make = MOVED[name]
    x, p, w = cp.Variable(N), cp.Parameter(N), cp.Parameter(N, nonneg=True)
    objective, *constraints = make(x, w)
    problem = cp.Problem(cp.Minimize(objective - p @ x), constraints)
    used = [q for q in (p, w) if q.id in {q.id for q in problem.parameters()}]
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(3, N, dtype=F64, generator=generator), 0.2 + torch.rand(3, N, dtype=F64, generator=generator)
    tensors = [t.requires_grad_() for t in both[: len(used)]]
    layer, other = bln.from_cvxpy(problem, used, [x]), conic(bln.from_cvxpy(problem, used, [x], confirm=False))
    assert layer.route.name == solver, layer.explain()
    ours, theirs = layer(*tensors), other(*tensors)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)  # a digit or two beyond rounding, of both
    first, second = (torch.autograd.grad(z.square().sum(), tensors) for (z,) in (ours, theirs))
    torch.testing.assert_close(first, second, atol=1e-8, rtol=1e-8)  # damped by 1e-12 of conditions up to 1e3
