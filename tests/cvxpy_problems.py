"""A table of cvxpy problems: a builder of (problem, parameters, variables), and the solver that must be chosen.

The parameters at which a problem is solved are drawn from a seed: away from the kinks of the solution, almost surely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

Built = tuple[cp.Problem, list[Any], list[Any]]


class Case(NamedTuple):
    """One problem. ``solver``: the one that must be chosen. ``positive``: whether all parameters are drawn positive."""

    name: str
    solver: str
    build: Callable[[], Built]
    positive: bool

    def draw(self, generator: torch.Generator, p: Any) -> Tensor:
        """N(0, 1), made nonnegative, symmetric or positive semidefinite as the parameter was declared."""
        x = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if self.positive or any(p.attributes.get(a) for a in ("nonneg", "pos")):
            return 0.2 + x.abs()
        if p.attributes.get("PSD"):
            return x @ x.mT + torch.eye(len(x), dtype=x.dtype)
        return x + x.mT if p.attributes.get("symmetric") else x


CASES: dict[str, Case] = {}
N = 4
K = np.array([[1.0, 0.5, 0, 0], [0, 1, -0.5, 0], [0.2, 0, 1, 1]])


def case(solver: str, positive: bool = False) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        CASES[build.__name__] = Case(build.__name__, solver, build, positive)
        return build

    return register


def near(name: str, solver: str, make: Callable[..., Any], **shapes: Any) -> None:
    """min sum_squares(x − p) + the first of make(x, p, …), under the others; each of ``shapes`` a parameter more."""

    def build() -> Built:
        x, p = cp.Variable(N, name="x"), cp.Parameter(N, name="p")
        more = [cp.Parameter(s, nonneg=True, name=k) for k, s in shapes.items()]
        g, *constraints = make(x, *more)
        return cp.Problem(cp.Minimize(cp.sum_squares(x - p) + g), constraints), [p, *more], [x]

    CASES[name] = Case(name, solver, build, False)


def entropic(name: str, solver: str, objective: Callable[[Any, Any], Any], *holds: Callable[[Any], Any]) -> None:
    """max p'x − the objective, under the constraints."""

    def build() -> Built:
        x, p = cp.Variable(N, name="x"), cp.Parameter(N, name="p")
        return cp.Problem(cp.Maximize(p @ x - objective(x, p)), [h(x) for h in holds]), [p], [x]

    CASES[name] = Case(name, solver, build, False)


