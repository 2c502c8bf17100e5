"""Weights of φ that are parameters, one number or one an entry, beside every set and norm: against the cone program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import pytest
import torch
from test_cvxpy_certificate import conic

import bilevelnet as bln

F64 = torch.float64
STATUS = bln.Status
BASES: dict[str, Callable[[Any, Any], Any]] = {
    "square": lambda u, w: cp.sum(cp.multiply(w, cp.square(u))),
    "entropy": lambda u, w: -cp.sum(cp.multiply(w, cp.entr(u))),
}
SETS: dict[str, Callable[[Any], list[Any]]] = {
    "ball": lambda u: [cp.norm(u) <= 0.5],
    "l1 ball": lambda u: [cp.norm1(u) <= 0.5],
    "simplex": lambda u: [u >= 0, cp.sum(u) == 1],
    "capped simplex": lambda u: [u >= 0, u <= 0.5, cp.sum(u) == 1],
    "equation": lambda u: [u[0] + 2 * u[1] - u[2] == 0.3],
    "equations": lambda u: [u[0] + 2 * u[1] - u[2] == 0.3, cp.sum(u) == 1],
    "box": lambda u: [u <= 0.2],
    "nothing": lambda u: [],
}
NORMS: dict[str, Callable[[Any], Any]] = {
    "norm": cp.norm,
    "norm_inf": cp.norm_inf,
    "tv": cp.tv,
    "l1": cp.norm1,
    "a group": lambda u: cp.norm(u[:2]),
    "a shifted norm": lambda u: cp.norm(u - 1),
    "nothing": lambda u: 0,
}
EVERY = [(b, s, n, d) for b in BASES for s in SETS for n in NORMS for d in (0, 1)]


def parts(case: tuple[str, str, str, int]) -> Any:
    base, held, norm, dims = case
    u, w, c = cp.Variable(3), cp.Parameter((3,) * dims, nonneg=True, name="w"), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(BASES[base](u, w) - c @ u + NORMS[norm](u)), SETS[held](u))
    return problem, [w, c], [u]


@pytest.mark.parametrize(
    "case", [c if k % 11 == 0 else pytest.param(c, marks=pytest.mark.heavy) for k, c in enumerate(EVERY)], ids=str
)
def test_weights_of_the_batch(case: tuple[str, str, str, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(4, 3, dtype=F64, generator=generator)
    w = torch.rand(4, *(3,) * case[-1], dtype=F64, generator=generator) + 0.3
    layer = bln.from_cvxpy(*parts(case), confirm=False)
    ours, theirs = layer.solve(w, c), conic(bln.from_cvxpy(*parts(case), confirm=False)).solve(w, c)
    torch.testing.assert_close(ours.values, theirs.values, atol=1e-9, rtol=0)  # error bounds of some 1e-10


def test_a_weight_of_zero_goes_to_the_program() -> None:
    u, w, c = cp.Variable(2), cp.Parameter(nonneg=True, name="w"), cp.Parameter(2, name="c")
    problem = cp.Problem(cp.Minimize(w * cp.sum_squares(u) + cp.norm1(u) - c @ u), [u <= 2])
    layer = bln.from_cvxpy(problem, [w, c], [u], on_failure="ignore")
    assert "by cvxpy's program where a weight of φ is 0" in layer.explain()
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0], dtype=F64, requires_grad=True)
    slopes = [[1.5, 0], [0.5, 3], [-2.0, 0], [torch.nan, 0], [torch.nan, 0]]
    c_t = torch.tensor(slopes, dtype=F64, requires_grad=True)
    solution = layer.solve(weights, c_t)
    assert solution.status.tolist() == [0, 0, STATUS.unbounded, STATUS.invalid, STATUS.invalid]
    want = torch.tensor([[0.25, 0], [0, 2]], dtype=F64)
    torch.testing.assert_close(solution.values[0][:2].detach(), want, atol=1e-14, rtol=0)  # rounding of numbers near 1
    solution.values[0][:2].sum().backward()
    torch.testing.assert_close(c_t.grad[:2], torch.tensor([[0.5, 0], [0, 0]], dtype=F64))
    torch.testing.assert_close(weights.grad, torch.tensor([-0.25, 0, 0, 0, 0], dtype=F64), atol=1e-15, rtol=0)
    layer.on_failure = "nan"
    (z,) = torch.func.vmap(layer)(weights.detach(), c_t.detach())  # where nothing can be read it has no route
    assert z.isnan().any(-1).tolist() == [False, True, True, True, True]


def test_a_weight_of_zero_by_the_cone_program() -> None:
    u, w, c = cp.Variable(2), cp.Parameter(nonneg=True), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(-w * cp.sum(cp.entr(u)) + cp.norm(u) - c @ u), [cp.sum(u) == 1])
    layer = bln.from_cvxpy(problem, [w, c], [u])
    assert layer.route.name != "conic"
    weights, slopes = torch.tensor([0.5, 0.0], dtype=F64), torch.tensor([0.1, 0.3], dtype=F64)
    solution = layer.solve(weights, slopes)
    other = conic(bln.from_cvxpy(problem, [w, c], [u])).solve(weights, slopes)
    torch.testing.assert_close(solution.values, other.values, atol=1e-9, rtol=0)  # its bound
    assert solution.error_bound is not None
    assert solution.error_bound.isnan().tolist() == [True, False]
