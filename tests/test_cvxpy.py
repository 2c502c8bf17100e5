"""Problems of cvxpy as layers: values and gradients against cvxpylayers and differences, calls, failures."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from cvxpy_problems import CASES
from cvxpylayers.torch import CvxpyLayer
from torch import Tensor

import bilevelnet as bln
from bilevelnet.interop import cvxpy_equations

F64 = torch.float64
TIGHT = {"solve_method": "Clarabel", "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
SCS = {"solve_method": "SCS", "eps_abs": 1e-10, "eps_rel": 1e-10}
# What Clarabel at 1e-11 and SCS at 1e-10 reach in x, the root of it, and diffcp in its adjoint.
PEER = 1e-5
# Our solvers stop at rounding; central differences of step 1e-5 leave 1e-10 times a third derivative.
EXACT, DIFFERENCES = 1e-12, 1e-7


def points(name: str, count: int = 3) -> list[Tensor]:
    """One batch of tensors a parameter."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    _, parameters, _ = CASES[name].build()
    return [torch.stack([CASES[name].draw(generator, p) for _ in range(count)]).requires_grad_() for p in parameters]


def pulled(values: tuple[Tensor, ...], tensors: list[Tensor]) -> list[Tensor]:
    """The gradient of a fixed combination of the values."""
    generator = torch.Generator().manual_seed(1)
    total = sum((z * torch.randn(z.shape, generator=generator, dtype=z.dtype)).sum() for z in values)
    return list(torch.autograd.grad(total, tensors))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_cvxpylayers_and_differences(name: str) -> None:
    problem, parameters, variables = CASES[name].build()
    layer = bln.from_cvxpy(problem, parameters, variables)
    assert layer.route.name == CASES[name].solver, layer.explain()
    semidefinite = any(isinstance(c, cp.constraints.PSD) for c in problem.constraints)
    args = SCS if semidefinite else TIGHT
    other = CvxpyLayer(problem, parameters, variables, gp=not problem.is_dcp(), solver_args=args)
    tensors = points(name)
    ours, theirs = layer(*tensors), other(*tensors)
    for z, w in zip(ours, theirs, strict=True):
        torch.testing.assert_close(z, w, atol=PEER, rtol=PEER)
    for g, h in zip(pulled(ours, tensors), pulled(theirs, tensors), strict=True):
        torch.testing.assert_close(g, h, atol=PEER, rtol=PEER)
    residual = layer.solve(*tensors).residual
    assert float(residual.max()) <= EXACT
    exact = {"eps": 1e-5, "atol": DIFFERENCES, "rtol": DIFFERENCES}

    def symmetric(*moved: Tensor) -> tuple[Tensor, ...]:  # where the parameter was declared so
        pairs = zip(parameters, moved, strict=True)
        return layer(*((t + t.mT) / 2 if p.attributes["symmetric"] else t for p, t in pairs))

    assert torch.autograd.gradcheck(symmetric, tensors, fast_mode=True, **exact)


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.solver != "conic"])
def test_float32_vmap_and_second_derivatives(name: str) -> None:
    layer = bln.from_cvxpy(*CASES[name].build(), confirm=False)
    tensors = [t.detach() for t in points(name)]
    z = layer(*tensors)
    for a, b in zip(z, layer(*(t.float() for t in tensors)), strict=True):
        assert b.dtype is torch.float32
        torch.testing.assert_close(b.double(), a, atol=1e-5, rtol=1e-5)  # rounding of data of size 3 and little more
    layer.on_failure = "nan"
    for a, b in zip(z, torch.func.vmap(layer)(*tensors), strict=True):
        torch.testing.assert_close(b, a, atol=1e-12, rtol=1e-12)
    one = [t[0].requires_grad_() for t in tensors]
    # differences of step 1e-5 of a first derivative, which is exact to 1e-12 or so
    assert torch.autograd.gradgradcheck(layer, one, eps=1e-5, atol=1e-5, rtol=1e-5, fast_mode=True)


