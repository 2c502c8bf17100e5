"""The conic solver: loose agreement with the closed forms where cvxpy can express the pair, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from catalog import PAIRS

import bilevelnet as bln
from bilevelnet import legendre, regularizers
from bilevelnet.solvers import Conic
from bilevelnet.testing.points import event_of

# Clarabel's defaults give 1e-4 to 1e-5 in z; its implicit derivative is about a digit worse.
VALUE, GRADIENT = 2e-4, 5e-3


def both(phi: Any, g: Any) -> bool:
    """Whether the conic solver takes the pair too, told without building its problem."""
    import cvxpy as cp

    event = event_of(phi, g)
    if event.ndim > 1 or any(t.event_ndim == 1 and t.dims != (-1,) for t in g.terms()):
        return False
    z = cp.Variable(event.shape or (2,))
    try:
        phi.expression(z), g.expression(z)
    except bln.InputError:
        return False
    return True


def cases() -> list[Any]:
    """One pair for each φ and one for each g in the quick run."""
    seen: set[str] = set()
    found = []
    for spec, g_spec in PAIRS:
        if not (spec.first and g_spec.first):
            continue
        fresh = {spec.name, "g:" + g_spec.name} - seen
        light = len(fresh) == 2 and both(spec.build(), g_spec.build())
        seen |= fresh if light else set()
        marks = () if light else pytest.mark.heavy
        found.append(pytest.param(spec, g_spec, id=f"{spec.name}-{g_spec.name}", marks=marks))
    return found


@pytest.mark.parametrize(("spec", "g_spec"), cases())
def test_agrees_with_the_closed_form(spec: Any, g_spec: Any) -> None:
    phi, g = spec.build(), g_spec.build()
    if not both(phi, g):
        assert_refused(phi, g)
        return
    event = event_of(phi, g)
    base = torch.tensor([[-1.7, 0.35], [0.8, -0.2], [-0.45, 1.3]], dtype=torch.float64)
    v = base if not event.ndim else base.flatten().repeat(2)[: 2 * event.shape[0]].reshape(2, -1)
    exact = bln.solve_prox(phi, g, v, "closed_form", on_failure="ignore")
    good = exact.converged if event.ndim else exact.converged.all(-1)
    if not good.any():  # the range of ∇ψ is negative, say
        v = (v.abs() + 0.1) * (1.0 if spec.cls.key == "exponential" else -1.0)
        exact = bln.solve_prox(phi, g, v, "closed_form")
        good = exact.converged if event.ndim else exact.converged.all(-1)
    v = v[good]
    x, y = (v.clone().requires_grad_() for _ in range(2))
    want = bln.bregman_prox(phi, g, x, "closed_form")
    solution = bln.solve_prox(phi, g, y, "conic", on_failure="ignore")
    got, solved = solution.z, solution.converged
    solved = solved.reshape(solved.shape + (1,) * (v.ndim - solved.ndim)).broadcast_to(v.shape)
    assert solved.any()
    assert ((got - want).abs() <= VALUE * (1 + want.abs()))[solved].all(), (got - want).abs().max()
    weight = torch.linspace(-1, 1, v.numel(), dtype=torch.float64).reshape(v.shape)
    (left,), (right,) = (torch.autograd.grad((weight * z).sum(), t) for z, t in ((got, y), (want, x)))
    off_kinks = torch.stack([_slope(phi, g, v + s * 1e-2, weight) for s in (-1.0, 1.0)])
    calm = solved & ((off_kinks - right).abs().amax(0) < 0.05 * (1 + right.abs()))
    calm &= want.abs() > 0.1  # near a join of φ its cone program, which splits z in two, is nearly degenerate
    assert ((left - right).abs() <= GRADIENT * (1 + right.abs()))[calm].all(), (left - right)[calm].abs().max()


def _slope(phi: Any, g: Any, v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    v = v.clone().requires_grad_()
    return torch.autograd.grad((weight * bln.bregman_prox(phi, g, v, "closed_form", "nan")).sum(), v)[0]


def assert_refused(phi: Any, g: Any) -> None:
    with pytest.raises(bln.InputError):
        bln.solvers.bind(phi, g, "conic")


def test_float32_and_batches() -> None:
    phi, g = legendre.FermiDirac(), regularizers.L1(0.3)
    v = torch.randn(2, 1, 3, 2, generator=torch.Generator().manual_seed(0))
    z = bln.bregman_prox(phi, g, v, "conic")
    assert z.dtype is torch.float32
    torch.testing.assert_close(z, bln.bregman_prox(phi, g, v), rtol=1e-3, atol=VALUE)
    assert bln.bregman_prox(phi, g, v[:0], "conic").shape == (0, 1, 3, 2)


def test_gradient_of_a_weight() -> None:
    v = torch.tensor([[1.5, -0.8]], dtype=torch.float64)
    grads = []
    for solver in ("conic", "closed_form"):
        lam = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        z = bln.bregman_prox(legendre.Energy(), regularizers.L1(lam), v, solver)
        (z * torch.tensor([1.0, 2.0])).sum().backward()
        grads.append(lam.grad.item())
    assert grads[0] == pytest.approx(grads[1], abs=GRADIENT)


def test_the_judge_refuses_what_is_not_accepted() -> None:
    """With a stricter rule than Clarabel reaches the status says so: no answer is trusted blindly."""
    sol = bln.solve_prox(
        legendre.BoltzmannShannon(),
        regularizers.L1(0.1),
        torch.tensor([[0.3, -0.4]], dtype=torch.float64),
        Conic(accept=1e-14),
        on_failure="ignore",
    )
    assert not bool(sol.converged.all())


def test_one_nan_does_not_spoil_the_batch() -> None:
    phi, g = legendre.Energy(), regularizers.Simplex()
    v = torch.tensor([[0.3, -0.4], [torch.nan, 0.0], [1.0, 0.5]], dtype=torch.float64)
    z = bln.bregman_prox(phi, g, v, "conic", on_failure="nan")
    assert z.isnan().any(-1).tolist() == [False, True, False]
    torch.testing.assert_close(z[[0, 2]], bln.bregman_prox(phi, g, v[[0, 2]]), rtol=0, atol=VALUE)


def test_a_matrix_fixes_the_width() -> None:
    """Q of 3 × 3: 0 ∈ Qz + λ∂|z| − v is solved in closed form on the signs that the answer has."""
    Q = torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]], dtype=torch.float64)
    v = torch.tensor([2.0, 1.0, -1.5], dtype=torch.float64)
    phi = legendre.Mahalanobis(Q)
    z = bln.bregman_prox(phi, regularizers.L1(0.1), v)
    want = torch.linalg.solve(Q, v - 0.1 * z.sign())
    torch.testing.assert_close(z, want, rtol=0, atol=VALUE)
    with pytest.raises(bln.InputError, match="mahalanobis takes vectors of width 3, nuclear_2x2 of width 4"):
        bln.bregman_prox(phi, regularizers.Nuclear2x2(0.1), v)


def test_infeasible_and_unbounded_told_apart_sample_by_sample() -> None:
    """A back end that answers for the batch as a whole, or with numbers for what has no solution, is not believed."""
    v = torch.tensor([[0.3, -0.4, 1.0], [torch.nan, 0.0, 1.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    ball = regularizers.L2Ball(1.0)
    found = bln.solve_prox(
        legendre.Energy(), ball + regularizers.AffineSet((1.0,) * 3, b=5.0), v, "conic", on_failure="nan"
    )
    assert found.status.tolist() == [bln.Status.infeasible, bln.Status.invalid, bln.Status.infeasible]
    assert found.z.isnan().all()
    found = bln.solve_prox(
        legendre.Burg(), regularizers.TV1d(1.0), torch.tensor([[-1.0, 2.0], [-1.0, -3.0]]), "conic", "nan"
    )
    assert found.status.tolist() == [bln.Status.unbounded, bln.Status.converged]
    assert found.z.dtype is torch.float32


def test_one_entry_without_a_solution_spoils_no_row() -> None:
    v = torch.tensor([[[-1.0, 2.0]], [[-1.0, -3.0]]], dtype=torch.float64)
    found = bln.solve_prox(legendre.Burg(), regularizers.Zero(), v, "conic", on_failure="nan")
    assert found.status.tolist() == [[[bln.Status.converged, bln.Status.unbounded]], [[bln.Status.converged] * 2]]
    assert found.z[0, 0, 0] == pytest.approx(1.0, abs=VALUE)
    assert bln.solve_prox(legendre.Energy(), regularizers.L1(0.3), torch.tensor(0.7), "conic").z == pytest.approx(
        0.4, abs=VALUE
    )


def test_weights_of_equations_and_of_images() -> None:
    """A vector of weights has the length of what it weighs, not of z."""
    g = torch.Generator().manual_seed(4)
    k, rows, v = (torch.randn(n, 4, dtype=torch.float64, generator=g) for n in (6, 2, 3))
    levels, weights = (torch.rand(n, dtype=torch.float64, generator=g) for n in (2, 6))
    for term in (regularizers.AffineSet(rows, levels), regularizers.L1(weights).precompose(k)):
        found = bln.solve_prox(legendre.Energy(), term, v, "conic")
        assert torch.allclose(found.z, bln.bregman_prox(legendre.Energy(), term, v), atol=1e-4)


def test_a_flat_function_is_judged_by_a_step_that_ends() -> None:
    """z = 0 for such a small v, where φ'' = 0."""
    k = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    v = torch.full((2, 4), 0.1, dtype=torch.float64)
    found = bln.solve_prox(legendre.Power(4.0), regularizers.L1(0.3).precompose(k), v)
    assert found.solver == "conic"
    assert found.converged.all()
    assert found.z.abs().max() <= 1e-4


@pytest.mark.parametrize("transform", [torch.func.vmap, lambda f: torch.func.grad(lambda v: f(v).sum())])
def test_transforms_are_refused_by_name(transform: Any) -> None:
    layer = bln.BilevelLayer(
        bln.couplings.Affine(torch.nn.Identity()),
        bln.divergences.SquaredEuclidean(),
        bln.regularizers.L1(0.1) + bln.regularizers.L2Ball(1.0),
        solver="conic",
    )
    with pytest.raises(bln.InputError, match=r"no vmap, jvp or torch\.func"):
        transform(layer)(torch.ones(2, 3, dtype=torch.float64))


def test_an_ill_conditioned_minimiser_is_found_or_told() -> None:
    """One proximal step may be short beside the way that is left."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    v = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    for condition in (1e1, 1e5, 1e8, 1e11):
        q = turn @ torch.logspace(0, -1, 4, base=condition, dtype=torch.float64).diag() @ turn.mT
        phi, g = legendre.Mahalanobis((q + q.mT) / 2), regularizers.Nonneg()
        found, exact = (bln.solve_prox(phi, g, v, s, on_failure="ignore") for s in ("conic", "quadratic"))
        off = (found.z - exact.z).abs().amax(-1) / (1 + exact.z.abs().amax(-1))
        assert bool((off[found.converged] <= 1e-4).all())  # its accept
        assert bool(found.converged.all()) or condition > 1e1