near("relu", "closed_form", lambda x: (0, x >= 0))
near("soft_threshold", "closed_form", lambda x, lam: (lam * cp.norm1(x),), lam=())
near("weighted_l1_in_a_box", "closed_form", lambda x, w: (cp.sum(cp.multiply(w, cp.abs(x))), x <= 1, -x <= 0.5), w=N)
near("weights_inside_the_norm", "closed_form", lambda x, w: (cp.norm1(cp.multiply(w, x)), x <= 1), w=N)
near("weights_inside_the_square", "closed_form", lambda x, w: (cp.sum_squares(cp.multiply(w, x) - 1), x <= 0.4), w=N)
near("weight_inside_the_group_norm", "closed_form", lambda x, r: (cp.norm(r * x),), r=())
near("weight_inside_the_max_norm", "closed_form", lambda x, r: (cp.norm_inf(-r * x),), r=())
near("elastic_net", "closed_form", lambda x, lam: (lam * cp.norm1(x) + cp.sum_squares(x) / 2,), lam=())
near("two_kinks", "closed_form", lambda x, lam: (cp.norm1(x) + 3 * cp.sum(cp.pos(x - lam)),), lam=N)
near("sparsemax", "closed_form", lambda x: (0, x >= 0, cp.sum(x) == 1))
near("simplex_of_any_radius", "closed_form", lambda x, r: (0, x >= 0, 2 * cp.sum(x) == r), r=())
near("capped_simplex", "closed_form", lambda x: (0, x >= 0, x <= 0.6, cp.sum(x) == 1))
near("box_of_parameters", "closed_form", lambda x, lo, w: (0, x >= lo, x - w <= lo), lo=N, w=())
near("group_norm", "closed_form", lambda x, lam: (lam * cp.norm(x),), lam=())
near("two_groups", "closed_form", lambda x, lam: (cp.norm(x[:2]) + lam * cp.norm(x[2:]),), lam=())
near("sparse_group", "closed_form", lambda x, lam: (lam * cp.norm(x) + cp.norm1(x) / 2,), lam=())
near("max_norm", "closed_form", lambda x, lam: (lam * cp.norm_inf(x),), lam=())
near("total_variation", "closed_form", lambda x, lam: (lam * cp.tv(x),), lam=())
near("huber", "closed_form", lambda x, lam: (lam * cp.sum(cp.huber(x, 0.5)),), lam=())
near("ball", "closed_form", lambda x, r: (0, cp.norm(x - 1) <= r), r=())
near("l1_ball", "closed_form", lambda x, r: (0, cp.norm1(x) <= r), r=())
near("one_equation", "closed_form", lambda x, b: (0, x[0] + 2 * x[1] - x[3] == b), b=())
near("two_equations", "closed_form", lambda x, b: (0, x[0] + 2 * x[1] == b[0], cp.sum(x) == b[1]), b=2)
near("one_equation_in_a_box", "multiplier", lambda x, b: (0, cp.sum(x) == b, x >= -1, x <= 2), b=())
entropic("softmax", "closed_form", lambda x, p: -cp.sum(cp.entr(x)), lambda x: cp.sum(x) == 1)
entropic("relative_to_a_prior", "closed_form", lambda x, p: cp.sum(cp.kl_div(x, 0.3)), lambda x: cp.sum(x) == 2)
entropic("sigmoid", "closed_form", lambda x, p: -cp.sum(cp.entr(x) + cp.entr(1 - x)))
entropic("lml", "multiplier", lambda x, p: -cp.sum(cp.entr(x) + cp.entr(1 - x)), lambda x: cp.sum(x) == 2)
entropic("entropy_and_square", "closed_form", lambda x, p: cp.sum_squares(x) - cp.sum(cp.entr(x)))
entropic("entropy_in_a_box", "closed_form", lambda x, p: -cp.sum(cp.entr(x)), lambda x: x <= 1, lambda x: x >= 0.1)
entropic("entropy_and_kink", "closed_form", lambda x, p: cp.norm1(x - 1) - 2 * cp.sum(cp.entr(x)))
entropic("entropy_in_a_ball", "multiplier", lambda x, p: -cp.sum(cp.entr(x)), lambda x: cp.norm(x) <= 1)
entropic("log_barrier_and_square", "closed_form", lambda x, p: cp.sum_squares(x) - cp.sum(cp.log(x)))
entropic("hellinger", "closed_form", lambda x, p: -sum(cp.geo_mean(cp.hstack([1 + t, 1 - t])) for t in x))


def row_by_row(name: str, solver: str, make: Callable[..., Any], *shape: int) -> None:
    """max ⟨p, x⟩ − the first of make(x, r) over a 2 by 3 matrix, under the others; r ≥ 0 has the shape given."""

    def build() -> Built:
        x, p, r = cp.Variable((2, 3)), cp.Parameter((2, 3)), cp.Parameter(shape, nonneg=True)
        g, *constraints = make(x, r)
        return cp.Problem(cp.Maximize(cp.sum(cp.multiply(p, x)) - g), constraints), [p, r], [x]

    CASES[name] = Case(name, solver, build, False)


row_by_row("softmax_of_rows", "closed_form", lambda x, r: (-cp.sum(cp.entr(x)), cp.sum(x, axis=1) == r), 2)
row_by_row(
    "sparsemax_of_columns", "closed_form", lambda x, r: (cp.sum_squares(x), x >= 0, 2 * cp.sum(x, axis=0) == r), 3
)
row_by_row(
    "rows_in_a_box", "multiplier", lambda x, r: (cp.sum_squares(x) + r * cp.norm1(x), cp.sum(x, axis=1) == 1, x >= -1)
)
row_by_row(
    "rows_and_a_column",
    "quadratic",
    lambda x, r: (cp.sum_squares(x), cp.sum(x, axis=1) == 1, cp.sum(x[:, 0]) == r, x >= 0),
)