def test_quadratic_form_of_a_parameter() -> None:
    x, q, root, c = cp.Variable(3), cp.Parameter((3, 3), PSD=True), cp.Parameter((3, 3)), cp.Parameter(3)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.quad_form(x, q) + c @ x), [x >= -1]), [q, c], [x])
    assert layer.route.name == "quadratic"
    other = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(root @ x) + c @ x), [x >= -1]), [root, c], [x])
    generator = torch.Generator().manual_seed(0)
    r, slope = (torch.randn(4, *shape, dtype=F64, generator=generator).requires_grad_() for shape in ((3, 3), (3,)))
    ours, theirs = layer(r.mT @ r, slope), other(r, slope)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)  # squared, the condition number takes digits
    for g, h in zip(pulled(ours, [r, slope]), pulled(theirs, [r, slope]), strict=True):
        torch.testing.assert_close(g, h, atol=1e-8, rtol=1e-8)
    flat = torch.tensor([1.0, 1, 1]).outer(torch.tensor([1.0, 1, 1]))  # rounded, not positive semidefinite
    with pytest.raises(bln.SolveError, match=r"known to .* only: of several minimisers"):
        layer(flat + 1e-8 * torch.tensor([0.0, 1, 0]).diag() - 1e-8, -flat[0])


@pytest.mark.parametrize(("low", "solver"), [(0.1, "multiplier"), (0.0, "closed_form"), (-1.0, "closed_form")])
def test_a_bound_inside_the_domain_of_the_entropy_is_kept(low: float, solver: str) -> None:
    x, p = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Maximize(p @ x + cp.sum(cp.entr(x))), [cp.sum(x) == 1, x >= low])
    layer = bln.from_cvxpy(problem, [p], [x], confirm=False)
    assert layer.route.name == solver
    v = torch.tensor([2.0, 0.0, -3.0], dtype=F64)
    z = layer(v)[0]
    expected = torch.cat([0.9 * v[:2].softmax(-1), v.new_tensor([0.1])]) if low > 0 else v.softmax(-1)
    torch.testing.assert_close(z, expected, atol=1e-15, rtol=0)  # a few roundings of numbers below 1


def ball_problem() -> tuple[cp.Problem, list[Any], list[Any]]:
    x, low = cp.Variable(2, name="x"), cp.Parameter(2, name="low")
    return cp.Problem(cp.Minimize(cp.sum_squares(x - 2)), [x >= low, cp.norm(x) <= 1.1, x <= 1]), [low], [x]


def test_failed_elements_alone_are_lost() -> None:
    low = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.2, 0.1], [torch.nan, 0.0]], dtype=F64)
    layer = bln.from_cvxpy(*ball_problem(), on_failure="nan")
    solution = layer.solve(low)
    status = bln.Status
    assert solution.status.tolist() == [status.converged, status.infeasible, status.converged, status.invalid]
    assert layer(low)[0].isnan().any(-1).tolist() == [False, True, False, True]
    with pytest.warns(RuntimeWarning, match="2 of 4 elements"):
        bln.from_cvxpy(*ball_problem(), on_failure="warn")(low)


def test_duals_of_equations_that_are_solved_beforehand() -> None:
    problem, (start,), (x, u) = CASES["lqr"].build()
    duals = [c.dual_variables[0] for c in problem.constraints]
    layer = bln.from_cvxpy(problem, [start], [x, u, *duals])
    assert "solved beforehand" in layer.explain()
    start.value = np.array([1.0, -2.0])
    found = layer(torch.from_numpy(start.value))
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    for z, leaf in zip(found, [x, u, *duals], strict=True):
        torch.testing.assert_close(z, torch.as_tensor(leaf.value), atol=PEER, rtol=PEER)


def test_badly_conditioned_least_squares() -> None:
    x, a, b = cp.Variable(3), cp.Parameter((5, 3)), cp.Parameter(5)
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b))), [a, b], [x], on_failure="ignore")
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 3, dtype=F64, generator=generator))[0] for n in (5, 3))
    for condition in (1e2, 1e4, 1e6, 1e8):
        matrix = left * torch.tensor([1, condition**-0.5, 1 / condition], dtype=F64) @ right.mT
        (z,) = layer(matrix, matrix.sum(-1))
        # what the condition makes of the rounding of b, and not its square
        torch.testing.assert_close(z, torch.ones(3, dtype=F64), atol=1e-15 * condition + 1e-14, rtol=0)
    flat = matrix.clone()
    flat[:, 2] = flat[:, 1]  # several minimisers
    both, b = torch.stack([matrix, flat]).requires_grad_(), torch.ones(5, dtype=F64)
    (z,) = layer(both, b)
    assert bool(z[0].isfinite().all())
    assert int(layer.solve(flat, b).status) in (bln.Status.converged, bln.Status.max_iter)
    assert bool(torch.autograd.grad(z[0].sum(), both)[0].isfinite().all())


@pytest.mark.parametrize("extra", ["nothing", "plane", "equations"])
def test_least_squares_by_the_smaller_system(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, (a, b), c = cp.Variable(3), (cp.Parameter((5, 3)), cp.Parameter(5)), cp.Parameter((2, 3))
    beside = {"nothing": [], "plane": [cp.sum(x) == 1], "equations": [c @ x == 1]}[extra]
    parameters = [a, b, c][: 3 if extra == "equations" else 2]
    layer = bln.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b)), beside), parameters, [x])
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(4, *p.shape, dtype=F64, generator=generator) for p in parameters]
    tensors[0][..., 2] = tensors[0][..., 1] + 1e-3 * tensors[0][..., 2]  # a condition of 1e3 to 1e4
    tensors = [t.requires_grad_() for t in tensors]
    with monkeypatch.context() as patch:
        patch.setattr(cvxpy_equations, "whole", None)
        ours = layer(*tensors)
        mine = pulled(ours, tensors)
    with monkeypatch.context() as patch:
        patch.setattr(cvxpy_equations, "HALF", 1.0)
        theirs = layer(*tensors)
        other = pulled(theirs, tensors)
    # the condition number times the rounding; of the derivative, its square
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(mine, other, atol=1e-8, rtol=1e-8)
    one = [torch.randn(t.shape[1:], dtype=F64, generator=generator).requires_grad_() for t in tensors]
    assert torch.autograd.gradgradcheck(layer, one, fast_mode=True)


@pytest.mark.parametrize(
    ("low", "words"), [([2.0, 0.0], r"infeasible: .*low <= x"), ([torch.nan, 0.0], "parameter low .* not finite")]
)
def test_failures_name_what_fails(low: list[float], words: str) -> None:
    with pytest.raises(bln.SolveError, match=words):
        bln.from_cvxpy(*ball_problem())(torch.tensor(low, dtype=F64))


def test_call() -> None:
    x, y = cp.Variable((2, 3), name="x"), cp.Variable(name="y")
    p, lam = cp.Parameter((2, 3), name="p"), cp.Parameter(nonneg=True, name="lam")
    constraints = [cp.sum(x) == 1, cp.norm(x[0]) <= 1]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + lam * cp.square(y - 1)), constraints)
    layer = bln.from_cvxpy(problem, [p, lam], [x, y, constraints[0].dual_variables[0]])
    a, b = torch.randn(5, 1, 2, 3, dtype=F64), torch.rand(4, dtype=F64) + 0.1
    z, w, dual = layer(a, b)
    assert (z.shape, w.shape, dual.shape) == ((5, 4, 2, 3), (5, 4), (5, 4))
    assert layer(a[0, 0], b[0])[0].shape == (2, 3)
    assert layer(a[:0], b)[0].shape == (0, 4, 2, 3)
    assert layer(a.float(), b.float())[0].dtype is torch.float32
    assert layer(a.bfloat16(), b.bfloat16())[1].dtype is torch.bfloat16
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(a, b)[0], z)
    p.value, lam.value = a[0, 0].numpy(), b[0].numpy()
    problem.solve(solver=cp.CLARABEL)
    # Clarabel's own tolerance is 1e-8 on the gap, half of the digits in z
    assert abs(float(dual[0, 0]) - float(constraints[0].dual_value)) < 1e-4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(p[0] * p[1] * u))), [p], [u]), r"p\[0\] \* p\[1\]"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum(cp.sqrt(u) + p))), [p], [u]), r"Power.*in minimize"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(u - p))), [], [u]), "missing p"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(u - p))), [p, p], [u]), "twice"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(u))), [p], [u]), "not in it p"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(u - p))), [p], [cp.Variable(name="w")]), "w is neither"),
        (lambda p, u: (cp.Problem(cp.Minimize(cp.sum_squares(u - p))), [p], []), "none is given"),
        (lambda p, u: ("x", [p], [u]), "takes a cvxpy.Problem"),
    ],
)
def test_what_cannot_be_imported_is_refused(change: Any, words: str) -> None:
    with pytest.raises(bln.InputError, match=words):
        bln.from_cvxpy(*change(cp.Parameter(2, name="p"), cp.Variable(2, name="u")))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ((), "takes 1 tensors"),
        ((torch.zeros(3),), r"parameter low has shape \(2,\)"),
        ((torch.zeros(2, dtype=torch.int64),), "dtype torch.int64"),
        (([0.0, 0.0],), "give a torch tensor"),
    ],
)
def test_wrong_tensors_are_refused(tensors: Any, words: str) -> None:
    with pytest.raises(bln.InputError, match=words):
        bln.from_cvxpy(*ball_problem())(*tensors)