@case("closed_form", positive=True)
def resource_allocation():
    x, w = cp.Variable(N), cp.Parameter(N, nonneg=True)
    return cp.Problem(cp.Minimize(w @ x - cp.sum(cp.log(x)))), [w], [x]


@case("closed_form")
def rows_of_a_matrix():
    x, p, lam = cp.Variable((2, 3)), cp.Parameter((2, 3)), cp.Parameter(nonneg=True)
    objective = cp.sum_squares(x - p) + lam * cp.mixed_norm(x, 2, 1)
    return cp.Problem(cp.Minimize(objective)), [p, lam], [x]


@case("closed_form", positive=True)
def parameter_as_weight_of_the_square():
    x, w, c = cp.Variable(N), cp.Parameter(nonneg=True), cp.Parameter(N)
    return cp.Problem(cp.Minimize(w * cp.sum_squares(x) + cp.norm1(x) / 4 - c @ x)), [w, c], [x]


@case("quadratic")
def least_squares():
    x, a, b = cp.Variable(N), cp.Parameter((6, N)), cp.Parameter(6)
    return cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b))), [a, b], [x]


@case("quadratic")
def nonnegative_least_squares():
    x, a, b = cp.Variable(N), cp.Parameter((6, N)), cp.Parameter(6)
    return cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b)), [x >= 0]), [a, b], [x]


@case("quadratic")
def lasso():
    x, a, b, lam = cp.Variable(N), cp.Parameter((6, N)), cp.Parameter(6), cp.Parameter(nonneg=True)
    return cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b) + lam * cp.norm1(x))), [a, b, lam], [x]


@case("quadratic")
def linear_programme():
    x, c = cp.Variable(N), cp.Parameter(N)
    return cp.Problem(cp.Minimize(c @ x), [x >= 0, x <= 1, cp.sum(x) == 1.5]), [c], [x]


@case("quadratic")
def markowitz():
    x, mu, root = cp.Variable(N), cp.Parameter(N), cp.Parameter((N, N))
    return cp.Problem(cp.Maximize(mu @ x - cp.sum_squares(root @ x)), [x >= 0, cp.sum(x) == 1]), [mu, root], [x]


near("isotonic", "quadratic", lambda x: (0, cp.diff(x) >= 0))
near("monotone_from_zero", "quadratic", lambda x, w: (0, cp.diff(x) >= 0, x[0] >= 0, cp.diff(x) <= w), w=())
near("second_differences", "quadratic", lambda x, lam: (lam * cp.norm1(cp.diff(x, 2)),), lam=())
near("largest_entry", "quadratic", lambda x, lam: (lam * cp.max(x),), lam=())


@case("quadratic")
def svm_dual():
    a, root, c = cp.Variable(N), cp.Parameter((N, N)), cp.Parameter(nonneg=True)
    constraints = [a >= 0, a <= c, a[0] + a[1] == a[2] + a[3]]
    return cp.Problem(cp.Maximize(cp.sum(a) - cp.sum_squares(root @ a) / 2), constraints), [root, c], [a]


@case("quadratic")
def lqr():
    x, u, start = cp.Variable((3, 2)), cp.Variable((2, 1)), cp.Parameter(2)
    a, b = np.array([[1, 0.1], [0, 1.0]]), np.array([[0], [0.1]])
    moves = [x[t + 1] == a @ x[t] + b @ u[t] for t in range(2)]
    objective = cp.sum_squares(x) + 0.1 * cp.sum_squares(u)
    return cp.Problem(cp.Minimize(objective), [x[0] == start, *moves, cp.abs(u) <= 0.1]), [start], [x, u]


near("logistic_terms", "newton", lambda x, lam: (lam * cp.sum(cp.logistic(K @ x - 1)),), lam=())
near("logistic_entries", "scalar", lambda x, w: (cp.sum(cp.multiply(w, cp.logistic(1 - 2 * x))),), w=N)
near("largest_smoothed", "newton", lambda x, lam: (lam * cp.log_sum_exp(K @ x + 1),), lam=())
near("logistic_and_kinks", "splitting", lambda x, lam: (cp.sum(cp.logistic(K @ x)) + lam * cp.norm1(x),), lam=())
near("norm_of_an_image", "splitting", lambda x, lam: (lam * cp.norm(K @ x - 1),), lam=())
near("overlapping_groups", "splitting", lambda x, lam: (lam * cp.norm(x[:3]) + cp.norm(x[1:]),), lam=())
near("plane_variation", "splitting", lambda x, lam: (lam * cp.tv(cp.reshape(x, (2, 2), order="C")),), lam=())
near("ellipsoid", "splitting", lambda x, r: (0, cp.quad_form(x, np.diag([1.0, 2, 3, 4])) <= r), r=())
near("ball_of_two_entries", "closed_form", lambda x, r: (0, cp.norm(x[1:3]) <= r), r=())
entropic("entropy_and_coupled_square", "newton", lambda x, p: cp.sum_squares(K @ x - 1) - cp.sum(cp.entr(x)))
entropic("entropy_and_inequalities", "splitting", lambda x, p: -cp.sum(cp.entr(x)), lambda x: K @ x <= 0.5)


@case("splitting")
def socp():
    x, p, r = cp.Variable(N), cp.Parameter(N), cp.Parameter(nonneg=True)
    return cp.Problem(cp.Minimize(cp.norm(x - p) + cp.sum_squares(x)), [cp.norm(K @ x) <= r]), [p, r], [x]


@case("conic")
def sdp():
    x, c = cp.Variable((3, 3), symmetric=True), cp.Parameter((3, 3), symmetric=True)
    return cp.Problem(cp.Minimize(cp.trace(c @ x) + cp.sum_squares(x)), [x >> 0, cp.trace(x) == 1]), [c], [x]


@case("conic", positive=True)
def geometric_programme():
    x, y, z = (cp.Variable(pos=True) for _ in range(3))
    a, b, c = cp.Parameter(pos=True), cp.Parameter(pos=True), cp.Parameter()
    constraints = [a * (x * y + x * z + y * z) <= b, x >= y**c]
    return cp.Problem(cp.Minimize(1 / (x * y * z)), constraints), [a, b, c], [x, y, z]


@case("newton")
def logistic_regression():
    x, b, a, lam = cp.Variable(2), cp.Variable(), cp.Parameter((5, 2)), cp.Parameter(nonneg=True)
    likelihood = np.array([1, 0, 1, 1, 0]) @ (a @ x + b) - cp.sum(cp.logistic(a @ x + b))
    return cp.Problem(cp.Maximize(likelihood - lam * cp.sum_squares(x) - cp.square(b) / 9)), [a, lam], [x, b]


@case("splitting")
def sparse_logistic_regression():
    x, a, lam = cp.Variable(2), cp.Parameter((5, 2)), cp.Parameter(nonneg=True)
    objective = cp.sum(cp.logistic(a @ x)) + cp.sum_squares(x - 1) + lam * cp.norm1(x)
    return cp.Problem(cp.Minimize(objective)), [a, lam], [x]


@case("conic")
def norm_of_data():
    x, a, b = cp.Variable(2), cp.Parameter((5, 2)), cp.Parameter(5)
    return cp.Problem(cp.Minimize(cp.norm(a @ x - b) + cp.sum_squares(x))), [a, b], [x]


@case("conic", positive=True)
def two_variables_and_an_entropy():
    x, y, p, q = cp.Variable(3), cp.Variable(3), cp.Parameter(3), cp.Parameter(3)
    objective = -cp.sum(cp.entr(x)) - p @ x + cp.sum_squares(y - q)
    return cp.Problem(cp.Minimize(objective), [cp.sum(x) == 1, x + y >= 0.5]), [p, q], [x, y]


@case("splitting")
def entropic_transport():
    x, c = cp.Variable((2, 3)), cp.Parameter((2, 3))
    constraints = [cp.sum(x, axis=0) == 1 / 3, cp.sum(x, axis=1) == 1 / 2]
    return cp.Problem(cp.Minimize(cp.sum(cp.multiply(c, x)) - cp.sum(cp.entr(x))), constraints), [c], [x]
